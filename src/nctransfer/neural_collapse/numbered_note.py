"""Notes around a number, which become one where several reports have them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["NumberedNote", "one_note"]


class NumberedNote(str):
    """A note that another report may have with another number.

    Args:
        words: The note, with ``{number}`` in place of its number, and ``{detail}`` in place of its detail.
        number: The number.
        form: How the number is written, as in :func:`format`.
        detail: What is said beside the number of one report, and left out beside the range of several.

    >>> NumberedNote("{number} of 9 pairs are close{detail}", 2, ",", ": a/b, a/c")
    '2 of 9 pairs are close: a/b, a/c'
    """

    __slots__ = ("parts",)
    parts: tuple[str, float, str, str]

    def __new__(cls, words: str, number: float, form: str, detail: str = "") -> NumberedNote:
        """Fill the number and the detail in."""
        note = super().__new__(cls, words.format(number=format(number, form), detail=detail))
        note.parts = (words, number, form, detail)
        return note

    def __getnewargs__(self) -> tuple[str, float, str, str]:  # type: ignore[override]
        """What a copy is made from."""
        return self.parts

    @property
    def words(self) -> str:
        """The note without its number: what it has in common with those of other reports."""
        return self.parts[0]


def one_note(notes: Sequence[str]) -> str:
    """One note for several that are equal but for their numbers: with the range of these.

    Args:
        notes: The notes; those with numbers have the same words.

    >>> shares = [NumberedNote("{number} is noise", share, ".0%") for share in (0.64, 0.24, 0.3)]
    >>> one_note(shares), one_note(["a", "a"])
    ('24% to 64% is noise', 'a')
    """
    numbered = [note for note in notes if isinstance(note, NumberedNote)]
    if len(set(notes)) == 1 or not numbered:
        return notes[0]
    words, _, form, _ = numbered[0].parts
    ends = (min(note.parts[1] for note in numbered), max(note.parts[1] for note in numbered))
    shown = dict.fromkeys(format(end, form) for end in ends)
    return words.format(number=" to ".join(shown), detail="")
