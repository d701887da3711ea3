"""A figure as SVG that stands inside a page: it takes the page's font and colours, in light and in dark.

Matplotlib writes a file of its own: with a prolog, a style sheet that would reach the whole page, ids that every figure
repeats, six decimals, and black on white. Here its tree of elements is rewritten:

- text and lines that are black take the colour of the page's text (``currentColor``), greys ``var(--muted)``, the
  palette ``var(--c0)`` to ``var(--c6)``, and white marks ``var(--background)``; each variable has the colour of the
  file as its fallback. Backgrounds are left out.
- ids that something refers to get the name of the figure; all others are left out.
- an artist with the gid ``class-3`` becomes an element with ``data-class="3"``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from nctransfer.figures.alternative_text import SVG, XLINK, alternative_text
from nctransfer.figures.figure_files import svg_of
from nctransfer.figures.style import COLOURS

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from matplotlib.figure import Figure

__all__ = ["inline_svg"]

DECIMALS = 2  # of coordinates, in points: far finer than a pixel
VARIABLES = {colour: f"var(--c{number}, {colour})" for number, colour in enumerate(COLOURS)}
NUMBERS = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
MEASURED = ("d", "x", "y", "width", "height", "transform", "points", "x1", "y1", "x2", "y2", "cx", "cy", "r")
CLASS = "class-"  # gids of what belongs to a class begin so
DROPPED = ("metadata", "style", "title", "desc")
Style = dict[str, str]


def inline_svg(figure: Figure, name: str, label: str | None = None) -> str:
    """A figure as an ``<svg>`` element for a page, as wide as the place where it stands.

    Args:
        figure: The figure.
        name: A name that no other figure of the page has: letters, digits and hyphens, a letter first.
        label: What the figure shows, for readers who cannot see it; by default its titles, axes and caption.

    Raises:
        ValueError: The name has other characters.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII):
        raise ValueError(f"a figure's name consists of letters, digits and hyphens; got {name!r}")
    drawn = ElementTree.fromstring(svg_of(figure, transparent=True))  # noqa: S314 - written by matplotlib a moment ago
    root = _Rewriting(name, drawn).element(drawn)
    assert root is not None
    root.attrib = {
        "viewBox": _rounded(drawn.attrib["viewBox"]),
        "width": "100%",
        "role": "img",
        "aria-label": label if label is not None else ". ".join(filter(None, alternative_text(figure))),
        "style": "font-family: inherit; fill: currentColor; stroke-linejoin: round; stroke-linecap: butt",
    }
    return ElementTree.tostring(root, encoding="unicode")


class _Rewriting:
    """The tree of one figure, rewritten element by element."""

    def __init__(self, name: str, root: Element) -> None:
        used = {target for element in root.iter() for target in _targets(element)}
        self._ids = {id_: f"{name}-{number}" for number, id_ in enumerate(_in_order(root, used))}
        self._marks = {
            element.attrib["id"]: _style(element.get("style", ""))
            for element in root.iter()
            if element.get("id") in used
        }

    def element(self, old: Element) -> Element | None:
        """The element as it stands in the page; ``None`` if nothing is left of it."""
        tag = old.tag.removeprefix(f"{{{SVG}}}")
        if tag in DROPPED:
            return None
        new = ElementTree.Element(tag, self._attributes(tag, old))
        if tag in ("text", "tspan"):
            new.text = old.text
        for child in map(self.element, old):
            if child is not None:
                new.extend(child if child.tag == "g" and not child.attrib else [child])
        if tag in ("text", "tspan"):
            for child, was in zip(new, old, strict=True):
                child.tail = was.tail
        is_empty = len(new) == 0 and (tag in ("g", "defs") or (tag == "path" and not _shows(new)))
        return None if is_empty else new

    def _attributes(self, tag: str, old: Element) -> dict[str, str]:
        """The attributes, with rounded numbers and the ids of this figure."""
        kept: dict[str, str] = {}
        style: Style = {}
        for long, value in old.attrib.items():
            key = long.removeprefix(f"{{{XLINK}}}")
            if key == "id":
                if value.startswith(CLASS):
                    kept["data-class"] = value.removeprefix(CLASS)
                elif value in self._ids:
                    kept["id"] = self._ids[value]
            elif key == "href":
                kept["href"] = f"#{self._ids[value[1:]]}" if value.startswith("#") else "".join(value.split())
            elif key == "clip-path":
                kept[key] = self._referring(value)
            elif key in ("style", "fill", "stroke"):
                style |= _style(value if key == "style" else f"{key}: {value}")
            elif key in MEASURED:
                kept |= {key: short} if (short := _rounded(value)) else {}
            else:
                kept[key] = value
        if tag == "use":  # what the mark says itself need not be repeated
            mark = self._marks[old.attrib[f"{{{XLINK}}}href"][1:]]
            style = {name: what for name, what in style.items() if mark.get(name) != what}
        return kept | (
            {"style": "; ".join(f"{name}: {self._referring(what)}" for name, what in style.items())} if style else {}
        )

    def _referring(self, value: str) -> str:
        """The value, with the id of this figure if it refers to one."""
        return f"url(#{self._ids[target]})" if (target := _target(value)) else value


def _targets(element: Element) -> list[str]:
    """The ids that an element refers to."""
    href = element.get(f"{{{XLINK}}}href", "")
    values = (element.get("clip-path", ""), *_style(element.get("style", "")).values())
    return [href[1:]] * href.startswith("#") + [target for value in values if (target := _target(value))]


def _target(value: str) -> str:
    """The id that a value such as ``url(#p1)`` refers to; "" for another value."""
    return value[5:-1] if value.startswith("url(#") else ""


def _in_order(root: Element, used: set[str]) -> list[str]:
    return [id_ for element in root.iter() if (id_ := element.get("id", "")) in used]


def _rounded(text: str) -> str:
    """Coordinates, or a transformation, with few decimals; "" for a rotation by nothing."""
    if text.startswith(("rotate(-0 ", "rotate(0 ")):
        return ""
    return " ".join(NUMBERS.sub(lambda found: f"{round(float(found[0]), DECIMALS) + 0.0:g}", text).split())


def _style(text: str) -> Style:
    """The declarations of a style attribute, without the font's family and in the colours of the page."""
    found: Style = {}
    for declaration in filter(str.strip, text.split(";")):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":  # "italic 700 10px 'DejaVu Sans', …"
            words = value.split()
            size = next(word for word in words if word.endswith("px"))
            weights = [word for word in words[: words.index(size)] if word == "bold" or word.isdigit()]
            found |= {"font-weight": weights[0], "font-size": size} if weights else {"font-size": size}
        elif key in ("fill", "stroke"):
            found[key] = _colour(value)
        elif key != "font-family":
            found[key] = NUMBERS.sub(lambda number: f"{round(float(number[0]), DECIMALS):g}", value)
    return found


def _colour(value: str) -> str:
    if value in VARIABLES:
        return VARIABLES[value]
    if value == "#000000":
        return "currentColor"
    if value == "#ffffff":
        return "var(--background, #ffffff)"
    red, green, blue = value[1:3], value[3:5], value[5:7]
    return f"var(--muted, {value})" if value.startswith("#") and red == green == blue else value


def _shows(path: Element) -> bool:
    """Whether a path is more than a background that has no colour."""
    return "id" in path.attrib or path.get("style", "") != "fill: none"
