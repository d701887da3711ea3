"""timm's models as a list, with their size and where their weights are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.names import ALIASES, BUNDLED, at_hand, of_timm
from nctransfer.errors import ModelError

if TYPE_CHECKING:
    from nctransfer.backbones.names import ModelSpec

__all__ = ["ModelInfo", "list_models"]


@dataclass(frozen=True)
class ModelInfo:
    """A pretrained model of timm; what only building it tells is ``None`` where many are listed.

    Attributes:
        name: With tag.
        aliases: Short names.
        image_size: In pixels.
        licence: Of the weights.
        source: Where the weights are: a package, a repository of the hub, a URL.
        at_hand: ``package`` or ``cache`` if no network is needed for them, else "".
        parameters: Their number.
        width: Of the pooled features, d.
        megabytes: About how large the weights are, in float32.
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


BUILT_WHERE_AT_MOST = 12  # models; building one, without its numbers, takes a tenth of a second


def list_models(pattern: str | None = None) -> list[ModelInfo]:
    """Timm's models with published weights that match a pattern, or those with a short name or at hand.

    Where few match, parameters and width are told too, from a model that is built without its numbers.

    Args:
        pattern: Shell wildcards, or a part of the name; a short name stands for its model.

    Raises:
        ModelError: None matches; the hint holds the nearest names.
    """
    from timm.models import list_models as timm_names

    aliases: dict[str, list[str]] = {}
    for alias in ALIASES:
        aliases.setdefault(of_timm(alias).name, []).append(alias)
    if pattern is None:
        at_hand_now = [name for name in timm_names(pretrained=True) if at_hand(of_timm(name))]
        names: Iterable[str] = dict.fromkeys([*at_hand_now, *aliases])
    else:
        wild = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
        short = [name for name, shorts in aliases.items() if pattern in shorts]
        names = dict.fromkeys([*short, *timm_names(wild, pretrained=True)])
        if not names:
            near = difflib.get_close_matches(pattern, [*ALIASES, *timm_names()], 4, 0.5)
            raise ModelError(
                f"no pretrained model fits {pattern!r}",
                f"nearest: {', '.join(near)}" if near else "give a part of a name, or wildcards as in 'vit_*'",
            )
    few = len(list(names)) <= BUILT_WHERE_AT_MOST
    return [_model_info(of_timm(name), tuple(aliases.get(name, ())), few) for name in names]


def _model_info(spec: ModelSpec, aliases: tuple[str, ...], build: bool) -> ModelInfo:
    found = at_hand(spec)
    source = (BUNDLED[spec.name] if found[0] == "bundled" else "") if found else ""
    parameters, width = _measure(spec) if build else (None, None)
    return ModelInfo(
        name=spec.name,
        aliases=aliases,
        image_size=spec.config.get("input_size", (0,))[-1],
        licence=spec.config.get("license") or "",
        source=source or spec.repository or spec.url,
        at_hand=("package" if found[0] == "bundled" else "cache") if found else "",
        parameters=parameters,
        width=width,
        megabytes=parameters * 4 / 1e6 if parameters else None,
    )


def _measure(spec: ModelSpec) -> tuple[int | None, int | None]:
    """Parameters and feature width, on the meta device: shapes without numbers."""
    import timm
    import torch

    try:
        with torch.device("meta"), torch.inference_mode():
            model: Any = timm.create_model(spec.architecture).eval()
            parameters = sum(parameter.numel() for parameter in model.parameters())
    except Exception:  # some architecture needs real numbers to be built
        return None, None
    try:
        with torch.device("meta"), torch.inference_mode():
            images = torch.empty(1, *spec.config["input_size"])
            return parameters, model.forward_head(model.forward_features(images), pre_logits=True).shape[-1]
    except Exception:  # or to be run
        return parameters, None
