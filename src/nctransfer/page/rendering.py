"""The content of a page as one HTML file, which refers to nothing outside it.

All text is escaped by Jinja. The policy in the head of the page lets a browser run one script, by its hash, and load
nothing but pictures that the page holds.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nctransfer.page.blocks import FindingList, ImageMapView, ImageStrip, Matrix, PairCard, Verdict
from nctransfer.page.page_data import blocks_of, json_for_page, page_data
from nctransfer.page.visible_text import isolated, visible

if TYPE_CHECKING:
    from jinja2 import Environment, PackageLoader

    from nctransfer.page.blocks import Block, PageContent

__all__ = ["SCRIPTS", "render_page"]

RUNS = {Verdict: "Verdicts", ImageStrip: "Gallery", PairCard: "Pairs"}  # kinds of blocks that stand side by side

SCRIPTS = (
    "document",
    "arrays",
    "numbers",
    "csv",
    "plane",
    "escape",
    "highlight",
    "colours",
    "theme",
    "tooltip",
    "images",
    "tables",
    "roving",
    "scrolling",
    "filter",
    "findings",
    "canvas",
    "matrix",
    "image_map",
    "enlarge",
    "contents",
    "start",
)
"""The files that the script of a page consists of, in this order."""

Shown = tuple[str, "Block | Sequence[Block]"]


def render_page(content: PageContent) -> str:
    """The page as HTML. The same content gives the same text.

    Args:
        content: What is on it. The numbers of images and the codes of classes must be those of its images and classes.
    """
    environment = _environment()
    script = _script(environment)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    from markupsafe import Markup

    return environment.get_template("page.html.j2").render(
        content=content,
        policy=policy,
        style=Markup(_style(environment)),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own files
        data=Markup(json_for_page(page_data(content))),  # noqa: S704 - no markup can begin in it
        verdicts=_verdicts_below(content),
        grouped=_grouped,
        natural_width=_natural_width,
        **_references(content),
    )


def _environment() -> Environment:
    """Jinja, set up so that no text reaches the page unescaped and no name that is missing passes in silence."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nctransfer.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["drawn"] = _drawn
    return environment


def _finalized(value: Any) -> Any:
    """A value that a template shows: plain text loses what cannot be seen, markup stays."""
    return isolated(visible(value)) if type(value) is str else value


def _drawn(svg: str) -> Any:
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704 - of figures.inline_svg, which escapes its texts


def _source(environment: Environment, name: str) -> str:
    loader: PackageLoader = environment.loader  # type: ignore[assignment]
    return loader.get_source(environment, name)[0]


def _script(environment: Environment) -> str:
    """All scripts as one, in a scope of its own."""
    parts = "\n".join(_source(environment, f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _style(environment: Environment) -> str:
    """The style sheet, in which the dark colours hold by the system's choice and by the reader's."""
    dark = _source(environment, "dark_colours.css")
    return (
        _source(environment, "page.css")
        + "@media screen and (prefers-color-scheme: dark) { :root:not([data-theme=light]) {\n"
        + dark
        + "} }\n@media screen { :root[data-theme=dark] {\n"
        + dark
        + "} }\n"
    )


def _grouped(blocks: Sequence[Block]) -> Iterator[Shown]:
    """Each block with its kind; verdicts, strips of images and pairs in a row become one block."""
    for kind, run in itertools.groupby(blocks, type):
        if kind in RUNS:
            yield RUNS[kind], list(run)
        else:
            yield from ((kind.__name__, block) for block in run)


def _verdicts_below(content: PageContent) -> list[Verdict]:
    """The verdicts that stand too far down to be seen first; the top of the page repeats them in short."""
    return [block for section in content.sections[1:] for block in section.blocks if isinstance(block, Verdict)]


def _references(content: PageContent) -> dict[str, Any]:
    """What templates look up: classes by name, the place of a block among those of its kind, the class of an image."""
    code_of = {name: code for code, name in enumerate(content.classes)}
    places: dict[int, int] = {}
    for kind in (Matrix, ImageMapView, FindingList):
        same = (block for block in blocks_of(content) if isinstance(block, kind))
        places |= {id(block): place for place, block in enumerate(same)}

    def label_of(image: int) -> str:
        code = -1 if content.image_labels is None else int(content.image_labels[image])
        return content.classes[code] if code >= 0 else ""

    def short_id(image: int) -> str:
        return re.split(r"[/\\]", content.image_ids[image])[-1] or content.image_ids[image]

    return {
        "code_of": code_of,
        "place_of": lambda block: places[id(block)],
        "label_of": label_of,
        "short_id": short_id,
    }


def _natural_width(svg: str) -> int:
    """The width in CSS pixels at which the text of a figure has the size that it was drawn with.

    >>> _natural_width('<svg viewBox="0 0 300 200">')
    400
    """
    found = re.search(r'viewBox="[\d.e+-]+ [\d.e+-]+ ([\d.]+)', svg)
    return math.ceil(float(found[1]) * 4 / 3) if found else 640  # a point is 4/3 of a pixel
