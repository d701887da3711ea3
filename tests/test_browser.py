"""Pages in a real browser: what is seen, what moves, and that nothing leaves."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Visit, chromium, frames, visit
from made_pages import HOSTILE, PLAIN, image_map, made_images, made_page
from nctransfer.label_audit.ticked_findings import decide, read_ticked
from nctransfer.page.blocks import Finding, FindingList, ImageMapView, Matrix, PageContent, Section
from nctransfer.page.encoded_arrays import MOST_EXACT, encoded
from nctransfer.page.rendering import render_page

Open = Callable[..., AbstractContextManager[Visit]]
TEMPLATES = resources.files("nctransfer.page") / "templates"
SECTIONS = {"class-map": "canvas, svg", "image-map": "canvas", "confusion": "canvas", "learning-curve": "svg"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample page, and the same with names that try to be more than text."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "plain.html").write_text(render_page(made_page()), encoding="utf-8")
    (folder / "hostile.html").write_text(render_page(made_page(HOSTILE)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def kept(browser: Any, folder: Path) -> Iterator[Visit]:
    with visit(browser, folder / "plain.html") as seen:
        yield seen


@pytest.fixture
def plain(browser: Any, folder: Path, kept: Visit) -> Open:
    """Opens the sample page; in the usual window, it is the same one that is loaded anew, as that is faster."""

    @contextmanager
    def opened(**options: Any) -> Iterator[Visit]:
        if options:
            with visit(browser, folder / "plain.html", **options) as seen:
                yield seen
        else:
            kept.page.mouse.move(0, 0)
            kept.page.reload()
            frames(kept.page)
            yield kept

    return opened


@pytest.fixture(scope="module")
def blank(browser: Any) -> Iterator[Any]:
    """An empty page, to run single functions in."""
    context = browser.new_context(offline=True)
    yield context.new_page()
    context.close()


def ran(page: Any, files: tuple[str, ...], expression: str, argument: object = None) -> Any:
    """The value of an expression of ``given`` that uses what some script files define."""
    sources = "\n".join((TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in files)
    return page.evaluate(f"(given) => {{ {sources}\nreturn {expression}; }}", argument)


def colours(page: Any, canvas: str) -> int:
    """How many colours a canvas shows."""
    return page.evaluate(
        """(selector) => {
          const canvas = document.querySelector(selector);
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        }""",
        canvas,
    )


def column(page: Any, number: int, table: str = "#data table") -> list[str]:
    return page.locator(f"{table} tbody tr td:nth-child({number})").all_text_contents()


def shown(page: Any, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(f"{selector}:visible").all_text_contents()]


def centre(page: Any, canvas: str) -> dict[str, float]:
    """The middle of a canvas, in its own pixels."""
    box = page.locator(canvas).bounding_box()
    return {"x": box["width"] / 2, "y": box["height"] / 2}


# Alone


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_a_page_opens_from_the_disk_without_network_and_without_errors(browser: Any, folder: Path, name: str) -> None:
    path = folder / f"{name}.html"
    with visit(browser, path) as seen:
        page = seen.page
        for canvas in page.locator("canvas").all():
            canvas.scroll_into_view_if_needed()
            canvas.hover()
        for details in page.locator("main summary").all():
            details.click()
        frames(page)
        assert page.locator("img[data-picture]").count() > 30
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth === 64)")
    assert seen.requests == [path.as_uri()]
    assert seen.problems == []


def test_the_policy_of_a_page_stops_scripts_and_pictures_from_elsewhere(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        stopped = page.evaluate(
            """async () => {
              const stopped = [];
              addEventListener("securitypolicyviolation", (event) => stopped.push(event.effectiveDirective));
              const add = (tag, values) => document.body.append(Object.assign(document.createElement(tag), values));
              add("script", { textContent: "window.isBroken = true" });
              add("img", { src: "http://example.com/a.png" });
              add("iframe", { src: "http://example.com/" });
              await fetch("http://example.com/").catch(() => null);
              for (let left = 600; stopped.length < 4 && left > 0; left--)
                await new Promise((done) => setTimeout(done, 100));
              return stopped;
            }"""
        )
        assert sorted(stopped) == ["connect-src", "frame-src", "img-src", "script-src-elem"]
        assert page.evaluate("window.isBroken") is None


def test_without_scripts_text_and_tables_are_there(plain: Open) -> None:
    with plain(java_script_enabled=False) as seen:
        text = seen.page.inner_text("main")
    assert "JavaScript is off" in text
    assert "94.7%" in text
    assert "emperor penguin" in text


# Charts


def test_every_section_has_its_chart(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        for section, charts in SECTIONS.items():
            for chart in page.locator(f"#{section} :is({charts})").all():
                box = chart.bounding_box()
                assert box["width"] > 200
                assert box["height"] > 150
        assert all(colours(page, f"#{section} canvas") > 20 for section in ("class-map", "image-map", "confusion"))
        assert page.locator("svg text").count() == 12 + 5
        assert page.locator("figure:not(.image-map, .thumb) details table").count() == 3  # the sample's tree has none


def test_pointing_at_a_cell_says_both_classes_their_sizes_and_the_value(plain: Open) -> None:
    matrix = matrix_of(made_page(), "class-distances")
    with plain() as seen:
        page = seen.page
        size = page.locator("#class-map canvas").bounding_box()
        side = 660
        margin = size["width"] - 1 - side
        row, column = 2, 9
        place = {"x": margin + (column + 0.5) / 12 * side, "y": size["height"] - side + (row + 0.5) / 12 * side}
        page.hover("#class-map canvas", position=place)
        text = page.inner_text("#tooltip")
        names = [PLAIN[matrix.codes[row]], PLAIN[matrix.codes[column]]]
        assert text.split("\n") == [f"{matrix.values[row, column]:.1f}", f"{names[0]} (n = 25) and {names[1]} (n = 25)"]
        frames(page)
        lit = {one.get_attribute("data-class") for one in page.locator(".is-lit").all()}
        assert lit == {str(matrix.codes[row]), str(matrix.codes[column])}
        page.hover("h1")
        assert page.locator("#tooltip").is_hidden()


def test_a_matrix_is_read_by_keys_alone(plain: Open) -> None:
    matrix = matrix_of(made_page(), "confusion")
    with plain() as seen:
        page = seen.page
        page.focus("#confusion canvas")
        for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowDown"):
            page.keyboard.press(key)
        said = page.inner_text("#confusion .live")
        assert f"{matrix.values[2, 1]:.1%}" in said
        assert f"given {PLAIN[2]} (n = 25), predicted {PLAIN[1]} (n = 25)" in said
        page.keyboard.press("Enter")
        frames(page)
        assert shown(page, "#pins .chip bdi") == [PLAIN[2], PLAIN[1]]
        before = colours(page, "#confusion canvas")
        for _ in range(5):
            page.keyboard.press("+")
        frames(page)
        assert colours(page, "#confusion canvas") != before
        page.keyboard.press("Escape")
        frames(page)
        assert page.locator("#pins").is_hidden()


def test_a_click_on_a_cell_highlights_both_classes_everywhere(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        size = page.locator("#class-map canvas").bounding_box()
        page.click("#class-map canvas", position={"x": size["width"] - 80, "y": size["height"] - 5})  # last row
        frames(page)
        pinned = shown(page, "#pins .chip bdi")
        assert len(pinned) == 2
        page.hover("h1")
        frames(page)
        lit = {int(one.get_attribute("data-class")) for one in page.locator(".is-lit").all()}
        assert sorted(PLAIN[code] for code in lit) == sorted(pinned)
        for place in ("#data td", "#class-map svg", "#image-map .legend"):
            assert page.locator(f"{place} .is-lit").count() == 2


@pytest.mark.parametrize("way", ["hover", "focus"])
def test_a_class_that_is_pointed_at_or_focused_is_highlighted_everywhere(plain: Open, way: str) -> None:
    with plain() as seen:
        page = seen.page
        getattr(page.locator("#data td button.name", has_text="husky"), way)()
        frames(page)
        lit = page.locator(".is-lit")
        assert {one.get_attribute("data-class") for one in lit.all()} == {"4"}
        assert all(page.locator(f"#{name} .is-lit").count() for name in ("data", "class-map", "image-map", "suspects"))
        page.hover("h1")
        page.evaluate("document.activeElement.blur()")
        page.focus("#filter")
        frames(page)
        assert lit.count() == 0


def test_a_click_keeps_a_class_and_no_more_than_seven(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        for name in PLAIN[:9]:
            page.locator("#image-map .legend button").filter(has_text=name).click()
        frames(page)
        assert shown(page, "#pins .chip bdi") == list(PLAIN[2:9])
        assert page.locator('#data td button[aria-pressed="true"]').count() == 7
        page.get_by_role("button", name="Clear").click()
        frames(page)
        assert page.locator("#pins").is_hidden()


def test_a_button_stays_while_it_is_pressed(plain: Open) -> None:
    """The pointer comes from another class; the highlight follows in the next frame, when the button may be down."""
    with plain() as seen:
        page = seen.page
        page.locator("#image-map .legend button").first.click()
        frames(page)
        box = page.get_by_role("button", name="Clear").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        event = "new PointerEvent('pointerover', { bubbles: true })"
        page.evaluate(f"document.querySelector('#data td button.name').dispatchEvent({event})")
        frames(page)
        page.mouse.up()
        frames(page)
        assert page.locator("#pins").is_hidden()


# Tables


def test_a_click_sorts_numbers_as_numbers_and_back(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        head = page.locator("#data th", has_text="accuracy")
        before = column(page, 3)
        number = [float(text.removesuffix("%")) for text in before]
        assert before != sorted(before, key=lambda text: float(text.removesuffix("%")))
        for state, order in (("ascending", sorted(number)), ("descending", sorted(number)[::-1]), ("none", number)):
            head.locator("button").click()
            assert head.get_attribute("aria-sort") == state
            assert [float(text.removesuffix("%")) for text in column(page, 3)] == order
        page.locator("#data th", has_text="images").locator("button").click()
        assert [int(text.replace(",", "")) for text in column(page, 2)] == sorted(1234 * c % 5000 for c in range(1, 13))


def test_keys_sort_texts_and_numbers_with_signs(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        page.focus("#data th:first-child button")
        page.keyboard.press("Enter")
        assert column(page, 1) == sorted(PLAIN, key=str.casefold)
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        assert column(page, 4) == [f"≥ {n}" for n in range(39, 51)]
        assert page.locator('#data th[aria-sort="ascending"]').inner_text().startswith("labels needed")


READ = {
    "94.7%": 94.7,
    "1,234": 1234,
    "12.3 ± 0.4": 12.3,
    "≥ 50": 50,
    "-3.5": -3.5,
    "−3.5": -3.5,
    "1.5e-05": 1.5e-5,
    ".25": 0.25,
    "1.2 MB": 1.2e6,
    "22M": 22e6,
    "3 months": 3,
    "95% (93 to 97)": 95,
    "> 1,000": 1000,
    "": None,
    "–": None,
    "none": None,
}


def test_numbers_are_read_as_people_write_them(blank: Any) -> None:
    read = ran(blank, ("numbers",), "given.map(numberIn)", list(READ))
    assert [None if value != value else value for value in read] == list(READ.values())


def test_cells_without_a_value_stand_last_both_ways(blank: Any) -> None:
    texts = ["–", "10", "", "9.5", "100"]
    for descending, order in ((False, [3, 1, 4]), (True, [4, 1, 3])):
        found = ran(blank, ("numbers", "tables"), f"sortedOrder(given, true, {str(descending).lower()})", texts)
        assert found == [*order, 0, 2]


def test_the_filter_leaves_what_names_a_class_or_an_image(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        page.fill("#filter", "  BEAR ")
        frames(page)
        assert shown(page, "#data td:first-child") == ["polar bear", "brown bear"]
        assert shown(page, "#data .table .filter-note") == ["The filter shows 2 of 12."]
        assert page.locator(".strip .thumb:visible").count() == 0
        assert page.locator(".finding:visible").count() == 2
        page.fill("#filter", "IMG_0026")
        frames(page)
        assert page.locator(".strip .thumb:visible").count() == 1
        page.fill("#filter", "red fox")
        frames(page)
        assert page.locator(".strip .thumb:visible").count() == 6
        page.press("#filter", "Escape")
        assert page.locator("#data tbody tr:visible").count() == 12
        assert page.locator(".finding:visible").count() == 8


@pytest.mark.parametrize(("typed", "found"), [("CAFE", "café"), ("cafe\u0301", "café"), ("חתול", "חתול בית")])
def test_the_filter_has_no_regard_to_accents_and_case(browser: Any, folder: Path, typed: str, found: str) -> None:
    with visit(browser, folder / "hostile.html") as seen:
        seen.page.fill("#filter", typed)
        frames(seen.page)
        assert shown(seen.page, "#data td:first-child") == [found]


def test_a_list_in_which_nothing_matches_is_one_line(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        page.fill("#filter", "walrus")
        frames(page)
        table = page.locator("#closest-pairs details.folded")
        assert table.locator("summary").get_attribute("data-found") == "No match."
        assert page.locator("#data .table-box").is_visible()
        page.fill("#filter", "no such class")
        frames(page)
        assert set(shown(page, "[data-filtered] > .filter-note")) == {"No match."}
        assert page.locator("#data :is(.table-box, .gallery):visible").count() == 0
        assert page.locator("#suspects .primary").is_visible()
        page.fill("#filter", "")
        frames(page)
        assert page.locator("#data :is(.table-box, .gallery):visible").count() == 2
        assert shown(page, ".filter-note") == []


def test_pairs_are_filtered(plain: Open) -> None:
    with plain() as seen:
        seen.page.fill("#filter", "husky")
        frames(seen.page)
        assert shown(seen.page, "#closest-pairs .pair h3 > .name") == ["husky", "polar bear"]


# Keys


def test_a_link_of_the_contents_leads_the_keys_there(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        page.focus(".contents a[href='#confusion-title']")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.textContent") == "Confusion"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('section').id") == "confusion"


def test_tables_lists_and_galleries_are_one_stop_each(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        stops = page.evaluate(
            """() => [...document.querySelectorAll("#data :is(button, [tabindex])")]
              .filter((one) => one.tabIndex === 0 && one.getClientRects().length)
              .map((one) => one.matches("button") ? one.closest("thead, tbody, .strip").localName : one.className)"""
        )
        assert stops == ["table-box", "thead", "tbody", "div"]
        page.focus("#data tbody button")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.dataset.enlarge") == "0"
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.dataset.enlarge") == "25"  # of the next class
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("document.activeElement.textContent") == PLAIN[1]
        page.fill("#filter", "walrus")
        frames(page)
        assert page.locator('#data tbody button[tabindex="0"]:visible').all_text_contents() == ["walrus"]
        page.fill("#filter", "")


def test_escape_closes_what_is_open_one_after_the_other(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        page.locator("#image-map .legend button").first.click()
        page.focus("#image-map canvas")
        page.keyboard.press("ArrowRight")
        page.hover("#class-map canvas", position=centre(page, "#class-map canvas"))
        frames(page)
        open_now = [page.locator(one) for one in ("#tooltip", "#image-map .live", "#pins")]
        for closed in range(4):
            assert [one.is_visible() for one in open_now] == [place >= closed for place in range(3)]
            page.keyboard.press("Escape")
            frames(page)


# Pictures


@pytest.mark.parametrize(
    ("place", "number"), [("#suspects .finding:nth-child(2)", 25), ("#closest-pairs .pair", 0), ("#data tbody", 0)]
)
def test_keys_enlarge_a_picture(plain: Open, place: str, number: int) -> None:
    images = made_images()
    with plain() as seen:
        page = seen.page
        small = page.locator(f"{place} .enlarge").first
        small.focus()
        page.keyboard.press("Enter")
        dialog = page.locator("dialog")
        assert dialog.locator(".image-id").inner_text() == images.ids[number]
        assert dialog.locator("strong").inner_text() == PLAIN[images.labels[number]]
        frames(page)
        large = dialog.locator("> img").bounding_box()
        assert (large["width"], large["height"]) == (192, 192)
        view = image_map(images)
        near = dialog.locator(".nearest li")
        assert [one.get_attribute("title") for one in near.all()] == [images.ids[i] for i in view.neighbours[number]]
        page.keyboard.press("Escape")
        assert dialog.is_hidden()
        assert small.evaluate("(one) => document.activeElement === one")


def test_a_click_enlarges_a_picture_and_its_neighbours(plain: Open) -> None:
    images = made_images()
    with plain() as seen:
        page = seen.page
        page.locator(".gallery .enlarge").first.click()
        dialog = page.locator("dialog")
        near = image_map(images).neighbours[0]
        shown_ones = [i for i in near if i % 25 < 8]
        dialog.locator(".nearest .enlarge").first.click()
        assert dialog.locator(".image-id").inner_text() == images.ids[shown_ones[0]]
        assert page.locator("#pins").is_hidden()
        page.mouse.click(5, 500)  # beside it
        assert dialog.is_hidden()


# The image map


def exact_plane(codes: list[int]) -> np.ndarray:
    """Images in the plane of classes by plain linear algebra on the features: (n, 2)."""
    images = made_images()
    z = images.features - images.features.mean(axis=0)
    means = [z[images.labels == code].mean(axis=0) for code in codes]
    p, q, r = means if len(means) == 3 else (*means, np.zeros(z.shape[1]))
    basis, _ = np.linalg.qr(np.stack([q - p, r - (p + q) / 2], axis=1))
    basis = basis * np.sign([basis[:, 0] @ (q - p), basis[:, 1] @ (r - p)])
    return (z - (p + q) / 2) @ basis


def data_of(content: PageContent) -> Any:
    text = render_page(content).partition('id="report-data">')[2].partition("</script>")[0]
    return json.loads(text)


PLANE = "(({ x, y, corners }) => [[...x], [...y], corners])"


@pytest.mark.parametrize("codes", [[3, 8], [0, 1], [5, 2, 11], [9, 8, 7]])
def test_planes_are_exact_orthogonal_projections(blank: Any, codes: list[int]) -> None:
    data = data_of(made_page())["maps"][0]
    arrays = ("products", "gram", "points", "means")
    given = {"count": len(data["codes"]), "codes": codes} | {name: data[name] for name in arrays}
    decode = "for (const name of ['products', 'gram', 'points', 'means']) given[name] = decoded(given[name]);"
    plane = ran(
        blank, ("arrays", "plane"), f"(() => {{ {decode} return {PLANE}(planeOf(given, given.codes)); }})()", given
    )
    expected = exact_plane(codes)
    np.testing.assert_allclose(np.stack(plane[:2], axis=1), expected, atol=1e-4)
    labels = made_images().labels
    corners = [expected[labels == code].mean(axis=0) for code in codes]
    np.testing.assert_allclose(plane[2][: len(codes)], corners, atol=1e-4)


def test_two_classes_alone_lie_along_a_line_and_a_principal_axis(blank: Any) -> None:
    """The mean of all lies between both means, so it spans no plane with them."""
    from nctransfer.maps.class_planes import ClassPlanes

    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 5)) * [3, 2, 1, 1, 1] + np.repeat([[4, 1, 0, 0, 0], [-4, 0, 2, 0, 0]], 20, axis=0)
    z -= z.mean(axis=0)
    means = np.stack([z[:20].mean(axis=0), z[20:].mean(axis=0)])
    axes = np.linalg.svd(z, full_matrices=False)[2][:2]
    planes = ClassPlanes(
        codes=np.arange(2),
        products=(z @ means.T).astype(np.float32),
        gram=means @ means.T,
        points=(z @ axes.T).astype(np.float32),
        means=means @ axes.T,
    )
    given = {name: getattr(planes, name).ravel().tolist() for name in ("products", "gram", "points", "means")} | {
        "count": 2
    }
    found = ran(blank, ("plane",), f"{PLANE}(planeOf(given, [0, 1]))", given)
    e = (means[1] - means[0]) / np.linalg.norm(means[1] - means[0])
    axis = axes[np.argmax(1 - (axes @ e) ** 2)]
    across = axis - (axis @ e) * e
    middle = means.mean(axis=0)
    np.testing.assert_allclose(found[0], (z - middle) @ e, atol=1e-4)
    np.testing.assert_allclose(found[1], (z - middle) @ across / np.linalg.norm(across), atol=1e-4)
    assert len(found[2]) == 2


def test_two_classes_of_the_same_mean_span_no_plane(blank: Any) -> None:
    given = {"products": [1, 1, -1, -1], "gram": [1, 1, 1, 1], "points": [0] * 4, "means": [0] * 4, "count": 2}
    assert ran(blank, ("plane",), "planeOf(given, [0, 1])", given) is None


def test_borders_part_the_plane_where_two_means_are_equally_near(blank: Any) -> None:
    means = np.array([[0.0, 0.0], [4.0, 1.0], [1.0, 3.0]])
    lines = np.array(ran(blank, ("plane",), "bordersOf(given)", means.tolist()))
    for (a, b, c), (x, y, dx, dy) in zip([(0, 1, 2), (1, 2, 0), (2, 0, 1)], lines, strict=True):
        for far in (0.1, 2.0):
            distances = np.linalg.norm(means - [x + far * dx, y + far * dy], axis=1)
            assert distances[a] == pytest.approx(distances[b])
            assert distances[c] > distances[a]


def place_on_map(page: Any, points: np.ndarray, number: int) -> dict[str, float]:
    """Where an image is drawn, by the rule that all images fill 94% of the canvas."""
    box = page.locator("#image-map canvas").bounding_box()
    size = np.array([box["width"], box["height"]])
    low, high = points.min(axis=0), points.max(axis=0)
    unit = 0.94 * (size / (high - low)).min()
    place = size / 2 + (points[number] - (low + high) / 2) * unit * [1, -1]
    return {"x": float(place[0]), "y": float(place[1])}


def loneliest(points: np.ndarray) -> int:
    """The image that lies farthest from every other one."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return int(distances.min(axis=1).argmax())


def test_pointing_at_an_image_shows_it_and_its_nearest_images(plain: Open) -> None:
    images = made_images()
    view = next(b for s in made_page().sections for b in s.blocks if isinstance(b, ImageMapView)).map
    points = np.stack([view.x, view.y], axis=1)
    number = loneliest(points)
    with plain() as seen:
        page = seen.page
        page.locator("#image-map canvas").scroll_into_view_if_needed()
        page.hover("#image-map canvas", position=place_on_map(page, points, number))
        assert page.inner_text("#tooltip strong") == PLAIN[images.labels[number]]
        assert page.inner_text("#tooltip .image-id") == images.ids[number]
        assert page.locator("#tooltip .nearest li").count() == 5
        titles = [item.get_attribute("title") for item in page.locator("#tooltip .nearest li").all()]
        assert titles == [images.ids[i] for i in view.neighbours[number]]
        page.click("#image-map canvas", position=place_on_map(page, points, number))
        page.hover("h1")
        assert page.locator("#tooltip").is_hidden()
        assert page.inner_text("#image-map .live .image-id") == images.ids[number]
        canvas, card = (page.locator(f"#image-map {one}").bounding_box() for one in ("canvas", ".live"))
        assert canvas["y"] < card["y"] < card["y"] + card["height"] < canvas["y"] + canvas["height"]
        point = canvas["x"] + place_on_map(page, points, number)["x"]
        assert not card["x"] <= point <= card["x"] + card["width"]
        page.locator("#image-map .close").click()
        assert page.locator("#image-map .live").is_hidden()


def test_the_chosen_plane_is_drawn(plain: Open) -> None:
    images = made_images()
    points = exact_plane([3, 8])
    number = loneliest(points)
    with plain() as seen:
        page = seen.page
        view, first, second, _ = page.locator("#image-map select").all()
        view.select_option("plane")
        first.select_option(label=PLAIN[3])
        second.select_option(label=PLAIN[8])
        frames(page)
        assert shown(page, "#pins .chip bdi") == [PLAIN[3], PLAIN[8]]
        page.locator("#image-map canvas").scroll_into_view_if_needed()
        page.hover("#image-map canvas", position=place_on_map(page, points, number))
        assert page.inner_text("#tooltip .image-id") == images.ids[number]
        second.select_option(label=PLAIN[3])
        assert page.inner_text(".map-note") == "Choose different classes."


def test_a_pair_is_shown_on_the_map(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        page.locator("#closest-pairs button[data-plane]").nth(1).click()
        frames(page)
        values = [select.input_value() for select in page.locator("#image-map select").all()]
        assert values == ["plane", "4", "5", ""]


@pytest.mark.parametrize("classes", [7, 8])
def test_few_classes_have_a_colour_each_and_more_have_none(browser: Any, tmp_path: Path, classes: int) -> None:
    images = made_images(classes, 10)
    view = ImageMapView(map=image_map(images), alt="Points.")
    section = Section(id="image-map", title="Image map", says="It shows images.", blocks=(view,))
    content = made_page(
        sections=(section,),
        classes=PLAIN[:classes],
        counts=(10,) * classes,
        image_ids=images.ids,
        image_labels=images.labels,
    )
    (tmp_path / "few.html").write_text(render_page(content), encoding="utf-8")
    with visit(browser, tmp_path / "few.html") as seen:
        colour = "(chip) => getComputedStyle(chip, '::before').backgroundColor"
        dots = [chip.evaluate(colour) for chip in seen.page.locator(".legend button").all()]
    assert len(dots) == classes
    assert len(set(dots)) == (7 if classes == 7 else 1)
    assert seen.problems == []


def test_classes_of_the_closest_pairs_have_colours_until_others_are_chosen(browser: Any, tmp_path: Path) -> None:
    images = made_images(9, 10)
    view = ImageMapView(map=image_map(images), alt="Points.", closest=(5, 2, 7))
    section = Section(id="image-map", title="Image map", says="It shows images.", blocks=(view,))
    content = made_page(
        sections=(section,), classes=PLAIN[:9], counts=(10,) * 9, image_ids=images.ids, image_labels=images.labels
    )
    (tmp_path / "closest.html").write_text(render_page(content), encoding="utf-8")
    dot = "chips => chips.filter(chip => chip.style.getPropertyValue('--dot')).map(chip => Number(chip.dataset.class))"
    with visit(browser, tmp_path / "closest.html") as seen:
        chips = seen.page.locator(".legend button")
        assert chips.evaluate_all(dot) == [2, 5, 7]
        chosen = seen.page.locator("#image-map .controls select").evaluate_all("all => all.map(one => one.value)")
        assert chosen == ["pca", "5", "2", ""]
        chips.nth(3).click()
        frames(seen.page)
        assert chips.evaluate_all(dot) == [3]
        chips.nth(3).click()
        frames(seen.page)
        assert chips.evaluate_all(dot) == [2, 5, 7]
    assert seen.problems == []


def test_umap_comes_with_its_warning(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        assert "UMAP" not in page.inner_text("#image-map .map-note")
        page.locator("#image-map select").first.select_option("umap")
        assert "not facts" in page.inner_text("#image-map .map-note.notice")


def test_a_map_is_walked_by_keys(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        page.focus("#image-map canvas")
        page.keyboard.press("ArrowRight")
        ids = [page.inner_text("#image-map .live .image-id")]
        for key in ("ArrowRight", "ArrowUp", "ArrowLeft"):
            page.keyboard.press(key)
            ids.append(page.inner_text("#image-map .live .image-id"))
        assert len(set(ids)) > 2
        assert set(ids) <= set(made_images().ids)


# Findings


def test_the_csv_file_has_exactly_the_ticked_rows(plain: Open) -> None:
    findings = findings_of(made_page())
    chosen = [1, 6, 7]
    with plain() as seen:
        page = seen.page
        save = page.locator("#suspects button.primary")
        assert save.is_disabled()
        for place in chosen:
            page.locator(".finding input").nth(place).check()
        assert save.inner_text() == "Export 3 ticked as CSV"
        with page.expect_download() as started:
            save.click()
        assert started.value.suggested_filename == "suspects.csv"
        data = Path(started.value.path()).read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.count(b"\r\n") == 4
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert rows[0] == ["path", "label", "kind", "suggested", "like", "expected_precision"]
    ticked = [findings[place] for place in chosen]
    chances = ["0.870", "", ""]
    assert [one.expected_precision and round(one.expected_precision, 9) for one in ticked] == [0.87, None, None]
    expected = [
        [one.id, one.given, one.kind, one.suggested, one.like, chance]
        for one, chance in zip(ticked, chances, strict=True)
    ]
    expected[1][0] = "'" + expected[1][0]  # begins with =
    assert rows[1:] == expected


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_the_ticked_findings_become_labels(name: str, browser: Any, folder: Path) -> None:
    with visit(browser, folder / f"{name}.html") as seen:
        seen.page.get_by_label("Tick all that are shown").check()
        with seen.page.expect_download() as started:
            seen.page.locator("#suspects button.primary").click()
        ticked = read_ticked(started.value.path())
    findings = findings_of(made_page(HOSTILE) if name == "hostile" else made_page())
    decided = decide(ticked, {one.id: one.given for one in findings})
    assert decided.labels == {one.id: one.suggested for one in findings if one.suggested}
    assert decided.left_out == {one.id for one in findings if not one.suggested}


def test_ticking_all_ticks_what_the_filter_shows(plain: Open) -> None:
    with plain() as seen:
        page = seen.page
        every = page.get_by_label("Tick all that are shown")
        page.fill("#filter", "bear")
        frames(page)
        every.check()
        assert page.locator(".finding input:checked").count() == 2
        page.fill("#filter", "")
        frames(page)
        assert every.evaluate("(box) => box.indeterminate")
        every.check()
        assert page.locator(".finding input:checked").count() == 8
        page.fill("#filter", "bear")
        frames(page)
        assert page.inner_text("#suspects .primary") == "Export 8 ticked, 6 of them hidden by the filter"
        page.fill("#filter", "")
        frames(page)
        every.uncheck()
        assert page.locator(".finding input:checked").count() == 0


HARMFUL = ["=1+2", "+1", "-1", "@x", "\tx", "\rx"]
HARMLESS = ["plain", "a,b", 'say "yes"', "two\r\nlines", "a=b", "חתול", "", -0.5]


def test_cells_are_quoted_and_no_text_is_a_formula(blank: Any) -> None:
    text = ran(blank, ("csv",), "csvText([given])", HARMFUL + HARMLESS)
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert rows[0] == [*(f"'{cell}" for cell in HARMFUL), *map(str, HARMLESS)]


# Names


def test_names_show_as_text(browser: Any, folder: Path) -> None:
    with visit(browser, folder / "hostile.html") as seen:
        page = seen.page
        names = [text.strip() for text in column(page, 1)]
        for name, text in zip(HOSTILE, names, strict=True):
            plain = name.translate({ord(c): c.encode("unicode_escape").decode() for c in "\u202e\u202c\n"})
            assert text == plain.strip()
        assert page.locator("script").count() == 2
        assert page.locator("b").count() == 0
        assert page.locator("img:not([data-picture])").count() == 0
        for legend in page.locator("#image-map .legend button").all():
            legend.hover()
        page.hover("#class-map canvas", position=centre(page, "#class-map canvas"))
        assert page.locator("#tooltip bdi").count() >= 1
        page.locator(".finding input").first.check()
        with page.expect_download() as started:
            page.locator("#suspects button.primary").click()
        (row,) = csv.DictReader(io.StringIO(Path(started.value.path()).read_text("utf-8-sig"), newline=""))
        assert (row["label"], row["suggested"]) == HOSTILE[:2]
    assert seen.problems == []


# Looks


@pytest.mark.parametrize("width", [360, 768, 1440])
@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_no_page_scrolls_sideways(browser: Any, folder: Path, name: str, width: int) -> None:
    with visit(browser, folder / f"{name}.html", width=width) as seen:
        page = seen.page
        page.locator("#image-map .legend button").first.click()
        page.locator("main summary").first.click()
        frames(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = page.evaluate(
            "(width) => [...document.querySelectorAll('main canvas, main svg, main .table-box, #pins')]"
            ".filter((e) => e.closest('.scroll') === null && e.getBoundingClientRect().right > width).length",
            width,
        )
        assert wide == 0


def overlaps(page: Any, one: str, other: str) -> bool:
    boxes = [page.locator(selector).bounding_box() for selector in (one, other)]
    (x, y, w, h), (X, Y, W, H) = [[box[key] for key in ("x", "y", "width", "height")] for box in boxes]
    return x < X + W and x + w > X and y < Y + H and y + h > Y


def test_on_narrow_screens_the_contents_are_a_menu_in_the_bar(plain: Open) -> None:
    with plain(width=390) as seen:
        page = seen.page
        links = page.locator(".contents a")
        assert links.first.is_hidden()
        page.mouse.wheel(0, 3000)
        page.click(".contents summary")
        assert links.count() == len(made_page().sections)
        assert not overlaps(page, ".contents summary", ".filter")
        page.keyboard.press("Escape")
        assert links.first.is_hidden()
        page.click(".contents summary")
        links.filter(has_text="Confusion").click()
        assert links.first.is_hidden()
        assert page.evaluate("document.activeElement.textContent") == "Confusion"
        bar, title = (page.locator(selector).bounding_box() for selector in (".bar", "#confusion h2"))
        assert bar["y"] + bar["height"] < title["y"] < 300


@pytest.mark.parametrize("width", [390, 1200])
def test_highlighted_classes_stand_in_the_bar(plain: Open, width: int) -> None:
    with plain(width=width) as seen:
        page = seen.page
        for legend in page.locator("#image-map .legend button").all()[:7]:
            legend.click()
        frames(page)
        bar, pins = (page.locator(selector).bounding_box() for selector in (".bar", "#pins"))
        assert bar["y"] <= pins["y"]
        assert pins["y"] + pins["height"] <= bar["y"] + bar["height"] < 110
        assert not overlaps(page, "#pins", ".filter")
        assert width == 1200 or not overlaps(page, "#pins", ".contents summary")


def test_boxes_that_go_on_to_the_right_say_so(plain: Open) -> None:
    with plain(width=390) as seen:
        page = seen.page
        chart = page.locator("#learning-curve .scroll")
        hint = page.locator("#learning-curve .scroll-hint")
        assert page.locator("#data .table-box.goes-on").count() == 1
        assert hint.is_visible()
        assert chart.get_attribute("tabindex") == "0"
        chart.evaluate("(box) => box.scrollTo(900, 0)")
        frames(page)
        assert hint.is_hidden()
        assert chart.evaluate("(box) => [...box.classList]") == ["scroll", "is-wide", "went-on"]


def brightness(page: Any) -> float:
    return page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] / 255")


def test_it_is_dark_where_the_system_is_and_by_the_button(plain: Open) -> None:
    with plain(scheme="dark") as seen:
        page = seen.page
        assert brightness(page) < 0.2
        first = page.evaluate("document.querySelector('#class-map canvas').toDataURL()")
        page.click("#theme")
        frames(page)
        assert brightness(page) > 0.8
        assert page.evaluate("document.querySelector('#class-map canvas').toDataURL()") != first
    with plain(scheme="light") as seen:
        assert brightness(seen.page) > 0.8


def test_in_print_all_is_unfolded_and_light(plain: Open) -> None:
    with plain(scheme="dark") as seen:
        page = seen.page
        page.evaluate(
            """() => addEventListener("beforeprint", () => {
              window.printed = { closed: document.querySelectorAll("details:not([open])").length,
                                 theme: document.documentElement.dataset.theme };
            })"""
        )
        pdf = page.pdf()
        assert page.evaluate("window.printed") == {"closed": 1, "theme": "light"}  # a table of pictures stays folded
        assert page.locator("main details[open]").count() == 0
        assert brightness(page) < 0.2
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000


def test_in_print_no_picture_is_so_high_that_the_page_before_it_is_nearly_empty(plain: Open) -> None:
    most = 150 / 25.4 * 96  # millimetres, of the 267 of a page
    with plain() as seen:
        page = seen.page
        page.emulate_media(media="print")
        frames(page)
        heights = [one.bounding_box()["height"] for one in page.locator("main :is(canvas, .drawing svg)").all()]
        shapes = page.evaluate(
            """() => [...document.querySelectorAll("canvas")].map((one) =>
              [one.width / one.height, one.clientWidth / one.clientHeight])"""
        )
        page.emulate_media(media="screen")
    assert len(heights) == 5
    assert max(heights) <= most + 1
    for made, drawn in shapes:
        assert drawn == pytest.approx(made, rel=0.02)


# Numbers


def test_encoded_numbers_are_read_as_they_were(blank: Any) -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(7, 3))
    many = rng.normal(size=MOST_EXACT + 3) * 1e6
    many[[-1, -998, -1995]] = np.nan, np.inf, 0.0
    whole = np.arange(-3, 4)
    for values, kind in ((whole, "int32"), (few, "float32"), (few, "real"), (many, "real")):
        step = 1 if values.size < 100 else 997
        some = f"[...decoded(given)].filter((_, i) => i % {step} === {(values.size - 1) % step}).map(String)"
        read = [float(text.replace("Infinity", "inf")) for text in ran(blank, ("arrays",), some, encoded(values, kind))]
        expected = values.ravel()[(values.size - 1) % step :: step]
        np.testing.assert_allclose(read, expected, rtol=2**-11 if values is many else 1e-6)


def test_all_half_precision_numbers_are_read(blank: Any) -> None:
    read = ran(blank, ("arrays",), "[...halfNumbers()].map((value) => Number.isNaN(value) ? 'NaN' : value)")
    expected = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
    np.testing.assert_array_equal([float(value) for value in read], expected)


# Large pages


def test_a_thousand_classes_are_a_readable_matrix(browser: Any, tmp_path: Path) -> None:
    names = tuple(f"class {code}" for code in range(1000))
    values = np.random.default_rng(0).random((1000, 1000), dtype=np.float32) + 1
    matrix = dataclasses.replace(
        matrix_of(made_page(), "class-distances"), values=values, codes=tuple(range(1000)), table=None
    )
    section = dataclasses.replace(made_page().sections[2], blocks=(matrix,))
    path = tmp_path / "large.html"
    page_of = made_page(sections=(section,), classes=names, counts=(5,) * 1000, thumbnails={})
    path.write_text(render_page(page_of), encoding="utf-8")
    assert path.stat().st_size < 3_500_000
    with visit(browser, path) as seen:
        page = seen.page
        page.focus("#class-map canvas")
        for key in ("ArrowDown", "ArrowDown", *["+"] * 10, "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        said = page.inner_text("#class-map .live").split("\n")
        assert said == [f"{values[1, 2]:.2f}", "class 1 (n = 5) and class 2 (n = 5)"]
        frames(page)
        assert colours(page, "#class-map canvas") > 20
    assert seen.problems == []


def drawn_from(page: Any, canvas: str) -> int:
    """The leftmost pixel of a canvas, halfway down, that something is drawn on."""
    return page.evaluate(
        """(selector) => {
          const canvas = document.querySelector(selector);
          const { data } = canvas.getContext("2d").getImageData(0, canvas.height / 2, canvas.width, 1);
          return new Uint32Array(data.buffer).findIndex((pixel) => pixel !== 0);
        }""",
        canvas,
    )


def test_a_matrix_without_room_for_names_has_no_margin_for_them(browser: Any, tmp_path: Path) -> None:
    names = tuple(f"a class of a long name {code}" for code in range(60))
    values = np.random.default_rng(0).random((60, 60), dtype=np.float32) + 1
    matrix = dataclasses.replace(
        matrix_of(made_page(), "class-distances"), values=values, codes=tuple(range(60)), table=None
    )
    section = dataclasses.replace(made_page().sections[2], blocks=(matrix,))
    content = made_page(sections=(section,), classes=names, counts=(5,) * 60, thumbnails={})
    (tmp_path / "narrow.html").write_text(render_page(content), encoding="utf-8")
    with visit(browser, tmp_path / "narrow.html", width=390) as seen:
        page = seen.page
        hint = page.locator(".names-hint")
        assert hint.is_visible()
        assert drawn_from(page, "canvas") == 0
        size = page.locator("canvas").bounding_box()
        page.focus("canvas")
        for key in ("ArrowDown", *["+"] * 5):
            page.keyboard.press(key)
        frames(page)
        assert hint.is_hidden()
        assert drawn_from(page, "canvas") > 0
        again = page.locator("canvas").bounding_box()
        assert (again["width"], again["height"]) == (size["width"], size["height"])


def matrix_of(content: PageContent, name: str) -> Matrix:
    return next(b for s in content.sections for b in s.blocks if isinstance(b, Matrix) and b.name == name)


def findings_of(content: PageContent) -> tuple[Finding, ...]:
    return next(b for s in content.sections for b in s.blocks if isinstance(b, FindingList)).findings
