"""What stands below the axes of a figure: a legend and a caption, which take as much room as they need."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import short_text
from nctransfer.figures.style import add_caption, plain_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

__all__ = ["LONGEST", "add_foot", "name_of", "names_of"]

LONGEST = 40  # letters of a name
GAP = 5  # points


def name_of(name: str, most: int = LONGEST) -> str:
    r"""A name as a figure shows it: not too long, and not read as mathematics.

    >>> name_of("a$b"), name_of(""), name_of("_a")
    ('a\\$b', "''", ' _a')
    """
    shown = plain_text(short_text(name, most)) or "''"
    return f" {shown}" if shown.startswith("_") else shown  # matplotlib leaves out names that begin with _


def names_of(names: Sequence[str], most: int = LONGEST) -> list[str]:
    """Names beside each other as a figure shows them. Those that would look the same lose the words they begin with.

    >>> names_of(["the old ward 1 of the town", "the old ward 12 of the town", "roof"], 12)
    ['…1 of t…town', '…12 of…town', 'roof']
    """
    shown = [name_of(name, most) for name in names]
    for text in [text for text, count in Counter(shown).items() if count > 1]:
        places = [place for place, one in enumerate(shown) if one == text]
        if start := _common_words([names[place] for place in places]):
            for place in places:
                shown[place] = name_of(f"…{names[place][start:]}", most)
    return shown


def _common_words(names: Sequence[str]) -> int:
    """The number of letters of the whole words that all names begin with."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return max((place for place, letters in enumerate(same, 1) if not letters[0].isalnum()), default=0)


def add_foot(figure: Figure, caption: tuple[str, ...], entries: Mapping[str, Artist]) -> None:
    """Write a legend and a caption below everything else, and fix the layout.

    Args:
        figure: A figure with constrained layout, which has everything else.
        caption: The sentences of the caption.
        entries: The legend: what is drawn, by its name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    add_caption(figure, *caption)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    if entries:
        wide, high = (float(size) * figure.dpi for size in figure.get_size_inches())
        gap = GAP / 72 * figure.dpi
        figure.draw_without_rendering()  # which places the caption
        caption_text = next((text for text in figure.texts if text.get_text() == figure.get_supxlabel()), None)
        bottom = gap + (caption_text.get_window_extent(renderer).y1 if caption_text is not None else 0)
        for columns in range(len(entries), 0, -1):
            legend = figure.legend(
                [*entries.values()],
                [*entries],
                loc="lower center",
                bbox_to_anchor=(0.5, bottom / high),
                borderaxespad=0,
                ncols=columns,
            )
            box = legend.get_window_extent(renderer)
            if box.width <= wide - 2 * gap or columns == 1:
                break
            legend.remove()
        share = (box.height + gap) / high
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.set(rect=(0, share, 1, 1 - share))  # type: ignore[call-arg]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
