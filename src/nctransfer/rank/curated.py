"""The backbones that are tried if no other is named: a list of timm's names, each with a reason."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

__all__ = ["CuratedModel", "curated_models"]


@dataclass(frozen=True, kw_only=True)
class CuratedModel:
    """A backbone of the list.

    Attributes:
        model: timm's name with its tag.
        why: Why it is on the list, in one sentence.
        img_size: The width and height of its images in pixels; ``None`` for the model's own size.
    """

    model: str
    why: str
    img_size: int | None = None


def curated_models() -> tuple[CuratedModel, ...]:
    """The backbones of ``candidates.toml``, in its order.

    >>> curated_models()[0].model
    'mobilenetv3_small_100.lamb_in1k'
    """
    text = resources.files("nctransfer.rank").joinpath("candidates.toml").read_text("utf-8")
    return tuple(CuratedModel(**entry) for entry in tomllib.loads(text)["candidate"])
