"""List timm's models, with their sizes and where their weights are."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.backbones.facts import BackboneFacts, measured
from nctransfer.backbones.names import ALIASES, PIXELS, of_timm
from nctransfer.backbones.request import BackboneRequest
from nctransfer.backbones.timm_import import import_timm
from nctransfer.backbones.weight_files import BUNDLED, at_hand
from nctransfer.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from nctransfer.backbones.names import ModelSpec

__all__ = ["ModelInfo", "list_models", "names_at_hand"]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A pretrained model of timm.

    The last three are ``None`` in a long list, because they are known only after the model has been built.

    Attributes:
        name: timm's name, with its tag.
        aliases: Its short names.
        image_size: The width and height of its images in pixels.
        licence: The licence of its weights, or "" if timm does not know it.
        source: Where its weights are: a package, a repository on the hub, or a URL.
        at_hand: ``package`` or ``cache`` if the weights are on this machine, ``no weights`` if the model has none,
            else "".
        parameters: The number of its parameters.
        width: The dimension d of its pooled features.
        megabytes: The approximate size of its weights in float32.
    """

    name: str
    aliases: tuple[str, ...]
    image_size: int
    licence: str
    source: str
    at_hand: str
    parameters: int | None = None
    width: int | None = None
    megabytes: float | None = None


MOST_BUILT = 12
"""A list of at most this many models has their sizes; building one without values takes a tenth of a second."""


def list_models(pattern: str | None = None) -> list[ModelInfo]:
    """List timm's models with published weights.

    Args:
        pattern: A part of the name, a pattern with wildcards such as ``vit_*``, or a short name. Default: the models
            with a short name, and those whose weights are on this machine.

    Raises:
        ModelError: No model matches; the hint gives similar names.
    """
    import_timm()
    from timm.models import list_models as timm_names

    aliases: dict[str, list[str]] = {}
    for alias in ALIASES:
        aliases.setdefault(of_timm(alias).name, []).append(alias)
    if pattern is None:
        names: Iterable[str] = dict.fromkeys([*names_at_hand(), *aliases])
    else:
        wild = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
        short = [name for name, shorts in aliases.items() if pattern in shorts]
        control = fnmatch.filter([PIXELS], wild)
        names = dict.fromkeys([*short, *timm_names(wild, pretrained=True), *control])
        if not names:
            near = did_you_mean(pattern, [*ALIASES, *timm_names()], cutoff=0.5)
            raise ModelError(
                f"no pretrained model matches {pattern!r}",
                near or "give a part of a name, or a pattern as in 'vit_*'",
            )
    few = len(list(names)) <= MOST_BUILT
    return [_model_info(of_timm(name), tuple(aliases.get(name, ())), few) for name in names]


def names_at_hand() -> list[str]:
    """The names of timm's models whose published weights are on this machine."""
    import_timm()
    from timm.models import list_models as timm_names

    return [name for name in timm_names(pretrained=True) if at_hand(of_timm(name))]


def _model_info(spec: ModelSpec, aliases: tuple[str, ...], build: bool) -> ModelInfo:
    found = at_hand(spec)
    source = (BUNDLED[spec.name] if found[0] == "bundled" else "") if found else ""
    sizes = measured(spec, BackboneRequest(spec.name)) if build else BackboneFacts()
    return ModelInfo(
        name=spec.name,
        aliases=aliases,
        image_size=spec.config.get("input_size", (0,))[-1],
        licence=spec.config.get("license") or "",
        source=source or spec.repository or spec.url,
        at_hand="no weights" if spec.name == PIXELS else _place(found[0]) if found else "",
        parameters=sizes.parameters,
        width=sizes.width,
        megabytes=sizes.parameters * 4 / 1e6 if sizes.parameters else None,
    )


def _place(kind: str) -> str:
    return "package" if kind == "bundled" else "cache"
