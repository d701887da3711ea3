"""Options that several commands share, each declared once."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import itertools
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.sources.opening import ReadingOptions
    from nctransfer.sources.selection import Selection
    from nctransfer.store.pipeline import Runtime

__all__ = [
    "BackboneOptions",
    "EpisodeOptions",
    "Format",
    "OutputOptions",
    "ReadingFlags",
    "SelectionOptions",
    "SourceOptions",
    "class_names",
    "decimals",
    "expand",
    "numbers",
    "numbers_or_all",
]


class Format(enum.StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


def _option(*names: str, panel: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, show_default=settings.pop("show_default", True), **settings)


_DATA, _BACKBONE, _RUN, _OUTPUT = "Data", "Backbone", "How to run", "Output"
_EPISODES, _CLASSIFIER, _SHOW = "Episodes", "Classifier", "What to show"


@dataclass(frozen=True)
class SelectionOptions:
    """Which samples."""

    split: Annotated[str | None, _option("--split", panel=_DATA, help="Only this split.")] = None
    classes: Annotated[
        Path | None,
        _option("--classes", panel=_DATA, metavar="FILE", help="Only these classes: one name a line."),
    ] = None
    exclude_classes: Annotated[
        Path | None,
        _option("--exclude-classes", panel=_DATA, metavar="FILE", help="Not these classes: one name a line."),
    ] = None
    max_per_class: Annotated[
        int | None, _option("--max-per-class", panel=_DATA, min=1, help="At most so many images a class.")
    ] = None
    seed: Annotated[int, _option("--seed", panel=_RUN, min=0, max=2**63 - 1, help="Of every random draw.")] = 0

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
            class_names(self.classes) if self.classes is not None else None,
            self.max_per_class,
            self.seed,
            class_names(self.exclude_classes) if self.exclude_classes is not None else (),
        )


def class_names(path: Path) -> tuple[str, ...]:
    """The names in a file of one name a line."""
    from nctransfer.errors import DataError

    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise DataError(f"the names in {str(path)!r} cannot be read: {reason}", "needed is one name a line") from error
    return tuple(line.strip() for line in lines if line.strip())


@dataclass(frozen=True)
class ReadingFlags:
    """How data, or features made elsewhere, are read."""

    label_column: Annotated[
        str | None,
        _option("--label-column", panel=_DATA, help="Of a table of images or features: class names or codes."),
    ] = None
    image_column: Annotated[
        str | None, _option("--image-column", panel=_DATA, help="Of a table of images: their bytes or paths.")
    ] = None
    image_root: Annotated[
        Path | None,
        _option("--image-root", panel=_DATA, metavar="FOLDER", help="What the paths in a manifest are relative to."),
    ] = None
    class_names: Annotated[
        Path | None,
        _option("--class-names", panel=_DATA, metavar="FILE", help="Names of labels 0, 1, …: one a line."),
    ] = None
    data_dir: Annotated[
        Path | None,
        _option("--data-dir", panel=_DATA, metavar="FOLDER", help="Where timm's torch/ and tfds/ readers keep data."),
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
        from nctransfer.sources.opening import ReadingOptions

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
        _option("--model", "-m", panel=_BACKBONE, help="A timm name, a short one (vit_base), hf-hub:… or local-dir:…"),
    ] = None
    checkpoint: Annotated[
        Path | None,
        _option("--checkpoint", panel=_BACKBONE, metavar="FILE", help="Weights of your own: .safetensors or .pth."),
    ] = None
    allow_missing: Annotated[
        bool,
        _option("--allow-missing", panel=_BACKBONE, help="The checkpoint may lack the classifier.", show_default=False),
    ] = False
    random_init: Annotated[
        bool,
        _option("--random-init", panel=_BACKBONE, help="Random weights, as a control.", show_default=False),
    ] = False
    pool: Annotated[
        str | None, _option("--pool", panel=_BACKBONE, help="cls, avg, max …, where the family has a choice.")
    ] = None
    layers: Annotated[
        str | None,
        _option("--layers", panel=_BACKBONE, help="Store layers too: all, last-N, or 0,3,11 (blocks or stages)."),
    ] = None
    img_size: Annotated[
        int | None, _option("--img-size", panel=_BACKBONE, min=1, help="In place of the model's own image size.")
    ] = None
    mean: Annotated[
        str | None, _option("--mean", panel=_BACKBONE, help="Of the colours, in place of the model's own: 0.5,0.5,0.5.")
    ] = None
    std: Annotated[str | None, _option("--std", panel=_BACKBONE, help="Likewise.")] = None
    crop_pct: Annotated[
        float | None, _option("--crop-pct", panel=_BACKBONE, help="Share of the image that the central crop keeps.")
    ] = None
    interpolation: Annotated[
        str | None, _option("--interpolation", panel=_BACKBONE, help="Of resizing: bicubic, bilinear, lanczos …")
    ] = None
    model_kwargs: Annotated[
        list[str] | None,
        _option(
            "--model-kwargs",
            panel=_BACKBONE,
            metavar="KEY=VALUE",
            help="Further arguments of timm's create_model, such as pad_type=same; may be repeated.",
        ),
    ] = None
    plugin: Annotated[
        str | None,
        _option(
            "--plugin",
            panel=_BACKBONE,
            metavar="FILE|MODULE",
            help="Python code that registers models of your own with timm. It is run: trust it.",
        ),
    ] = None
    dtype: Annotated[str, _option("--dtype", panel=_RUN, help="Compute in float32, bfloat16 or float16.")] = "float32"
    store_dtype: Annotated[str, _option("--store-dtype", panel=_RUN, help="Store float32 or float16.")] = "float32"

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
            "model_kwargs": _arguments(self.model_kwargs or []),
            "seed": seed,
        }
        return BackboneRequest(**values)


@dataclass(frozen=True)
class SourceOptions:
    """Which images, and how they are run."""

    data: Annotated[
        str | None,
        _option(
            "--data",
            "-d",
            panel=_DATA,
            help="A folder of class folders, a tar, zip, manifest (CSV, TSV, JSONL) or Parquet, a timm name "
            "(hfds/…, torch/…, wds/…), or the built-in 'digits'.",
        ),
    ] = None
    batch_size: Annotated[int, _option("--batch-size", "-b", panel=_RUN, min=1, help="Images at once.")] = 32
    workers: Annotated[
        int | None, _option("--workers", panel=_RUN, min=1, help="Threads that read and decode images.")
    ] = None
    compile: Annotated[
        bool, _option("--compile", panel=_RUN, help="Let torch.compile make kernels.", show_default=False)
    ] = False
    offline: Annotated[
        bool, _option("--offline", panel=_RUN, help="Never ask a server for weights or data.", show_default=False)
    ] = False
    skip_broken: Annotated[
        bool,
        _option("--skip-broken", panel=_DATA, help="Go on without images that cannot be read.", show_default=False),
    ] = False

    def runtime(self, device: str) -> Runtime:
        """As the library has it."""
        from nctransfer.store.pipeline import Runtime

        return Runtime(device, self.batch_size, self.workers, self.offline, self.compile)


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
    verbose: Annotated[
        bool, _option("--verbose", panel=_OUTPUT, help="More notes: how things are computed.", show_default=False)
    ] = False


@dataclass(frozen=True)
class EpisodeOptions:
    """Which episodes are drawn, and what classifies them."""

    ways: Annotated[str, _option("--ways", "-w", panel=_EPISODES, help="Classes an episode: 5, or 5,10,all.")] = "5"
    shots: Annotated[str, _option("--shots", "-s", panel=_EPISODES, help="Support samples a class: 1, or 1,5.")] = "1"
    queries: Annotated[
        str,
        _option("--queries", panel=_EPISODES, metavar="N|all", help="Query samples a class; all that are left."),
    ] = "15"
    episodes: Annotated[int, _option("--episodes", "-e", panel=_EPISODES, min=2, help="Episodes of each task.")] = (
        10_000
    )
    drop_small: Annotated[
        bool,
        _option(
            "--drop-small",
            panel=_EPISODES,
            help="Leave out classes of too few samples, which are an error else.",
            show_default=False,
        ),
    ] = False
    interval: Annotated[
        str,
        _option(
            "--interval",
            panel=_EPISODES,
            metavar="episodes|classes|disjoint",
            help="What the 95% interval is of: the draw of episodes from these samples, as is customary; the draw of "
            "classes; or episodes that share no sample.",
        ),
    ] = "episodes"
    classifier: Annotated[
        str,
        _option(
            "--classifier",
            "-c",
            panel=_CLASSIFIER,
            help="ridge, ncc, cosine, simpleshot, logistic, knn; several, as ridge,ncc; or all.",
        ),
    ] = "ridge,ncc"
    ridge_lambda: Annotated[
        str | None,
        _option(
            "--ridge-lambda",
            panel=_CLASSIFIER,
            metavar="VALUE|loo",
            help="The penalty of ridge; loo: by leave-one-out, for each episode.",
            show_default="√(ways·shots)",
        ),
    ] = None
    l2_normalise: Annotated[
        bool,
        _option("--l2-normalise", panel=_CLASSIFIER, help="Scale features to unit length.", show_default=False),
    ] = False
    no_theory: Annotated[
        bool,
        _option(
            "--no-theory",
            panel=_SHOW,
            help="Leave out what is expected of ncc, and the bounds of its error.",
            show_default=False,
        ),
    ] = False

    @property
    def penalty(self) -> float | Literal["loo"] | None:
        """The penalty of ridge."""
        if self.ridge_lambda is None:
            return None
        if self.ridge_lambda == "loo":
            return "loo"
        try:
            return float(self.ridge_lambda)
        except ValueError:
            raise typer.BadParameter(
                f"{self.ridge_lambda!r} is neither a number nor 'loo'", param_hint="--ridge-lambda"
            ) from None

    @property
    def settings(self) -> dict[str, Any]:
        """As the library has them."""
        queries = numbers_or_all(self.queries, "--queries")
        if len(queries) != 1:
            raise typer.BadParameter(f"{self.queries!r} is not one number", param_hint="--queries")
        return {
            "ways": numbers_or_all(self.ways, "--ways"),
            "shots": numbers(self.shots, "--shots"),
            "queries": queries[0],
            "episodes": self.episodes,
            "classifiers": self.classifier.split(","),
            "l2_normalise": self.l2_normalise,
            "ridge_lambda": self.penalty,
            "interval": self.interval,
            "drop_small": self.drop_small,
            "theory": not self.no_theory,
        }


def numbers(text: str, option: str) -> list[int]:
    """A comma list of whole numbers, as in ``--shots 1,5``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number or a comma list of such", param_hint=option) from None


def numbers_or_all(text: str, option: str) -> list[int | Literal["all"]]:
    """A comma list of whole numbers, in which ``all`` may stand, as in ``--ways 5,all``."""
    found: list[int | Literal["all"]] = []
    for part in text.split(","):
        found += ["all"] if part == "all" else numbers(part, option)
    return found


def decimals(text: str | None, option: str) -> tuple[float, ...] | None:
    """A comma list of numbers, as in ``--mean 0.5,0.5,0.5``."""
    try:
        return tuple(float(part) for part in text.replace(",", " ").split()) if text is not None else None
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number or a comma list of such", param_hint=option) from None


def _arguments(given: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs, several in one word if a space divides them; a value is a Python literal, or else text."""
    arguments: dict[str, Any] = {}
    for pair in itertools.chain.from_iterable(text.split() for text in given):
        name, equals, value = pair.partition("=")
        if not (name.isidentifier() and equals):
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--model-kwargs")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


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
