"""Options that several commands share, each declared once."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from nctransfer.cli.expanding import panel_option
from nctransfer.cli.parsing import class_names, decimals, key_values

if TYPE_CHECKING:
    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source_kind import ReadingOptions
    from nctransfer.store.pipeline import Runtime

__all__ = ["BackboneOptions", "Format", "OutputOptions", "ReadingFlags", "SelectionOptions", "SourceOptions"]


class Format(enum.StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


_DATA, _BACKBONE, _RUN, _OUTPUT = "Data", "Backbone", "How to run", "Output"


@dataclass(frozen=True)
class SelectionOptions:
    """Which samples."""

    split: Annotated[str | None, panel_option("--split", panel=_DATA, help="Only this split.")] = None
    classes: Annotated[
        Path | None,
        panel_option("--classes", panel=_DATA, metavar="FILE", help="Only these classes: one name a line."),
    ] = None
    exclude_classes: Annotated[
        Path | None,
        panel_option("--exclude-classes", panel=_DATA, metavar="FILE", help="Not these classes: one name a line."),
    ] = None
    max_per_class: Annotated[
        int | None, panel_option("--max-per-class", panel=_DATA, min=1, help="At most so many images a class.")
    ] = None
    seed: Annotated[int, panel_option("--seed", panel=_RUN, min=0, max=2**63 - 1, help="Of every random draw.")] = 0

    @property
    def is_given(self) -> bool:
        """Whether anything is to be left out."""
        names = ("split", "classes", "exclude_classes", "max_per_class")
        return any(getattr(self, name) is not None for name in names)

    def selection(self) -> Selection:
        """As the library has it.

        Raises:
            DataError: A file of classes cannot be read.
        """
        from nctransfer.sources.selection import Selection

        return Selection(
            self.split,
            classes=class_names(self.classes) if self.classes is not None else None,
            exclude_classes=class_names(self.exclude_classes) if self.exclude_classes is not None else (),
            max_per_class=self.max_per_class,
            seed=self.seed,
        )


@dataclass(frozen=True)
class ReadingFlags:
    """How data, or features made elsewhere, are read."""

    label_column: Annotated[
        str | None,
        panel_option("--label-column", panel=_DATA, help="Of a table of images or features: class names or codes."),
    ] = None
    image_column: Annotated[
        str | None, panel_option("--image-column", panel=_DATA, help="Of a table of images: their bytes or paths.")
    ] = None
    image_root: Annotated[
        Path | None,
        panel_option(
            "--image-root", panel=_DATA, metavar="FOLDER", help="What the paths in a manifest are relative to."
        ),
    ] = None
    class_names: Annotated[
        Path | None,
        panel_option("--class-names", panel=_DATA, metavar="FILE", help="Names of labels 0, 1, …: one a line."),
    ] = None
    data_dir: Annotated[
        Path | None,
        panel_option(
            "--data-dir", panel=_DATA, metavar="FOLDER", help="Where timm's torch/ and tfds/ readers keep data."
        ),
    ] = None

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of coded labels.

        Raises:
            DataError: Their file cannot be read.
        """
        from nctransfer.errors import DataError

        if self.class_names is None:
            return None
        names = class_names(self.class_names)
        lines = len(self.class_names.expanduser().read_text(encoding="utf-8-sig").strip().splitlines())
        if len(set(names)) < lines:  # each stands for a code, so none may be empty, or another's
            twice = next((name for name in names if names.count(name) > 1), None)
            wrong = f"the name {twice!r} twice" if twice else "an empty line between names"
            raise DataError(f"{str(self.class_names)!r} holds {wrong}", "needed is a name of its own for each code")
        return names

    def reading(self, split: str | None, offline: bool) -> ReadingOptions:
        """As the library has it."""
        from nctransfer.sources.source_kind import ReadingOptions

        return ReadingOptions(
            label_column=self.label_column,
            image_column=self.image_column,
            image_root=self.image_root,
            class_names=self.names,
            split=split,
            data_dir=self.data_dir,
            offline=offline,
        )


@dataclass(frozen=True)
class BackboneOptions:
    """Which backbone."""

    model: Annotated[
        str | None,
        panel_option(
            "--model", "-m", panel=_BACKBONE, help="A timm name, a short one (vit_base), hf-hub:… or local-dir:…"
        ),
    ] = None
    checkpoint: Annotated[
        Path | None,
        panel_option(
            "--checkpoint", panel=_BACKBONE, metavar="FILE", help="Weights of your own: .safetensors or .pth."
        ),
    ] = None
    allow_missing: Annotated[
        bool,
        panel_option(
            "--allow-missing", panel=_BACKBONE, help="The checkpoint may lack the classifier.", show_default=False
        ),
    ] = False
    random_init: Annotated[
        bool,
        panel_option("--random-init", panel=_BACKBONE, help="Random weights, as a control.", show_default=False),
    ] = False
    pool: Annotated[
        str | None, panel_option("--pool", panel=_BACKBONE, help="cls, avg, max …, where the family has a choice.")
    ] = None
    layers: Annotated[
        str | None,
        panel_option("--layers", panel=_BACKBONE, help="Store layers too: all, last-N, or 0,3,11 (blocks or stages)."),
    ] = None
    img_size: Annotated[
        int | None, panel_option("--img-size", panel=_BACKBONE, min=1, help="In place of the model's own image size.")
    ] = None
    mean: Annotated[
        str | None,
        panel_option("--mean", panel=_BACKBONE, help="Of the colours, in place of the model's own: 0.5,0.5,0.5."),
    ] = None
    std: Annotated[str | None, panel_option("--std", panel=_BACKBONE, help="Likewise.")] = None
    crop_pct: Annotated[
        float | None,
        panel_option("--crop-pct", panel=_BACKBONE, help="Share of the image that the central crop keeps."),
    ] = None
    interpolation: Annotated[
        str | None, panel_option("--interpolation", panel=_BACKBONE, help="Of resizing: bicubic, bilinear, lanczos …")
    ] = None
    model_kwargs: Annotated[
        list[str] | None,
        panel_option(
            "--model-kwargs",
            panel=_BACKBONE,
            metavar="KEY=VALUE",
            help="Further arguments of timm's create_model, such as pad_type=same; may be repeated.",
        ),
    ] = None
    plugin: Annotated[
        str | None,
        panel_option(
            "--plugin",
            panel=_BACKBONE,
            metavar="FILE|MODULE",
            help="Python code that registers models of your own with timm. It is run: trust it.",
        ),
    ] = None
    dtype: Annotated[str, panel_option("--dtype", panel=_RUN, help="Compute in float32, bfloat16 or float16.")] = (
        "float32"
    )
    store_dtype: Annotated[str, panel_option("--store-dtype", panel=_RUN, help="Store float32 or float16.")] = "float32"

    @property
    def is_given(self) -> bool:
        """Whether anything is asked for."""
        return any(getattr(self, field.name) != field.default for field in dataclasses.fields(self))

    def request(self, seed: int) -> BackboneRequest:
        """As the library has it."""
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


@dataclass(frozen=True)
class SourceOptions:
    """Which images, and how they are run."""

    data: Annotated[
        str | None,
        panel_option(
            "--data",
            "-d",
            panel=_DATA,
            help="A folder of class folders, a tar, zip, manifest (CSV, TSV, JSONL) or Parquet, a timm name "
            "(hfds/…, torch/…, wds/…), or the built-in 'digits'.",
        ),
    ] = None
    batch_size: Annotated[int, panel_option("--batch-size", "-b", panel=_RUN, min=1, help="Images at once.")] = 32
    workers: Annotated[
        int | None, panel_option("--workers", panel=_RUN, min=1, help="Threads that read and decode images.")
    ] = None
    compile: Annotated[
        bool, panel_option("--compile", panel=_RUN, help="Let torch.compile make kernels.", show_default=False)
    ] = False
    offline: Annotated[
        bool, panel_option("--offline", panel=_RUN, help="Never ask a server for weights or data.", show_default=False)
    ] = False
    skip_broken: Annotated[
        bool,
        panel_option(
            "--skip-broken", panel=_DATA, help="Go on without images that cannot be read.", show_default=False
        ),
    ] = False

    def runtime(self, device: str) -> Runtime:
        """As the library has it."""
        from nctransfer.store.pipeline import Runtime

        return Runtime(
            device=device,
            batch_size=self.batch_size,
            workers=self.workers,
            offline=self.offline,
            compile=self.compile,
        )


@dataclass(frozen=True)
class OutputOptions:
    """Where to compute, where to cache, what to print."""

    device: Annotated[str, panel_option("--device", panel=_RUN, help="auto, cpu, cuda or mps.")] = "auto"
    cache_dir: Annotated[
        Path | None,
        panel_option("--cache-dir", panel=_RUN, metavar="FOLDER", help="The cache, in place of $NCTRANSFER_CACHE."),
    ] = None
    format: Annotated[Format, panel_option("--format", "-f", panel=_OUTPUT, help="How to print results.")] = (
        Format.table
    )
    output: Annotated[
        Path | None,
        panel_option("--output", "-o", panel=_OUTPUT, metavar="FILE", help="Print results to a file."),
    ] = None
    quiet: Annotated[
        bool, panel_option("--quiet", "-q", panel=_OUTPUT, help="No progress and no notes.", show_default=False)
    ] = False
    verbose: Annotated[
        bool, panel_option("--verbose", panel=_OUTPUT, help="More notes: how things are computed.", show_default=False)
    ] = False
