"""The one style of all figures: sizes, colours, fonts, captions."""

from __future__ import annotations

import functools
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from nctransfer.errors import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nctransfer.features.feature_info import FeatureInfo

__all__ = [
    "COLOURS",
    "COLUMN",
    "GREY",
    "PAGE",
    "SMALL",
    "add_caption",
    "any_script",
    "caption_of",
    "in_style",
    "new_figure",
    "plain_text",
    "style",
]

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


# Texts


def plain_text(text: str) -> str:
    """Text that matplotlib can draw and does not read as mathematics."""
    return "".join(c if c.isprintable() or c in JOINERS else "\ufffd" for c in text).replace("$", r"\$")


JOINERS = "\u200c\u200d"  # between letters of Persian or Hindi, and in emoji


@contextmanager
def any_script() -> Iterator[None]:
    """No warnings about names in a script that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")
        yield
