"""Results as flat rows for CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nctransfer.escaping import guarded
from nctransfer.report.format import Format, Page, Presentation
from nctransfer.report.sheet import plain

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CSV", "frame_of", "to_frame"]


def to_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of JSON as a flat table: nested names joined by a point, lists by a space."""
    import pandas as pd

    frame = pd.json_normalize([dict(row) for row in rows])
    return frame.map(lambda cell: " ".join(map(str, cell)) if isinstance(cell, list | tuple) else cell)


def frame_of(result: Presentation) -> pd.DataFrame:
    """The flat rows of a result."""
    return result.rows() if callable(result.rows) else to_frame(result.rows)


def _render(result: Presentation, page: Page) -> str:
    import numpy as np
    import pandas as pd

    frame = frame_of(result).copy()
    for name in frame.columns[[not isinstance(kind, np.dtype) or kind.hasobject for kind in frame.dtypes]]:
        # as objects, since strings of Arrow cannot hold names of files that are not UTF-8
        frame[name] = pd.Series([guarded(cell) for cell in frame[name]], index=frame.index, dtype=object)
    text = frame.rename(columns=guarded).to_csv(index=False)
    return "\n".join(map(plain, text.split("\n"))) if page.is_terminal else text


CSV = Format(name="csv", meaning="one line per result", suffixes=(".csv",), render=_render)
