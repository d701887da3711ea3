"""Files of predictions, and the journal that a killed run goes on from."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pyarrow import parquet

from messages import raises
from nctransfer.errors import NCTransferError, SettingError
from nctransfer.heads.kept_predictions import KeptPredictions
from nctransfer.heads.predicting import Answer
from nctransfer.heads.prediction import COLUMNS, Prediction
from nctransfer.heads.prediction_files import GROUP_ROWS, WRITERS, writer_for
from nctransfer.heads.prediction_journal import Journal, check_output, open_journal
from nctransfer.heads.run_settings import RunSettings
from nctransfer.sources.source import ImageEntry, content_digest

NAMES = ["plain.jpg", 'a, "b".jpg', "=cmd|' /C calc'!A0", "new\nline.jpg", "größe/日本.png", "<b>[red]x[/red]</b>"]


def answers(count: int, first: int = 0) -> list[Answer]:
    found = []
    for number in range(first, first + count):
        name = f"{number}/{NAMES[number % len(NAMES)]}"
        row = Prediction(
            name,
            "cat",
            0.1 + 1 / (2 + number),
            "dog, or so",
            0.03125,
            number % 3 == 0,
            "between two classes" * (number % 3 == 0),
        )
        if number % 7 == 5:
            row = Prediction.broken(name, "the file is empty (0 bytes)")
        found.append(Answer(row, "", content_digest(b"%d" % number)))
    return found


ROWS = [answer.prediction for answer in answers(20)]


def entries(given: Iterable[Answer]) -> list[ImageEntry]:
    return [ImageEntry(answer.prediction.id, "", "", 0, 0) for answer in given]


# Formats


def written(suffix: str, rows: Iterable[Prediction] = ROWS) -> bytes:
    buffer = io.BytesIO()
    WRITERS[suffix](rows, buffer)
    return buffer.getvalue()


def test_csv_holds_names_as_they_are() -> None:
    head, *lines = csv.reader(io.StringIO(written(".csv").decode(), newline=""))
    assert tuple(head) == COLUMNS
    assert [line[0] for line in lines] == [row.id for row in ROWS]
    frame = pd.read_csv(
        io.BytesIO(written(".csv")), keep_default_na=False, na_values={"probability": [""], "second_probability": [""]}
    )
    assert frame["abstained"].tolist() == [row.abstained for row in ROWS]
    assert frame["probability"].tolist() == pytest.approx(
        [row.probability or float("nan") for row in ROWS], nan_ok=True
    )
    assert frame["class"].tolist() == [row.label or "" for row in ROWS]


def test_json_lines_hold_the_rows() -> None:
    lines = written(".jsonl").decode().splitlines()
    assert [Prediction.from_dict(json.loads(line)) for line in lines] == ROWS


@pytest.mark.parametrize("count", [0, 20, GROUP_ROWS + 3])
def test_parquet_holds_the_rows(count: int) -> None:
    rows = [ROWS[number % len(ROWS)] for number in range(count)]
    table = parquet.read_table(io.BytesIO(written(".parquet", rows)))
    assert tuple(table.column_names) == COLUMNS
    found = [Prediction.from_dict(row) for row in table.slice(0, 20).to_pylist()]
    for one, other in zip(found, rows[:20], strict=True):
        assert one._replace(probability=None) == other._replace(probability=None)
        assert (one.probability or 0) == pytest.approx(other.probability or 0, rel=1e-6)
    assert len(table) == count


@pytest.mark.parametrize("name", ["labels.txt", "labels", "labels.json", ".csv"])
def test_another_suffix_is_refused(name: str) -> None:
    with raises(SettingError, repr(name), hint="--output"):
        writer_for(Path(name))
    assert writer_for(Path("LABELS.CSV")) is WRITERS[".csv"]


# The journal

SETTINGS = RunSettings(head="abc", source="new-1f", images="new", max_error=0.1, max_lost=0.0)


def begun(output: Path, given: Iterable[Answer]) -> Path:
    """What a killed run leaves."""
    journal = open_journal(output, SETTINGS)
    journal.add(list(given))
    journal.file.close()
    return journal.path


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_the_file_is_there_at_the_end_and_the_journal_gone(tmp_path: Path, suffix: str) -> None:
    output, given = tmp_path / f"labels{suffix}", answers(20)
    with open_journal(output, SETTINGS) as journal:
        for number, answer in enumerate(given, 1):
            journal.add([answer])
            assert journal.path.read_bytes().count(b"\n") == number + 1  # of the first line too
        assert [path.name for path in tmp_path.iterdir()] == [f"labels{suffix}.partial"]
        journal.finish(entries(given))
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    assert output.read_bytes() == written(suffix)


@pytest.mark.parametrize("torn", [b"", b'{"id": "7/x", "class', b'{"id": "7/x"}\n', b"\xff\n[]\n3\n"])
@pytest.mark.parametrize("done", [0, 8])
def test_a_run_goes_on_where_it_was_killed(tmp_path: Path, torn: bytes, done: int) -> None:
    output, given = tmp_path / "labels.csv", answers(20)
    path = begun(output, given[:done])
    with path.open("ab") as file:
        file.write(torn)
    with open_journal(output, SETTINGS, resume=True) as journal:
        assert len(journal.earlier) == done
        for answer in given[:done]:
            assert (answer.digest in journal.earlier) != answer.prediction.is_broken
            if not answer.prediction.is_broken:
                assert journal.earlier[answer.digest] == answer.prediction
        assert given[9].digest not in journal.earlier
        size = path.stat().st_size
        journal.add(given)
        lines = path.read_bytes()[size:].splitlines()
        assert [json.loads(line)["id"] for line in lines] == [answer.prediction.id for answer in given[done:]]
        journal.finish(entries(given))
    assert output.read_bytes() == written(".csv")


def test_rows_are_those_of_the_images_there_are_now(tmp_path: Path) -> None:
    """Between the two runs images were added, deleted, renamed, changed and repaired."""
    output, first = tmp_path / "labels.jsonl", answers(10)
    begun(output, first)
    changed = Answer(first[2].prediction._replace(label="dog"), "", content_digest(b"changed"))
    repaired = Answer(
        first[5].prediction._replace(label="cat", reason="", abstained=False, probability=0.5),
        "",
        content_digest(b"repaired"),
    )
    renamed = Answer(first[3].prediction._replace(id="renamed.jpg"), "", first[3].digest)
    now = [*answers(2, first=50), first[0], changed, repaired, renamed, first[9], first[1], first[1]]
    with open_journal(output, SETTINGS, resume=True) as journal:
        journal.add(now)
        journal.finish(entries(now))
    assert output.read_bytes() == written(".jsonl", [answer.prediction for answer in now])


def test_names_that_share_a_digest_number_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.heads.kept_predictions.digest_number", lambda _: 7)
    given = answers(5)
    kept = KeptPredictions(begun(tmp_path / "labels.csv", given))
    assert [kept.of_image(answer.prediction.id) for answer in given] == [answer.prediction for answer in given]
    assert [kept[answer.digest] for answer in given] == [answer.prediction for answer in given]
    with pytest.raises(KeyError):
        kept.of_image("absent")
    kept.close()


def test_what_is_there_is_not_replaced_without_a_word(tmp_path: Path) -> None:
    output = tmp_path / "labels.csv"
    output.write_text("mine")
    for resume in (False, True):
        with raises(NCTransferError, output, hint="--overwrite"):
            check_output(output, resume=resume)
    with open_journal(output, SETTINGS, overwrite=True) as journal:
        journal.add(answers(1))
        assert output.read_text() == "mine"
        journal.finish(entries(answers(1)))
    assert output.read_bytes() == written(".csv", ROWS[:1])


def test_a_journal_that_is_left_asks_what_to_do(tmp_path: Path) -> None:
    output = tmp_path / "labels.csv"
    path = begun(output, answers(4))
    with raises(NCTransferError, path, hint=["--resume", "--overwrite"]):
        open_journal(output, SETTINGS)
    with open_journal(output, SETTINGS, overwrite=True) as journal:
        assert journal.earlier is None
        journal.add(answers(1))
        journal.finish(entries(answers(1)))
    assert output.read_bytes() == written(".csv", ROWS[:1])


def test_a_file_that_exists_can_be_replaced_by_a_run_that_goes_on(tmp_path: Path) -> None:
    output, given = tmp_path / "labels.csv", answers(6)
    begun(output, given[:4])
    output.write_text("older")
    with open_journal(output, SETTINGS, resume=True, overwrite=True) as journal:
        assert len(journal.earlier) == 4
        journal.add(given)
        journal.finish(entries(given))
    assert output.read_bytes() == written(".csv", ROWS[:6])


def test_nothing_to_go_on_from_is_a_start(tmp_path: Path) -> None:
    output = tmp_path / "labels.csv"
    (tmp_path / "labels.csv.partial").touch()  # killed before the first line
    for _ in range(2):
        with open_journal(output, SETTINGS, resume=True) as journal:
            assert journal.earlier is None
        journal.path.unlink()


def test_two_processes_do_not_write_to_one_journal(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    output, given = tmp_path / "labels.csv", answers(2)
    with open_journal(output, SETTINGS) as journal:
        journal.add(given[:1])
        for options in ({"resume": True}, {"overwrite": True}):
            with raises(NCTransferError, journal.path, hint="--output"):
                open_journal(output, SETTINGS, **options)
        journal.add(given[1:2])
        journal.finish(entries(given))
    assert output.read_bytes() == written(".csv", ROWS[:2])


@pytest.mark.parametrize(
    ("line", "shown", "hint"),
    [
        ({"head": "other"}, ["head"], "head"),
        ({"source": "src-2e", "images": "src_img"}, ["'src_img'"], "images"),
        ({"source": "new-2e"}, ["'new'", "folder"], "images"),
        ({"max_error": 0.05}, ["--max-error", "5%", "10%"], "settings"),
        ({"max_error": None, "max_lost": 0.025}, ["--max-error none", "--max-lost", "2.5%", "none"], "settings"),
        ({"format": 99}, [99], "--overwrite"),
        ({"nctransfer": "features"}, [], "--overwrite"),
        ([1], [], "--overwrite"),
    ],
)
def test_a_journal_of_something_else_is_refused(tmp_path: Path, line: object, shown: list[object], hint: str) -> None:
    output = tmp_path / "labels.csv"
    begin = {**SETTINGS.to_dict(), **line} if isinstance(line, dict) else line
    path = tmp_path / "labels.csv.partial"
    path.write_text(json.dumps(begin) + "\n")
    with raises(NCTransferError, path, *shown, hint=[hint, "--overwrite"]):
        open_journal(output, SETTINGS, resume=True)
    assert json.loads(path.read_text()) == begin


def test_a_source_may_have_any_name_and_be_given_by_another_path(tmp_path: Path) -> None:
    output, odd = tmp_path / "labels.csv", replace(SETTINGS, source="caf\udce9", images="caf\udce9")
    with open_journal(output, odd) as journal:
        journal.add(answers(3))
    with open_journal(output, replace(odd, images="/photos/caf\udce9"), resume=True) as again:
        again.add(answers(5))
        assert (again.known, again.added) == (3, 5)
    with raises(NCTransferError, "caf", hint="images"):
        open_journal(output, SETTINGS, resume=True)


def test_a_run_that_made_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_journal(tmp_path / "labels.csv", SETTINGS):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.csv"
    os.mkfifo(fifo)
    with raises(NCTransferError, fifo, "file", hint="--output"):
        check_output(fifo, overwrite=True)
    with raises(NCTransferError, tmp_path / "no" / "labels.csv.partial", hint="--output"):
        open_journal(tmp_path / "no" / "labels.csv", SETTINGS)


def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path: Path) -> None:
    """``/dev/full`` takes no byte."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    given = answers(3)
    journal = open_journal(tmp_path / "labels.csv", SETTINGS)
    journal.add(given[:1])
    kept = journal.file
    with raises(NCTransferError, journal.path, hint="--resume"), Path("/dev/full").open("wb") as full, journal:
        journal.file = full
        journal.add(given[1:2])
    kept.close()
    with open_journal(tmp_path / "labels.csv", SETTINGS, resume=True) as again:
        assert len(again.earlier) == 1


def test_an_output_that_fails_at_the_end_keeps_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    given = answers(3)
    with (
        raises(NCTransferError, "No space left", hint="--resume"),
        open_journal(tmp_path / "a.csv", SETTINGS) as journal,
    ):
        journal.add(given)
        monkeypatch.setattr("nctransfer.heads.prediction_journal.replace_file", fail)
        journal.finish(entries(given))
    monkeypatch.undo()
    assert isinstance(journal, Journal)
    with open_journal(tmp_path / "a.csv", SETTINGS, resume=True) as again:
        again.add(given)
        again.finish(entries(given))
    assert (tmp_path / "a.csv").read_bytes() == written(".csv", ROWS[:3])


@pytest.mark.parametrize("target", ["precious", "nothing"])
def test_a_journal_is_never_written_through_a_link(tmp_path: Path, target: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "labels.csv.partial").symlink_to(tmp_path / target)
    with raises(NCTransferError, "labels.csv.partial", "link"):
        open_journal(tmp_path / "labels.csv", SETTINGS, overwrite=True)
    assert precious.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


def test_another_split_is_refused(tmp_path: Path) -> None:
    path = begun(tmp_path / "labels.csv", answers(2))
    with raises(NCTransferError, path, "--split", "test", hint="--overwrite"):
        open_journal(tmp_path / "labels.csv", replace(SETTINGS, split="test"), resume=True)
