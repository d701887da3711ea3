"""What a figure shows, in words, for readers who cannot see it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

__all__ = ["alternative_text", "described_svg"]

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def alternative_text(figure: Figure) -> tuple[str, str]:
    """The title of a figure, and a description that is made of what is written in it: axes, legends, the caption."""
    titles = [title for axes in figure.axes if (title := axes.get_title() or axes.get_title("left"))]
    title = _read(figure.get_suptitle()) or "; ".join(map(_read, titles))
    parts = [*filter(None, map(_axes_in_words, figure.axes)), _legends(figure.legends), _read(figure.get_supxlabel())]
    return title, ". ".join(part.rstrip(".") for part in parts if part)


def _axes_in_words(axes: Axes) -> str:
    title = _read(axes.get_title() or axes.get_title("left"))
    y, x = _read(axes.get_ylabel()), _read(axes.get_xlabel())
    plotted = f"{y} over {x}" if x and y else x or y
    legend = axes.get_legend()
    return ": ".join(filter(None, (title, "; ".join(filter(None, (plotted, _legends([legend] if legend else [])))))))


def _legends(legends: list[Legend]) -> str:
    return ", ".join(_read(text.get_text()) for legend in legends for text in legend.get_texts())


def _read(text: str) -> str:
    """A text of matplotlib as it reads."""
    return " ".join(text.replace(r"\$", "$").split())


def described_svg(content: bytes, figure: Figure) -> bytes:
    """SVG of a figure with its title and its description, by the rules of accessible pictures."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(content)  # noqa: S314 - written by matplotlib a moment ago
    for found in root.findall(f"{{{SVG}}}metadata"):
        root.remove(found)
    for place, (tag, text) in enumerate(zip(("title", "desc"), alternative_text(figure), strict=True)):
        if text:
            element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": tag})
            element.text, element.tail = text, "\n "
            root.insert(place, element)
    root.set("role", "img")
    root.set("aria-labelledby", "title desc")
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written
