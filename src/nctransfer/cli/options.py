"""Options that several commands share, each declared once."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nctransfer.features import Selection

__all__ = ["Format", "OutputOptions", "SelectionOptions", "SourceOptions", "expand", "numbers"]


class Format(enum.StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


def _option(*names: str, panel: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, show_default=settings.pop("show_default", True), **settings)


_DATA, _BACKBONE, _RUN, _OUTPUT = "Data", "Backbone", "How to run", "Output"


@dataclass(frozen=True)
class SelectionOptions:
    """Which samples."""

    split: Annotated[str | None, _option("--split", panel=_DATA, help="Only this split.")] = None
    classes: Annotated[
        Path | None,
        _option("--classes", panel=_DATA, metavar="FILE", help="Only these classes: one name a line."),
    ] = None
    max_per_class: Annotated[
        int | None, _option("--max-per-class", panel=_DATA, min=1, help="At most so many images a class.")
    ] = None
    seed: Annotated[int, _option("--seed", panel=_RUN, min=0, help="Of every random draw.")] = 0

    @property
    def is_given(self) -> bool:
        """Whether anything is to be left out."""
        return bool(self.split or self.classes or self.max_per_class)

    def selection(self) -> Selection:
        """As the library has it.

        Raises:
            DataError: The file of classes cannot be read.
        """
        from nctransfer.errors import DataError
        from nctransfer.features import Selection

        names = None
        if self.classes:
            try:
                lines = self.classes.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"the file of classes {str(self.classes)!r} cannot be read: {error}") from error
            names = tuple(line.strip() for line in lines if line.strip())
        return Selection(self.split, names, self.max_per_class, self.seed)


@dataclass(frozen=True)
class SourceOptions:
    """Which images through which backbone, and how."""

    model: Annotated[
        str | None,
        _option("--model", "-m", panel=_BACKBONE, help="A timm name, or a short one: vit_base, dinov2_small …"),
    ] = None
    data: Annotated[
        str | None,
        _option("--data", "-d", panel=_DATA, help="A folder of class folders, or the built-in 'digits'."),
    ] = None
    checkpoint: Annotated[
        Path | None,
        _option("--checkpoint", panel=_BACKBONE, metavar="FILE", help="Weights of your own: .safetensors or .pth."),
    ] = None
    random_init: Annotated[
        bool,
        _option("--random-init", panel=_BACKBONE, help="Random weights, as a control.", show_default=False),
    ] = False
    dtype: Annotated[str, _option("--dtype", panel=_RUN, help="Compute in float32, bfloat16 or float16.")] = "float32"
    store_dtype: Annotated[str, _option("--store-dtype", panel=_RUN, help="Store float32 or float16.")] = "float32"
    batch_size: Annotated[int, _option("--batch-size", "-b", panel=_RUN, min=1, help="Images at once.")] = 32
    workers: Annotated[
        int | None, _option("--workers", panel=_RUN, min=1, help="Threads that read and decode images.")
    ] = None
    offline: Annotated[
        bool, _option("--offline", panel=_RUN, help="Never ask a server for weights.", show_default=False)
    ] = False
    skip_broken: Annotated[
        bool,
        _option("--skip-broken", panel=_DATA, help="Go on without images that cannot be read.", show_default=False),
    ] = False

    @property
    def is_given(self) -> bool:
        """Whether a backbone or data are named."""
        return bool(self.model or self.data or self.checkpoint or self.random_init)


@dataclass(frozen=True)
class OutputOptions:
    """Where to compute, where to cache, what to print."""

    device: Annotated[str, _option("--device", panel=_RUN, help="auto, cpu, cuda or mps.")] = "auto"
    cache_dir: Annotated[
        Path | None,
        _option("--cache-dir", panel=_RUN, metavar="FOLDER", help="The cache, in place of $NCTRANSFER_CACHE."),
    ] = None
    format: Annotated[Format, _option("--format", "-f", panel=_OUTPUT, help="How to print results.")] = Format.table
    output: Annotated[
        Path | None,
        _option("--output", "-o", panel=_OUTPUT, metavar="FILE", help="Print results to a file."),
    ] = None
    quiet: Annotated[
        bool, _option("--quiet", "-q", panel=_OUTPUT, help="No progress and no notes.", show_default=False)
    ] = False


def numbers(text: str, option: str) -> list[int]:
    """A comma list of whole numbers, as in ``--shots 1,5``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number or a comma list of such", param_hint=option) from None


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are dataclasses become one option for each of their fields."""
    groups: dict[str, type[Any]] = {}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            flat.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = typing.cast("type[Any]", kind)
        hints = typing.get_type_hints(kind, include_extras=True)
        flat += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in dataclasses.fields(kind)
        ]

    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
        command(**values)

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run
