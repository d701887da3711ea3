"""What a name is opened as, and what is no source."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from messages import says
from nctransfer.errors import DataError
from nctransfer.sources.opening import open_source
from nctransfer.sources.source import source_id
from nctransfer.sources.source_kind import ReadingOptions
from pictures import png


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
    says(error, repr(f"{tmp_path}/{name}"), hint=["tar", "zip", ".csv", "Parquet", "hfds/…", "'digits'"])
    assert all(word in error.value.hint for word in ("tar", "zip", ".csv", "Parquet", "hfds/…", "'digits'"))


def test_an_empty_name() -> None:
    with pytest.raises(DataError) as error:
        open_source("")
    assert error.value.message


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
    says(error, tmp_path, 1)
