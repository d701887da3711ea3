"""The one style of all figures: sizes, colours, captions, and files that are the same for the same numbers."""

from __future__ import annotations

import functools
import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from nctransfer.errors import SettingError, counted

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from nctransfer.features.feature_info import FeatureInfo

__all__ = [
    "COLOURS",
    "COLUMN",
    "FORMATS",
    "GREY",
    "PAGE",
    "SMALL",
    "add_caption",
    "any_script",
    "caption_of",
    "check_figure",
    "in_style",
    "logarithmic",
    "new_figure",
    "percent_axis",
    "plain_numbers",
    "plain_text",
    "save_figure",
    "short_text",
    "style",
    "svg_of",
]

FORMATS = (".svg", ".png", ".pdf")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")  # Okabe, Ito: for all eyes
GREY = "#999999"  # of what is not the point: help lines, controls
COLUMN, PAGE = 3.4, 7.2  # inches: the width of a column of a paper, and of a page
SMALL = 7  # points: the caption, and names in a crowd

FONTS = (  # the first is matplotlib's own; the others have further scripts, and are used if they are installed
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "Noto Sans Arabic",
    "Noto Naskh Arabic",
    "Noto Sans Devanagari",
    "Noto Sans Hebrew",
    "Noto Sans Thai",
    "Droid Sans Fallback",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
)
SETTINGS: Any = {
    "font.size": 8.5,
    "figure.titlesize": 9.5,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "black",
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "nctransfer",
    "pdf.fonttype": 42,
}

STEPS: tuple[tuple[float, ...], ...] = (  # of the numbers on a logarithmic axis, within a power of ten
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
)
P = ParamSpec("P")


@contextmanager
def style() -> Iterator[None]:
    """The settings of matplotlib under which figures are made and drawn."""
    import matplotlib as mpl
    from cycler import cycler

    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's own settings are
        mpl.rcParams.update(SETTINGS)
        mpl.rcParams["font.family"] = [*_fonts(), "sans-serif"]  # a name takes each letter from the first that has it
        mpl.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)
        with any_script():
            yield


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Give a function that makes a figure this style, whatever matplotlib's settings are."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style():
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, whose parts make room for each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _fonts() -> list[str]:
    """Those of our fonts that are installed."""
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in there]


# Captions


def caption_of(info: FeatureInfo) -> str:
    """What a figure is about: backbone, data, number of classes, number of images; as far as they are known.

    >>> from nctransfer.features.feature_info import FeatureInfo
    >>> caption_of(FeatureInfo("arrays", model="resnet50", data="/my/pets", samples=7_390, classes=37))
    'resnet50, pets, 37 classes, 7,390 images'
    >>> caption_of(FeatureInfo("pets.parquet", samples=100, classes=5, split="test"))
    'pets.parquet, split test, 5 classes, 100 images'
    """
    path = Path(info.data or "")
    data = path.name if path.is_absolute() else info.data
    parts = [info.model, data] if info.model or data else [info.id]
    if info.layer != "feature":
        parts.append(info.layer)
    if info.split:
        parts.append(f"split {info.split}")
    if info.classes is not None:
        parts.append(counted(info.classes, "class", "classes"))
    if info.samples is not None:
        parts.append(counted(info.samples, "image"))
    return ", ".join(part for part in parts if part)


def add_caption(figure: Figure, *sentences: str) -> None:
    """Place a caption below a figure, small: first what it is about, then what a reader should know; "" is left out."""
    text = ". ".join(sentence.rstrip(".") for sentence in sentences if sentence)
    if not text:
        return
    wide = int(figure.get_figwidth() * 72 / (0.51 * SMALL))  # letters are about half as wide as high
    lines = textwrap.wrap(plain_text(text), wide)
    figure.supxlabel("\n".join(lines), fontsize=SMALL, x=0.01, ha="left", color=COLOURS[6])


# Axes


def percent_axis(axis: Axis) -> None:
    """Label an axis of shares by percentages, with as many digits as they need."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 2):g}%"))


def plain_numbers(axis: Axis, subs: Sequence[float] = (1, 1.5, 2, 3, 5, 7)) -> None:
    """Label a logarithmic axis by plain numbers, not by powers: these multiples of each power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def logarithmic(axis: Axis, low: float, high: float, most: int = 4) -> None:
    """Make an axis logarithmic, with plain numbers at some places between two values: a few, but three if possible.

    Args:
        axis: The axis.
        low: The smallest value, above zero.
        high: The largest value.
        most: How many numbers there is room for.
    """
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

    is_x = axis is axis.axes.xaxis
    (axis.axes.set_xscale if is_x else axis.axes.set_yscale)("log")
    axis.set_major_locator(FixedLocator(_round_numbers(low, high, most)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _round_numbers(low: float, high: float, most: int = 4) -> list[float]:
    """Numbers with few digits from one value to another, a few of them, evenly on a logarithmic axis.

    >>> _round_numbers(0.1, 30), _round_numbers(0.9, 1.6), _round_numbers(1.16, 1.39)
    ([0.1, 1.0, 10.0], [0.9, 1.2, 1.6], [1.2, 1.25, 1.3, 1.35])
    """
    from matplotlib.ticker import MaxNLocator

    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    best: list[float] = []
    for steps in STEPS:
        every = [float(f"{step}e{decade}") for decade in decades for step in steps]
        found = [number for number in every if low * (1 - 1e-9) <= number <= high * (1 + 1e-9)]
        if len(found) > most:
            return best if len(best) >= 3 else found[:: -(-len(found) // most)]
        best = found
    if len(best) >= 3:
        return best
    ticks = MaxNLocator(most + 1).tick_values(low, high)
    return [float(f"{number:.6g}") for number in ticks if low <= number <= high] or [float(f"{low:.3g}")]


# Texts


def plain_text(text: str) -> str:
    """Text that matplotlib can draw and does not read as mathematics."""
    return "".join(c if c.isprintable() or c in JOINERS else "\ufffd" for c in text).replace("$", r"\$")


JOINERS = "\u200c\u200d"  # between letters of Persian or Hindi, and in emoji


def short_text(text: str, most: int) -> str:
    """A name that fits: if it has more than so many characters, its middle is left out.

    >>> short_text("short", 12), short_text("a name that is rather long", 12)
    ('short', 'a name…long')
    """
    if len(text) <= most:
        return text
    before = -(-most * 3 // 5)
    return f"{text[: before - 1].rstrip()}…{text[len(text) - (most - before) :].lstrip()}"


@contextmanager
def any_script() -> Iterator[None]:
    """No warnings about names in a script that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")
        yield


# Files


def check_figure(path: Path) -> None:
    """That a figure can be saved under this name.

    Raises:
        SettingError: The suffix is of no known format.
    """
    if path.suffix.lower() not in FORMATS:
        raise SettingError(f"the figure {str(path)!r} has no known format", f"name it {', '.join(FORMATS)}")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure in the format that the suffix says; the same figure is the same file.

    An SVG file holds a title and a description for readers who cannot see it.

    Raises:
        OSError: It cannot be written.
    """
    from nctransfer.figures.alternative_text import described_svg

    kind = path.suffix.lower().removeprefix(".")
    if kind == "svg":
        path.write_bytes(described_svg(svg_of(figure), figure))
        return
    with style():
        figure.savefig(path, bbox_inches="tight", metadata={"CreationDate": None} if kind == "pdf" else None)


def svg_of(figure: Figure, *, transparent: bool = False) -> bytes:
    """A figure as SVG, as matplotlib writes it.

    Args:
        figure: The figure.
        transparent: Whether it and its axes have no background.
    """
    content = io.BytesIO()
    with style():
        figure.savefig(content, format="svg", bbox_inches="tight", metadata={"Date": None}, transparent=transparent)
    return content.getvalue()
