"""Options that say which backbone runs, with which weights and which preprocessing. Several commands share them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from nctransfer.cli.expanding import panel_option
from nctransfer.cli.parsing import decimals, key_values

if TYPE_CHECKING:
    from nctransfer.backbones.request import BackboneRequest

__all__ = ["BackboneOptions", "DtypeOption", "ImgSizeOption", "LayersOption", "PluginOption", "StoreDtypeOption"]

_BACKBONE, _RUN = "Backbone", "How to run"
_OWN = "the model's own"

ImgSizeOption = Annotated[
    int | None,
    panel_option(
        "--img-size",
        panel=_BACKBONE,
        metavar="PIXELS",
        min=1,
        help="Height and width of the images that the model sees, for example 224.",
        show_default=_OWN,
    ),
]
LayersOption = Annotated[
    str | None,
    panel_option(
        "--layers",
        panel=_BACKBONE,
        help="Inner layers (blocks or stages, counted from 0) whose features are wanted too: all, last-4 for the "
        "last four, or a list such as 0,3,11.",
    ),
]
PluginOption = Annotated[
    str | None,
    panel_option(
        "--plugin",
        panel=_BACKBONE,
        metavar="FILE|MODULE",
        help="Python code that registers your own models with timm. It is run, so use only code that you trust.",
    ),
]
DtypeOption = Annotated[
    str,
    panel_option(
        "--dtype",
        panel=_RUN,
        help="Number type of the computation: float32, bfloat16 or float16. The last two are faster on processors "
        "that support them, but change the features by some percent; a note says by how much.",
    ),
]
StoreDtypeOption = Annotated[
    str, panel_option("--store-dtype", panel=_RUN, help="Number type of the stored features: float32 or float16.")
]


@dataclass(frozen=True)
class BackboneOptions:
    """Which backbone."""

    model: Annotated[
        str | None,
        panel_option(
            "--model",
            "-m",
            panel=_BACKBONE,
            metavar="NAME",
            help="The backbone: a timm name such as resnet50, a short name such as vit_base, hf-hub:OWNER/NAME, or "
            "local-dir:FOLDER. The command nctransfer models lists names.",
        ),
    ] = None
    checkpoint: Annotated[
        Path | None,
        panel_option(
            "--checkpoint",
            panel=_BACKBONE,
            metavar="FILE",
            help="Load the weights of the model from this .safetensors or .pth file.",
            show_default="the published weights",
        ),
    ] = None
    allow_missing: Annotated[
        bool,
        panel_option(
            "--allow-missing",
            panel=_BACKBONE,
            help="Accept a checkpoint that lacks the weights of the classifier.",
            show_default=False,
        ),
    ] = False
    random_init: Annotated[
        bool,
        panel_option(
            "--random-init",
            panel=_BACKBONE,
            help="Use random weights in place of trained ones, as a control.",
            show_default=False,
        ),
    ] = False
    pool: Annotated[
        str | None,
        panel_option(
            "--pool",
            panel=_BACKBONE,
            help="How the last layer is pooled into one vector, for models with a choice: cls, avg, max, ….",
            show_default=_OWN,
        ),
    ] = None
    layers: LayersOption = None
    img_size: ImgSizeOption = None
    mean: Annotated[
        str | None,
        panel_option(
            "--mean",
            panel=_BACKBONE,
            metavar="R,G,B",
            help="Mean per colour channel, for example 0.485,0.456,0.406.",
            show_default=_OWN,
        ),
    ] = None
    std: Annotated[
        str | None,
        panel_option(
            "--std",
            panel=_BACKBONE,
            metavar="R,G,B",
            help="Standard deviation per colour channel, for example 0.229,0.224,0.225.",
            show_default=_OWN,
        ),
    ] = None
    crop_pct: Annotated[
        float | None,
        panel_option(
            "--crop-pct",
            panel=_BACKBONE,
            metavar="SHARE",
            help="Share of the image that the central crop keeps, for example 0.9.",
            show_default=_OWN,
        ),
    ] = None
    interpolation: Annotated[
        str | None,
        panel_option(
            "--interpolation",
            panel=_BACKBONE,
            help="How images are resized: bicubic, bilinear, lanczos, ….",
            show_default=_OWN,
        ),
    ] = None
    model_kwargs: Annotated[
        list[str] | None,
        panel_option(
            "--model-kwargs",
            panel=_BACKBONE,
            metavar="KEY=VALUE",
            help="One more argument for timm's create_model, for example pad_type=same. May be repeated.",
        ),
    ] = None
    plugin: PluginOption = None
    dtype: DtypeOption = "float32"
    store_dtype: StoreDtypeOption = "float32"

    @property
    def is_given(self) -> bool:
        """Whether any of these options was given."""
        return any(getattr(self, field.name) != field.default for field in dataclasses.fields(self))

    def request(self, seed: int) -> BackboneRequest:
        """The request that the library loads a backbone by.

        Args:
            seed: Seed of random weights.
        """
        from nctransfer.backbones.names import DEFAULT_MODEL
        from nctransfer.backbones.request import BackboneRequest

        values = dataclasses.asdict(self) | {
            "model": DEFAULT_MODEL if self.model is None else self.model,
            "mean": decimals(self.mean, "--mean"),
            "std": decimals(self.std, "--std"),
            "model_kwargs": key_values(self.model_kwargs or []),
            "seed": seed,
        }
        return BackboneRequest(**values)
