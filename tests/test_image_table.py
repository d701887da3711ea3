"""The images of a source in columns: the same entries as a list of them, and little memory."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nctransfer.sources.image_table import CHUNK, ImageTable, TableBuilder
from nctransfer.sources.source import ImageEntry

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=4)
int64 = st.integers(-(2**63), 2**63 - 1)
entries = st.lists(st.builds(ImageEntry, text, text, st.sampled_from(["", "train", "tést"]), int64, int64), max_size=9)


@given(entries)
def test_a_table_holds_the_entries_that_it_was_made_of(given: list[ImageEntry]):
    table = ImageTable.of(iter(given))
    assert list(table) == [table[row] for row in range(len(given))] == given
    assert table == given
    assert all(type(entry) is ImageEntry and type(entry.size) is int for entry in table)
    assert ImageTable.of(table) is table


@given(entries, st.slices(9))
def test_a_slice_of_a_table_is_that_of_the_list(given: list[ImageEntry], places: slice):
    part = ImageTable.of(given)[places]
    assert isinstance(part, ImageTable)
    assert part == given[places]
    assert part.labels.to_pylist() == [entry.label for entry in given[places]]
    assert part.sizes.tolist() == [entry.size for entry in given[places]]


@given(entries)
def test_sorting_a_table_sorts_by_the_id_as_python_does(given: list[ImageEntry]):
    table = ImageTable.of(given).sorted()
    assert table.ids.to_pylist() == sorted(entry.id for entry in given)
    assert sorted(table) == sorted(given)


def test_places_in_a_table():
    table = ImageTable.of(ImageEntry(f"{row}", "a", "", row, 0) for row in range(CHUNK + 2))
    assert [entry.size for entry in table] == list(range(CHUNK + 2))  # beyond the first chunk
    assert table[-1].size == table[np.int64(CHUNK + 1)].size == CHUNK + 1
    assert [entry.size for entry in table.take(np.array([CHUNK, 3, 3]))] == [CHUNK, 3, 3]
    assert table[5:9][2].size == 7
    with pytest.raises(IndexError):
        table[CHUNK + 2]


def test_tables_of_other_entries_differ():
    one, other = ImageEntry("1", "a", "", 1, 2), ImageEntry("1", "a", "", 1, 3)
    assert ImageTable.of([one]) == ImageTable.of([one]) == (one,)
    assert ImageTable.of([one]) != ImageTable.of([other])
    assert ImageTable.of([one]) != ImageTable.of([one, one])
    assert ImageTable.of([one]) != "1"
    assert ImageTable.of([one, one._replace(label="b")])[1:] != ImageTable.of([one])
    assert ImageTable.of([one._replace(label="b"), one])[1:] == ImageTable.of([one])  # other codes, the same classes


def test_a_table_can_go_to_another_process():
    table = ImageTable.of([ImageEntry("é", "a", "", 1, 2), ImageEntry("b", "b", "test", 3, 4)])
    assert pickle.loads(pickle.dumps(table[1:])) == table[1:]


def test_columns_can_be_added_by_class():
    builder = TableBuilder()
    builder.add_equal(["a/1", "a/2"], "a", "", [1, 2], [3, 4])
    builder.add(["b/1", "a/3"], ["b", "a"], ["test", ""], [5, 6], [7, 8])
    assert len(builder) == 4
    assert builder.table() == [
        ImageEntry("a/1", "a", "", 1, 3),
        ImageEntry("a/2", "a", "", 2, 4),
        ImageEntry("b/1", "b", "test", 5, 7),
        ImageEntry("a/3", "a", "", 6, 8),
    ]


def test_times_after_the_year_2262_fit_and_differ():
    late = [2**63 + 1, 2**63 + 2]  # nanoseconds that ext4 can store
    times = [entry.mtime_ns for entry in ImageTable.of([ImageEntry(str(time), "a", "", 1, time) for time in late])]
    assert len({*times, 1, 2}) == 4


def test_a_table_is_made_and_read_without_pandas():
    code = """
        import sys
        from nctransfer.sources.image_table import ImageTable
        from nctransfer.sources.source import ImageEntry
        table = ImageTable.of([ImageEntry("b", "cat", "", 1, 2), ImageEntry("a", "dog", "test", 3, 4)])
        table = table.sorted().sorted()[:2][::-1]
        assert [*table, table[0]][2].id == "b"
        assert "pandas" not in sys.modules
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    assert subprocess.run([sys.executable, "-c", lines], check=False).returncode == 0
