"""What a name is opened as, what is no source, and kinds of sources that other packages add."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import Run
from messages import says
from nctransfer.errors import DataError, PluginError
from nctransfer.registry import Registry
from nctransfer.sources import opening, registry
from nctransfer.sources.opening import open_source
from nctransfer.sources.registry import OWN, SOURCES, describe_sources, sources_table
from nctransfer.sources.source import source_id
from nctransfer.sources.source_kind import ReadingOptions, SourceKind
from other_package import install
from pictures import contents, labelled, png

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """One of every kind, all with one image of a cat."""
    image = tmp_path / "folder" / "cat" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(png())
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.add(image, "cat/1.png")
    with tarfile.open(tmp_path / "tgz", "w:gz") as tar:
        tar.add(image, "cat/1.png")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.write(image, "cat/1.png")
    (tmp_path / "list.csv").write_text("path,label\nfolder/cat/1.png,cat\n")
    parquet.write_table(pa.table({"image": [png()], "label": ["cat"]}), tmp_path / "x.parquet")
    return tmp_path


KINDS = {
    "folder": "folder of class folders",
    "tar": "tar archive",
    "tgz": "compressed tar archive",
    "zip": "zip archive",
    "list.csv": "manifest",
    "x.parquet": "Parquet files",
    "*.parquet": "Parquet files",
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
@pytest.mark.parametrize("form", [str, Path])
def test_a_path_is_opened_as_what_it_is(things: Path, name: str, kind: str, form: type) -> None:
    source = open_source(form(things / name))
    (entry,) = source.list()
    assert (source.kind, source.name, entry.label) == (kind, str(things / name), "cat")
    assert source.read(entry) == png()


def test_the_same_thing_has_one_id_by_every_path(things: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(things / "folder")
    (things / "link").symlink_to(things / "tar")
    ids = {name: open_source(things / name).id for name in KINDS}
    assert len(set(ids.values())) == len(ids)
    assert {open_source(path).id for path in ("../tar", "../link", f"{things}/folder/../tar")} == {ids["tar"]}
    assert ids["folder"] == source_id(".")


def test_ids_of_folders_stay_what_they_were() -> None:
    """Stored sets are found by them."""
    assert source_id("/no/such/pets") == "pets-b44fc4ea"
    assert source_id("/") == "root-7073e446"


@pytest.mark.parametrize("name", ["broken.zip", "broken.tar", "broken.tar.gz", "broken.TGZ"])
def test_an_archive_by_its_name_only(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8bno archive")
    with pytest.raises(DataError) as error:
        open_source(tmp_path / name)
    says(error, name)


@pytest.mark.parametrize("name", ["notes.txt", "1.png", "x.json", "absent", "absent/", "cifar10", "no/cifar10", "x\0y"])
def test_anything_else_is_an_error_that_lists_what_is_understood(tmp_path: Path, name: str) -> None:
    for file in ("notes.txt", "1.png", "x.json"):
        (tmp_path / file).write_bytes(png())
    with pytest.raises(DataError) as error:
        open_source(f"{tmp_path}/{name}")
    says(error, repr(f"{tmp_path}/{name}"), hint=[kind.examples[0] for kind in SOURCES.values()])


def test_an_empty_name() -> None:
    with pytest.raises(DataError) as error:
        open_source("")
    says(error, "empty")


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("digits", {"label_column": "x"}),
        ("folder", {"label_column": "x"}),
        ("folder", {"class_names": ("a",)}),
        ("tar", {"image_column": "x"}),
        ("zip", {"data_dir": Path()}),
        ("x.parquet", {"image_root": Path()}),
        ("list.csv", {"data_dir": Path()}),
    ],
)
def test_an_option_of_no_use_is_an_error(things: Path, name: str, option: dict[str, object]) -> None:
    (flag,) = (f"--{key.replace('_', '-')}" for key in option)
    with pytest.raises(DataError) as error:
        open_source(name if name == "digits" else things / name, ReadingOptions(**option))
    says(error, flag)
    assert open_source(things / name if name != "digits" else name, ReadingOptions(split="x", offline=True))


def test_a_folder_named_like_a_data_set_is_a_folder(things: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(things)
    (things / "torch").mkdir()
    (things / "folder").rename(things / "torch" / "pets")
    assert open_source("torch/pets").kind == "folder of class folders"
    with pytest.raises(DataError) as error:
        open_source("torch/cifar10").list()
    says(error, "'torch/cifar10'")


def test_a_folder_without_images_or_parquet_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "x.txt").write_bytes(b"x")
    with pytest.raises(DataError) as error:
        open_source(tmp_path).list()
    says(error, tmp_path, 1, hint="pets/cat/1.jpg")


# The registry


def test_every_kind_says_what_help_texts_need() -> None:
    fields = set(ReadingOptions.__dataclass_fields__)
    for name, kind in SOURCES.items():
        assert kind.name == name
        assert kind.examples
        assert kind.summary
        assert set(kind.takes) <= fields
        assert f"{kind.examples[0]} ({kind.summary})" in describe_sources()


def test_the_readme_has_the_table_of_the_registry() -> None:
    assert sources_table() in README.read_text("utf-8")


# Kinds of other packages

SQUARES = """
from nctransfer.sources.source import ImageEntry, ImageSource
from nctransfer.sources.source_kind import SourceKind

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}


class Squares(ImageSource):
    kind = "coloured squares"

    def __init__(self, name, names):
        self.name, self.id = name, name.replace(":", "-")
        self.names = names or ("red", "blue")

    def list(self):
        count = int(self.name.removeprefix("squares:"))
        return [ImageEntry(f"{name}-{i}", name, "", 0, 0) for name in self.names for i in range(count)]

    def contents(self, entries):
        for entry in entries:
            yield lambda colour=COLOURS[entry.label]: b"P6 1 1 255 " + bytes(colour)


SQUARES = SourceKind(
    name="squares",
    recognises=lambda name: name.startswith("squares:"),
    open=lambda name, options: Squares(name, options.class_names),
    takes=("class_names",),
    examples=("squares:3",),
    summary="squares of one colour",
)
"""


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Registry[SourceKind]:
    """The registry as it is when the program starts: other packages have not been looked for."""
    fresh = Registry("nctransfer.sources", SourceKind, OWN)
    monkeypatch.setattr(opening, "SOURCES", fresh)
    monkeypatch.setattr(registry, "SOURCES", fresh)
    for name in ("squares_package", "broken_package"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return fresh


def test_a_kind_of_another_package_is_opened_like_our_own(
    kinds: Registry[SourceKind], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "site", "squares_package", SQUARES, sources="squares=SQUARES"))
    source = open_source("squares:2")
    assert labelled(source) == [(f"{name}-{i}", name, "") for name in ("red", "blue") for i in (0, 1)]
    assert contents(source)[3] == b"P6 1 1 255 \x00\x00\xff"
    assert len(open_source("squares:2", ReadingOptions(class_names=("blue",), split="x")).list()) == 2
    with pytest.raises(DataError) as error:
        open_source("squares:2", ReadingOptions(label_column="x"))
    says(error, "--label-column", "squares:2", hint="--label-column")
    assert list(kinds)[-1] == "squares"


def test_a_package_is_imported_only_when_no_kind_of_ours_reads_the_data(
    kinds: Registry[SourceKind], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "raise RuntimeError('no such thing')"
    monkeypatch.syspath_prepend(install(tmp_path / "site", "broken_package", code, sources="squares=SQUARES"))
    assert open_source("digits").kind == "built-in digits"
    assert "'squares'" in describe_sources()
    assert "broken_package" not in sys.modules
    with pytest.raises(PluginError) as error:
        open_source("squares:2")
    says(error, "'squares'", "broken_package", "no such thing", hint="broken_package")


def test_a_kind_with_a_name_of_ours_is_an_error_only_where_it_is_looked_for(
    kinds: Registry[SourceKind], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "site", "squares_package", SQUARES, sources="folder=SQUARES"))
    assert open_source("digits").kind == "built-in digits"
    assert describe_sources().startswith("digits (")
    with pytest.raises(PluginError) as error:
        open_source("squares:2")
    says(error, "'folder'", "squares_package", hint="squares_package")


def test_the_command_line_takes_a_kind_of_another_package(tmp_path: Path, run: Run) -> None:
    site = install(tmp_path / "site", "squares_package", SQUARES, sources="squares=SQUARES")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    result = run("data", "squares:2", "--format", "json", PYTHONPATH=path)
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert (shown["kind"], shown["images"], shown["classes"]) == ("coloured squares", 4, 2)
