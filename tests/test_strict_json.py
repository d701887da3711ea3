"""JSON that somebody else may have written, where the cache and models are read from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nctransfer.errors import StoreError
from nctransfer.strict_json import parse_json
from terminal import VIT, data_of, done

ODD: dict[str, str] = {
    "a list": "[]",
    "a number too large": '{"id": 1e400}',
    "a very long number": '{"id": ' + "9" * 5000 + "}",
    "nested too deeply": '{"a":' * 5000 + "1" + "}" * 5000,
    "NaN": '{"id": NaN}',
    "a name twice": '{"id": 1, "id": 2}',
    "half a character": '{"id": "\\ud800", "selection": {}}',
    "an id that is no path": json.dumps({"id": "x" * 5000, "selection": {}}),
    "a null character": json.dumps({"id": "a\0b", "selection": {}}),
    "numbers for text": '{"id": 5, "selection": 5, "key": 5, "kind": 5, "file": "x", "columns": "abc"}',
    "nothing": "",
}


@pytest.mark.parametrize(
    "name", ["a number too large", "a very long number", "nested too deeply", "NaN", "a name twice"]
)
def test_what_is_beyond_json_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(ODD[name])
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(ODD[name].encode())
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(b'{"\xff": 1}')


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache whose last set is of 18 images."""
    from conftest import write_digits

    root = tmp_path_factory.mktemp("kept")
    data = write_digits(root / "pets", {"zero": 0, "one": 1, "two": 2}, 6)
    done("extract", *VIT, "--data", data, "--cache-dir", root / "cache")
    return root


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
@pytest.mark.parametrize("which", ["last.json", "keys"])
def test_damaged_json_of_the_cache_is_never_believed(which: str, text: str, kept: Path, cache: Path) -> None:
    shutil.copytree(kept / "cache", cache)
    path = next((cache / "keys").glob("*.json")) if which == "keys" else cache / which
    path.write_text(text)
    if which == "keys":
        assert data_of("collapse", *VIT, "--data", kept / "pets")["features"]["samples"] == 18
        assert json.loads(path.read_text()) != text
        return
    from nctransfer.store.cache_folder import FeatureStore

    with pytest.raises(StoreError, match=r"last\.json"):  # no other set is taken in its place
        FeatureStore(cache).last_used()
    assert data_of("collapse", "test_vit")["features"]["samples"] == 18


def test_a_cache_that_cannot_be_written_and_holds_everything(
    kept: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nctransfer.errors import StoreError
    from nctransfer.store import atomic_files

    shutil.copytree(kept / "cache", cache)
    for path in (cache / "keys").iterdir():
        path.unlink()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    for module in ("atomic_files", "kept_results", "listings"):
        imported = __import__(f"nctransfer.store.{module}", fromlist=["replace_file"])
        if hasattr(imported, "replace_file"):
            monkeypatch.setattr(imported, "replace_file", full)
    assert data_of("collapse", *VIT, "--data", kept / "pets")["features"]["samples"] == 18
    with pytest.raises(StoreError), atomic_files.writing_errors(cache):
        full()
