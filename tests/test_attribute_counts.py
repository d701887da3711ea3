"""What could be the class of an image: the levels of folders and the attributes, as nctransfer data shows them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from nctransfer.sources.attribute_counts import count_attributes, count_levels
from nctransfer.sources.layout import FolderImages, arrange
from pictures import png
from terminal import data_of, done, shows_line

folders = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), min_size=1, max_size=9)


@given(folders)
def test_levels_are_those_of_the_paths(paths: list[list[str]]):
    given_images = [FolderImages("/".join(path), [f"{n}.png"], [1], [1], 0) for n, path in enumerate(paths)]
    every = {"/".join(path[:end]) for path in paths for end in range(1, 4)}
    found = count_levels(arrange("it", every, given_images).entries)
    deepest = max(map(len, paths))
    assert len(found) == (deepest if deepest > 1 else 0)
    for level in found:
        counts = Counter("/".join(path[: level.depth]) for path in paths)
        sizes = sorted(counts.values())
        assert level.classes == len(counts)
        assert (level.smallest, level.median, level.largest) == (sizes[0], median(sizes), sizes[-1])
        assert level.example == min((name for name in counts if name.count("/") == level.depth - 1), default="")


@given(folders)
def test_attributes_are_counted(paths: list[list[str]]):
    given_images = [FolderImages("/".join(path), [f"{n}.png"], [1], [1], 0) for n, path in enumerate(paths)]
    for one in count_attributes(arrange("it", {path[0] for path in paths}, given_images).entries):
        number = int(one.name.removeprefix("folder-"))
        counts = Counter(path[number - 1] for path in paths if len(path) >= number)
        assert (one.values, one.missing) == (len(counts), len(paths) - counts.total())
        assert list(one.most) == sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]


def test_the_command_shows_levels_and_attributes(tmp_path: Path):
    lines = ["path,label,site,note"]
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(png(number))
        lines.append(
            f"{number}.png,{'ab'[number % 2]},{'Kent' if number else '[red]Oslo'},{'x' * 300 if number else ''}"
        )
    (tmp_path / "x.csv").write_text("\n".join(lines))
    shown = done("data", tmp_path / "x.csv").stdout
    assert shows_line(shown, "site", 2, 0, "Kent 4, [red]Oslo 1")
    found = data_of("data", tmp_path / "x.csv")
    assert found["levels"] == []
    assert [(one["name"], one["values"], one["missing"]) for one in found["attributes"]] == [
        ("label", 2, 0),
        ("note", 1, 1),
        ("site", 2, 0),
    ]
    assert found["attributes"][2]["most"][0] == {"value": "Kent", "images": 4}


def test_folders_of_classes_alone_have_neither(pets: Path):
    found = data_of("data", pets, "--fast")
    assert (found["levels"], found["attributes"]) == ([], [])
    assert "--label-depth" not in done("data", pets, "--fast").stdout
