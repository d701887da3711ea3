"""Pages as text: escaping, the policy in their head, what their script is given."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import numpy as np
import pytest

from made_pages import HOSTILE, PLAIN, image_map, made_images, made_page
from nctransfer.figures.style import COLOURS
from nctransfer.page.blocks import (
    Chart,
    Facts,
    Finding,
    FindingList,
    ImageMapView,
    ImageStrip,
    Matrix,
    Notice,
    PageContent,
    PairCard,
    Paragraph,
    Section,
    Table,
    Verdict,
)
from nctransfer.page.encoded_arrays import MOST_EXACT, encoded
from nctransfer.page.page_data import json_for_page
from nctransfer.page.rendering import SCRIPTS, render_page
from nctransfer.page.visible_text import visible

TEMPLATES = resources.files("nctransfer.page") / "templates"
EVIL = '<img src=x onerror="alert(1)">\'&\u202e\n'


class Reader(HTMLParser):
    """The elements and texts of a page, as a parser of another hand sees them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._tag = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._tag = tag

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag == "script":
            self.scripts.append(data)
        else:
            self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def data_of(page: str) -> Any:
    return json.loads(Reader(page).scripts[0])


def page_of(*blocks: Any, **changes: Any) -> str:
    section = Section(id="one", title="One", says="It says something.", blocks=blocks)
    return render_page(made_page(sections=(section,), **changes))


def test_the_same_content_gives_the_same_page() -> None:
    assert render_page(made_page(HOSTILE)) == render_page(made_page(HOSTILE))


def test_the_policy_names_the_one_script() -> None:
    read = Reader(render_page(made_page()))
    policy = next(values["content"] for tag, values in read.elements if "http-equiv" in values) or ""
    digest = base64.b64encode(hashlib.sha256(read.scripts[1].encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data: blob:",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert read.count("script") == 2


def test_nothing_refers_to_the_outside() -> None:
    page = render_page(made_page())
    for _, values in Reader(page).elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (values.get(name) or "#").startswith(("#", "data:"))
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_each_template_and_script_has_its_use() -> None:
    names = {file.name for file in TEMPLATES.iterdir()}
    assert names == {f"{name}.js" for name in SCRIPTS} | {
        "page.html.j2",
        "blocks.html.j2",
        "page.css",
        "dark_colours.css",
    }


def test_dark_colours_are_those_of_light() -> None:
    def variables(name: str) -> set[str]:
        return set(re.findall(r"^  (--[\w-]+):", (TEMPLATES / name).read_text(), re.MULTILINE))

    assert variables("page.css") - variables("dark_colours.css") == {"--bar-height"}
    assert variables("dark_colours.css") < variables("page.css")
    used = set(re.findall(r"var\((--[\w-]+)", (TEMPLATES / "page.css").read_text()))
    assert used - variables("page.css") == {"--mark", "--dot", "--natural", "--size", "--room"}  # of single elements


def test_the_palette_is_that_of_the_figures() -> None:
    style = (TEMPLATES / "page.css").read_text()
    assert re.findall(r"^  --c(\d): (#\w+);", style, re.MULTILINE) == [(str(i), c) for i, c in enumerate(COLOURS)]
    assert f"const PALETTE = {len(COLOURS)};" in (TEMPLATES / "colours.js").read_text()
    assert f"const MOST_PINNED = {len(COLOURS)};" in (TEMPLATES / "highlight.js").read_text()


BLOCKS = {
    "paragraph": Paragraph(text=EVIL),
    "notice": Notice(text=EVIL),
    "facts": Facts(items={EVIL: EVIL}),
    "verdict": Verdict(value=EVIL, label=EVIL, detail=EVIL),
    "table": Table(columns=(EVIL, ">n"), rows=((EVIL, EVIL),), caption=EVIL, class_columns=(0,)),
    "chart": Chart(svg='<svg viewBox="0 0 9 9"></svg>', alt=EVIL, caption=EVIL),
    "matrix": Matrix(
        name="m",
        values=np.eye(2, dtype=np.float32),
        codes=(0, 1),
        kind="share",
        legend=EVIL,
        alt=EVIL,
        caption=EVIL,
    ),
    "map": ImageMapView(map=image_map(made_images()), alt=EVIL, caption=EVIL),
    "strip": ImageStrip(title=EVIL, images=(0, 1)),
    "strip of a class": ImageStrip(title=EVIL, images=(0, 1), code=0),
    "pair": PairCard(class_a=0, class_b=1, facts={EVIL: EVIL}, images_a=(0,), images_b=(1,)),
    "findings": FindingList(
        name="f",
        findings=(
            Finding(id=EVIL, image=0, kind=EVIL, given=EVIL, suggested=EVIL, like=EVIL, why=EVIL, neighbours=(1,)),
        ),
    ),
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_no_text_of_a_block_becomes_markup(block: Any) -> None:
    names = (EVIL, *PLAIN[1:])
    page = page_of(block, classes=names, image_ids=(EVIL,) * 300, title=EVIL, subtitle=EVIL, notices=(EVIL,))
    read = Reader(page)
    assert not any("onerror" in values for _, values in read.elements)
    assert all(values.get("src") != "x" for _, values in read.elements)
    assert "\u202e" not in page
    shown = r'<img src=x onerror="alert(1)">' + r"'&\u202e\n"
    assert shown in read.texts
    values = {value for _, values in read.elements for value in values.values()}
    assert shown in read.texts or any(shown in (value or "") for value in values)
    assert data_of(page)["classes"][0] == shown


def test_svg_of_charts_stays_markup() -> None:
    read = Reader(page_of(Chart(svg='<svg viewBox="0 0 300 9"><g data-class="3"/></svg>', alt="A drawing.")))
    assert ("g", {"data-class": "3"}) in read.elements
    assert any(values.get("style") == "--natural: 400px" for _, values in read.elements)


def test_json_holds_no_markup_and_is_read_as_it_was() -> None:
    value = {"a": "</script><!-- & \u2028 \ud800 🐈", "b": [1, None, 0.5]}
    text = json_for_page(value)
    assert not set(text) & set("<>&\u2028")
    assert text.isascii()
    assert json.loads(text) == value


@pytest.mark.parametrize("name", sorted(set(BLOCKS) - {"chart"}))
def test_a_page_has_no_lone_halves_of_characters(name: str) -> None:
    """File names that are no UTF-8 have them, and no file in UTF-8 can hold them."""
    page = page_of(BLOCKS[name], classes=("\udc80", *PLAIN[1:]), image_ids=("\udc80",) * 300)
    assert r"\udc80" in page
    page.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, häßlich, 日本", "plain, häßlich, 日本"),
        ("a\tb\r\n\x00", r"a\tb\r\n\x00"),
        ("\u200f\u061c\u2066\ufeff\u2028\x85", r"\u200f\u061c\u2066\ufeff\u2028\x85"),
        ("👩‍👩‍👧 ❤️ می‌خواهم", "👩‍👩‍👧 ❤️ می‌خواهم"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_has_no_shape_is_escaped_and_joiners_stay(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_each_thumbnail_stands_once_and_only_where_it_is_shown() -> None:
    content = made_page()
    shown = page_of(ImageStrip(title="a", images=(3, 4, 3)), Table(columns=("i",), rows=(("4",),), image_columns=(0,)))
    assert data_of(shown)["thumbnails"] == {str(i): base64.b64encode(content.thumbnails[i]).decode() for i in (3, 4)}
    assert shown.count(base64.b64encode(content.thumbnails[3]).decode()) == 1
    assert data_of(shown)["images"] == {
        "numbers": [3, 4],
        "ids": [content.image_ids[3], content.image_ids[4]],
        "labels": [0, 0],
    }


def test_what_a_map_is_made_of_reaches_the_script() -> None:
    content = made_page()
    view = next(block for section in content.sections for block in section.blocks if isinstance(block, ImageMapView))
    given = data_of(render_page(content))["maps"][0]
    for name, values in [("x", view.map.x), ("products", view.map.planes.products), ("gram", view.map.planes.gram)]:
        assert given[name]["type"] == "float32"
        read = np.frombuffer(base64.b64decode(given[name]["data"]), "<f4")
        np.testing.assert_allclose(read, values.ravel(), rtol=1e-6)
    read = np.frombuffer(base64.b64decode(given["neighbours"]["data"]), "<i4")
    np.testing.assert_array_equal(read, view.map.neighbours.ravel())
    assert (
        "{:.1%} of their variance is along the horizontal axis, {:.1%}".format(*view.map.shares) in given["says"]["pca"]
    )
    assert "not facts" in given["says"]["umap"]


@pytest.mark.parametrize("largest", [1e-3, 1.0, 7e4, 1e12])
def test_many_numbers_keep_three_digits_in_half_the_space(largest: float) -> None:
    values = np.random.default_rng(0).normal(size=MOST_EXACT + 1) * largest
    found = encoded(values, "real")
    assert found["type"] == "float16"
    read = np.frombuffer(base64.b64decode(str(found["data"])), "<f2").astype(np.float64) * found["scale"]
    assert np.isfinite(read).all()
    assert np.max(np.abs(read - values)) < 2**-11 * np.abs(values).max()
    large = np.abs(values) > largest / 1000
    np.testing.assert_allclose(read[large], values[large], rtol=2**-11)


def test_what_is_not_defined_stays_so() -> None:
    few = np.array([np.nan, np.inf, 1.0], np.float32)
    many = np.full(MOST_EXACT + 1, np.nan, np.float32)
    read = np.frombuffer(base64.b64decode(str(encoded(few, "real")["data"])), "<f4")
    np.testing.assert_array_equal(read, few)
    assert np.isnan(np.frombuffer(base64.b64decode(str(encoded(many, "real")["data"])), "<f2")).all()


def test_verdicts_in_a_row_are_one_strip_and_those_below_are_repeated_at_the_top() -> None:
    numbers = [Verdict(value=f"{i}%", label="a share", detail="an interval") for i in range(3)]
    first = page_of(*numbers[:2], Paragraph(text="x"), numbers[2])
    assert first.count('<dl class="verdicts">') == 2
    assert first.count(">0%<") == 1
    sections = (
        Section(id="a", title="A", says="A."),
        Section(id="b", title="B", says="B.", blocks=tuple(numbers)),
    )
    below = render_page(made_page(sections=sections))
    assert below.count('<dl class="verdicts">') == 2
    assert below.count(">0%<") == 2
    assert below.count("an interval") == 3


def test_strips_of_images_in_a_row_are_one_gallery() -> None:
    strips = [ImageStrip(title=name, images=(code,), code=code) for code, name in enumerate(PLAIN)]
    read = Reader(page_of(*strips, Paragraph(text="x"), strips[0]))
    groups = [values["data-group"] for _, values in read.elements if "data-group" in values]
    assert groups == [*PLAIN, PLAIN[0]]
    assert sum(values.get("class") == "gallery" for _, values in read.elements) == 2


def test_contents_lead_to_all_sections() -> None:
    content = made_page()
    read = Reader(render_page(content))
    links = [values["href"] for tag, values in read.elements if tag == "a" and "class" not in values]
    assert links == [f"#{section.id}-title" for section in content.sections]
    ids = [values["id"] for _, values in read.elements if "id" in values]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link} <= set(ids)


def test_pictures_and_charts_have_words() -> None:
    read = Reader(render_page(made_page()))
    images = [values for tag, values in read.elements if tag == "img"]
    assert len(images) > 30
    assert all(values["alt"] for values in images)
    assert all(values["aria-label"] for tag, values in read.elements if tag == "canvas")
    assert all(values["aria-label"] for _, values in read.elements if values.get("class") == "drawing")


def test_without_pictures_ids_stand_alone() -> None:
    read = Reader(render_page(made_page(pictures=False)))
    assert read.count("img") == 0
    assert "IMG_0000.jpg" in read.texts


@pytest.mark.parametrize(("share", "words"), [(0.934, "of 93%"), (0.9996, "of over 99%"), (None, None)])
def test_the_probability_of_a_finding_is_said(share: float | None, words: str | None) -> None:
    finding = Finding(id="a", image=None, kind="label", given="x", expected_precision=share)
    page = page_of(FindingList(name="f", findings=(finding,)))
    assert f"wrong with a probability {words}" in page if words else "probability" not in page.partition("<main")[2]


def test_a_page_needs_neither_classes_nor_images() -> None:
    content = PageContent(
        title="Ranking",
        subtitle="Three backbones.",
        sections=(
            Section(
                id="ranking",
                title="Ranking",
                says="It ranks.",
                blocks=(Table(columns=("backbone", ">accuracy"), rows=(("a", "90.1"),)),),
            ),
        ),
    )
    read = Reader(render_page(content))
    assert "90.1" in read.texts
    assert data_of(render_page(content))["images"] == {"numbers": [], "ids": [], "labels": []}


def test_a_folded_table_has_its_caption_as_summary() -> None:
    table = Table(columns=("class",), rows=(("x",),), caption="All of them.")
    plain, folded = (page_of(dataclasses.replace(table, folded=folded)) for folded in (False, True))
    assert '<p class="caption">All of them.</p>' in plain
    assert '<details class="folded"' not in plain
    assert "<summary>All of them.</summary>" in folded
    assert 'class="caption"' not in folded


def test_the_file_of_ticked_findings_has_the_columns_of_corrections() -> None:
    from nctransfer.label_audit.corrections import COLUMNS

    assert set(data_of(page_of(BLOCKS["findings"]))["findings"][0]["columns"]) == set(COLUMNS)


def test_unlabelled_images_have_no_class() -> None:
    labels = np.where(np.arange(300) == 3, -1, made_images().labels)
    page = page_of(ImageStrip(title="some", images=(2, 3)), image_labels=labels)
    thumbs = [values for tag, values in Reader(page).elements if values.get("class") == "thumb"]
    assert [values.get("data-class") for values in thumbs] == ["0", None]
    assert data_of(page)["images"]["labels"] == [0, -1]


def test_cells_that_name_no_class_are_plain_text() -> None:
    page = page_of(Table(columns=("class",), rows=((PLAIN[2],), ("mean",)), class_columns=(0,)))
    names = [
        values["data-class"] for tag, values in Reader(page).elements if tag == "button" and "data-class" in values
    ]
    assert names == ["2"]
    assert "mean" in Reader(page).texts


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    from jinja2 import UndefinedError

    class Incomplete:
        """A block without its text."""

    Incomplete.__name__ = "Paragraph"
    with pytest.raises(UndefinedError, match="text"):
        page_of(Incomplete())


def test_matrices_and_findings_are_numbered_in_the_order_of_the_page() -> None:
    one, other = BLOCKS["matrix"], dataclasses.replace(BLOCKS["matrix"], kind="distance")
    lists = [dataclasses.replace(BLOCKS["findings"], name=name) for name in "ab"]
    page = page_of(one, lists[0], other, lists[1])
    read = Reader(page)
    assert [values["data-matrix"] for _, values in read.elements if "data-matrix" in values] == ["0", "1"]
    assert [values["data-findings"] for _, values in read.elements if "data-findings" in values] == ["0", "1"]
    assert [matrix["kind"] for matrix in data_of(page)["matrices"]] == ["share", "distance"]
    assert [found["name"] for found in data_of(page)["findings"]] == ["a", "b"]
    assert data_of(page)["findings"][0]["rows"] == [[EVIL, EVIL, EVIL, EVIL, EVIL, ""]]


def test_names_from_right_to_left_do_not_turn_the_sentence_around_them() -> None:
    name = "\u05d0\u05d1\u05d2 \u05e2\u05d1"
    block = Paragraph(text=f"0 of 12 images of {name} are taken for {name}; 1 of 12.")
    section = Section(id="one", title="One", says="It shows a sentence.", blocks=(block,))
    page = render_page(PageContent(title=name, subtitle="", sections=(section,), classes=(name,), counts=(12,)))
    assert f"of \u2068{name}\u2069 are taken for \u2068{name}\u2069; 1 of" in page
    assert f"<title>{name}</title>" in page  # nothing around it could be turned
    assert name not in json_for_page(name)
    assert "\u2068" not in page.split('id="report-data">')[1]
