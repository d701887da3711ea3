"""SVG inside a page: nothing of one figure reaches another or the outside, and everything takes the page's colours."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from nctransfer.figures.figure_files import svg_of
from nctransfer.figures.inline_svg import inline_svg
from nctransfer.figures.style import COLOURS, add_caption, in_style, new_figure, plain_text

NAMES = ["<script>alert(1)</script>", "a \"quoted\" & 'b'", "$x^2$", "名前", "اسم", "\u202eabc", "👩‍🔬"]


@in_style
def drawn() -> Any:
    """A figure with a line and its shade, marks, an image, a hatched bar and names of classes."""
    figure = new_figure(4, 3)
    left, right = figure.subplots(1, 2)
    left.plot([1, 2, 3], [1, 4, 9], color=COLOURS[0], marker="o", label="ridge")
    left.fill_between([1, 2, 3], [0, 3, 8], [2, 5, 10], color=COLOURS[1], alpha=0.2, linewidth=0)
    left.scatter([2], [2], color="#999999", marker="s")
    left.plot([2], [6], marker="D", markerfacecolor="white", markeredgecolor="black")
    left.bar([2.5], [3], color=COLOURS[6], hatch="//")
    left.set(title="Few <shots>", xlabel="shots", ylabel="accuracy")
    left.legend()
    right.imshow(np.arange(4).reshape(2, 2), interpolation="none", cmap="Blues")
    for code, name in enumerate(NAMES):
        right.text(0, code / 4, plain_text(name), gid=f"class-{code}", rotation=90 * (code % 2))
    add_caption(figure, "resnet50, pets", "It says something")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # which would settle a little more each time that the figure is drawn
    return figure


@pytest.fixture(scope="module")
def figure() -> Any:
    return drawn()


@pytest.fixture(scope="module")
def text(figure: Any) -> str:
    return inline_svg(figure, "curve")


@pytest.fixture(scope="module")
def root(text: str) -> Any:
    return ElementTree.fromstring(text)


def test_it_is_one_element_as_wide_as_its_place(root: Any, text: str) -> None:
    assert text.startswith("<svg ")
    assert (root.tag, root.get("width"), root.get("role")) == ("svg", "100%", "img")
    left, top, width, height = map(float, root.get("viewBox").split())
    assert (left, top) == (0, 0)
    assert width == pytest.approx(4 * 72, rel=0.1)
    assert height == pytest.approx(3 * 72, rel=0.1)
    assert "Few <shots>" in root.get("aria-label")
    assert "accuracy over shots" in root.get("aria-label")


def test_a_label_that_is_given_is_taken(figure: Any) -> None:
    assert ElementTree.fromstring(inline_svg(figure, "a", 'He said "<so>"')).get("aria-label") == 'He said "<so>"'


def test_it_refers_to_nothing_outside(root: Any, text: str) -> None:
    assert not re.search("https?:|@import|<style|<metadata|<!DOCTYPE|<\\?xml|xlink", text)
    ids = {one.get("id") for one in root.iter()} - {None}
    for one in root.iter():
        for key, value in one.attrib.items():
            for target in re.findall(r"url\(#([^)]*)\)", value):
                assert target in ids
            if key == "href":
                assert value.startswith("data:image/png;base64,") or value[1:] in ids
            assert not key.startswith("on")


def test_figures_of_one_page_share_no_id(figure: Any) -> None:
    found = []
    for name in ("one", "two"):
        ids = [id_ for one in ElementTree.fromstring(inline_svg(figure, name)).iter() if (id_ := one.get("id"))]
        assert ids
        assert all(id_.startswith(f"{name}-") for id_ in ids)
        assert len(set(ids)) == len(ids)
        found.append(set(ids))
    assert found[0].isdisjoint(found[1])


def test_colours_are_those_of_the_page(text: str) -> None:
    for number in (0, 1, 6):
        assert f"var(--c{number}, {COLOURS[number]})" in text
    assert "var(--muted, #999999)" in text
    assert "stroke: currentColor" in text
    bare = re.sub(r"var\(--\w+, #\w+\)", "", text)
    assert not re.search("#[0-9a-f]{6}", bare)


def test_only_marks_are_white(root: Any) -> None:
    white = [one for one in root.iter() if "var(--background, #ffffff)" in one.get("style", "")]
    assert len(white) == 1
    invisible = [one for one in root.iter("path") if one.get("style") == "fill: none" and not one.get("id")]
    assert invisible == []


def test_text_is_text_in_the_font_of_the_page(root: Any, figure: Any) -> None:
    found = ["".join(one.itertext()) for one in root.iter("text")]
    assert {name.replace("\u202e", "\ufffd") for name in NAMES} <= set(found)
    assert "resnet50, pets. It says something" in found
    assert [one for one in root.iter() if "font-family" in one.get("style", "")] == [root]
    sizes = {re.search(r"font-size: ([\d.]+)px", one.get("style"))[1] for one in root.iter("text")}  # type: ignore[index]
    assert sizes == {"7", "7.5", "8.5", "9.5"}


def test_classes_are_marked(root: Any) -> None:
    marked = {one.get("data-class"): "".join(one.itertext()) for one in root.iter() if one.get("data-class")}
    assert marked == {str(code): name.replace("\u202e", "\ufffd") for code, name in enumerate(NAMES)}


def numbers(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?", text)]


def test_everything_stays_where_it_was(root: Any, figure: Any) -> None:
    """Of each path that is seen, all coordinates up to rounding; and of each text, its place and its rotation."""
    was = ElementTree.fromstring(svg_of(figure, transparent=True))
    svg = "{http://www.w3.org/2000/svg}"
    old = [one for one in was.iter(f"{svg}path") if one.get("id") or one.get("style") != "fill: none"]
    new = list(root.iter("path"))
    assert len(new) == len(old) > 20
    for one, other in zip(old, new, strict=True):
        np.testing.assert_allclose(numbers(other.get("d")), numbers(one.get("d") or ""), atol=0.00501)
    for tag in ("text", "use", "image"):
        for one, other in zip(was.iter(svg + tag), root.iter(tag), strict=True):
            for key in ("x", "y", "width", "height", "transform"):
                if not (place := one.get(key, "")).startswith("rotate(-0 "):
                    np.testing.assert_allclose(numbers(other.get(key, "")), numbers(place), atol=0.00501)
    turned = [one for one in root.iter("text") if "-90" in one.get("transform", "")]
    assert len(turned) == 1 + len(NAMES) // 2  # one label of an axis


def test_it_is_small_and_always_the_same(text: str) -> None:
    assert len(text) < 0.7 * len(svg_of(drawn()))
    assert inline_svg(drawn(), "curve") == text


def test_a_figure_is_not_changed(figure: Any) -> None:
    before = svg_of(figure)
    inline_svg(figure, "x")
    assert svg_of(figure) == before


@pytest.mark.parametrize("name", ["", "1a", "a b", "a.b", "a)b", "é"])
def test_a_name_that_no_reference_can_hold(figure: Any, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        inline_svg(figure, name)
