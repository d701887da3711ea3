"""What decides about the predictions of a run: a run that goes on must have the same head, images and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nctransfer.errors import NCTransferError
from nctransfer.sources.layout import as_unicode

__all__ = ["RunSettings"]

FORMAT = 1
KIND = "predictions"


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What the first line of a journal says.

    Attributes:
        head: The digest of the head's file.
        source: The id of the source; images in it may come and go.
        images: The name of the source, as the user gave it.
        max_error: The largest error among the answered images; ``None`` if it has no limit.
        max_lost: The share of good images that may be held back.
        split: The split that was selected; ``None`` for all images.
    """

    head: str
    source: str
    images: str
    max_error: float | None
    max_lost: float
    split: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The first line of a journal as an object of JSON.

        >>> given = RunSettings(head="ab", source="new-1f", images="new", max_error=None, max_lost=0.05)
        >>> given.to_dict()["nctransfer"], given.to_dict()["source"]
        ('predictions', 'new-1f')
        """
        names = {"source": as_unicode(self.source), "images": as_unicode(self.images)}
        return {"nctransfer": KIND, "format": FORMAT, **asdict(self), **names}

    def check(self, begin: Mapping[str, Any] | None, path: str) -> None:
        """Refuse a journal of a run with other settings.

        Args:
            begin: The first line of the journal; ``None`` if it is no object of JSON.
            path: The journal.

        Raises:
            NCTransferError: The journal is of another head, of other images or of other limits, or is no journal.
        """
        wanted = self.to_dict()
        problem, hint = "", "start anew with --overwrite"
        if begin is None or begin.get("nctransfer") != KIND:
            problem = "does not hold predictions"
        elif begin.get("format") != FORMAT:
            problem = f"has the format {begin.get('format')}, and this version of nctransfer writes {FORMAT}"
        elif begin.get("head") != wanted["head"]:
            problem, hint = "holds predictions of another head", f"give the same head, or {hint}"
        elif begin.get("source") != wanted["source"]:
            name = begin.get("images")
            place = " in another folder" if name == wanted["images"] else ""
            problem, hint = f"holds predictions of other images: {name!r}{place}", f"give the same images, or {hint}"
        elif changed := ", ".join(_changed(begin, wanted)):
            problem, hint = f"holds predictions with other settings: {changed}", f"give the same settings, or {hint}"
        if problem:
            raise NCTransferError(f"{path!r} {problem}", hint)


def _changed(begin: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """The options that differ, with both values."""
    for option in ("--max-error", "--max-lost"):
        name = option.removeprefix("--").replace("-", "_")
        if begin.get(name) != wanted[name]:
            yield f"{option} {_percent(begin.get(name))} instead of {_percent(wanted[name])}"
    if begin.get("split") != wanted["split"]:
        yield f"--split {begin.get('split')} instead of {wanted['split']}"


def _percent(limit: object) -> str:
    """A limit as an option takes it.

    >>> _percent(0.05), _percent(None), _percent(0.0)
    ('5%', 'none', 'none')
    """
    return f"{limit * 100:.6g}%" if isinstance(limit, int | float) and limit else "none"
