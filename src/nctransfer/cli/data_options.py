"""Options that say which images or features are read, and how. Several commands share them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.expanding import panel_option
from nctransfer.sources.registry import describe_sources

if TYPE_CHECKING:
    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source_kind import ReadingOptions
    from nctransfer.store.pipeline import Runtime

__all__ = [
    "BatchSizeOption",
    "DataOption",
    "ImageOptions",
    "OfflineOption",
    "ReadingFlags",
    "SeedOption",
    "SelectionOptions",
    "ShardOption",
    "SplitOption",
    "StoredSelectionOptions",
    "WorkersOption",
]

_DATA, _RUN = "Data", "How to run"
LARGEST_SEED = 2**63 - 1


def _as_seed(value: int) -> int:
    """Check the range here: if Typer did, the help would show its many digits."""
    if not 0 <= value <= LARGEST_SEED:
        raise typer.BadParameter(f"{value} is not in the range 0 to {LARGEST_SEED}")
    return value


SplitOption = Annotated[
    str | None,
    panel_option("--split", panel=_DATA, metavar="NAME", help="Use only the samples of this split, for example test."),
]
SeedOption = Annotated[
    int,
    panel_option(
        "--seed",
        panel=_RUN,
        metavar="N",
        callback=_as_seed,
        help="Seed of every random draw in this command.",
    ),
]
DataOption = Annotated[
    str | None,
    panel_option(
        "--data",
        "-d",
        panel=_DATA,
        metavar="SOURCE",
        help=f"The labelled images: {describe_sources()}.",
    ),
]
WorkersOption = Annotated[
    int | None,
    panel_option(
        "--workers",
        panel=_RUN,
        metavar="N",
        min=1,
        help="Threads that read and decode images.",
        show_default="one per core, at most 16",
    ),
]
BatchSizeOption = Annotated[
    int,
    panel_option(
        "--batch-size", "-b", panel=_RUN, metavar="N", min=1, help="Images that run through the model at once."
    ),
]
OfflineOption = Annotated[
    bool,
    panel_option(
        "--offline",
        panel=_RUN,
        help="Use only weights and data that are on this computer. Never ask a server.",
        show_default=False,
    ),
]
ShardOption = Annotated[
    str | None,
    panel_option(
        "--shard",
        panel=_RUN,
        metavar="I/N",
        help="Take only the share of one of several workers: 3/8 for the third of eight. With auto, SLURM or torchrun "
        "says which it is. Kubernetes does not say how many there are: auto/8.",
    ),
]


@dataclass(frozen=True)
class SelectionOptions:
    """Which samples."""

    split: SplitOption = None
    classes: Annotated[
        Path | None,
        panel_option(
            "--classes", panel=_DATA, metavar="FILE", help="Use only the classes in this file: one name per line."
        ),
    ] = None
    exclude_classes: Annotated[
        Path | None,
        panel_option(
            "--exclude-classes",
            panel=_DATA,
            metavar="FILE",
            help="Leave out the classes in this file: one name per line.",
        ),
    ] = None
    max_per_class: Annotated[
        int | None,
        panel_option(
            "--max-per-class", panel=_DATA, metavar="N", min=1, help="Use at most N samples per class, drawn at random."
        ),
    ] = None
    seed: SeedOption = 0

    @property
    def allows_partial(self) -> bool:
        """Whether some of the wanted samples are enough."""
        return False

    @property
    def is_given(self) -> bool:
        """Whether any sample is to be left out."""
        names = ("split", "classes", "exclude_classes", "max_per_class")
        return any(getattr(self, name) is not None for name in names)

    def selection(self) -> Selection:
        """The selection that the library works with.

        Raises:
            DataError: A file of class names cannot be read.
        """
        from nctransfer.sources.class_names import read_class_names
        from nctransfer.sources.selection import Selection

        return Selection(
            self.split,
            classes=read_class_names(self.classes) if self.classes is not None else None,
            exclude_classes=read_class_names(self.exclude_classes) if self.exclude_classes is not None else (),
            max_per_class=self.max_per_class,
            seed=self.seed,
        )


@dataclass(frozen=True)
class StoredSelectionOptions(SelectionOptions):
    """Which samples, for commands that read stored features."""

    partial: Annotated[
        bool,
        panel_option(
            "--partial",
            panel=_DATA,
            help="Go on if only some of the wanted images are stored, as after an extraction that was stopped. Without "
            "it, that is an error.",
            show_default=False,
        ),
    ] = False

    @property
    def allows_partial(self) -> bool:
        """See :class:`SelectionOptions`."""
        return self.partial


@dataclass(frozen=True)
class ReadingFlags:
    """What a data source, or a file of features, does not say about itself."""

    label_column: Annotated[
        str | None,
        panel_option(
            "--label-column",
            panel=_DATA,
            metavar="NAME",
            help="The column with the class names or codes, in a table of images or of features, or an attribute of a "
            "stored set. Several are joined: species,breed makes classes such as cat/Siamese.",
            show_default="label, or a similar name",
        ),
    ] = None
    image_column: Annotated[
        str | None,
        panel_option(
            "--image-column",
            panel=_DATA,
            metavar="NAME",
            help="The column with the images, in a table of images: encoded bytes in Parquet, paths in a manifest.",
            show_default="path, image, or a similar name",
        ),
    ] = None
    split_column: Annotated[
        str | None,
        panel_option(
            "--split-column",
            panel=_DATA,
            metavar="NAME",
            help="The column with the splits, in a table of images.",
            show_default="split, if there is one",
        ),
    ] = None
    no_header: Annotated[
        bool,
        panel_option(
            "--no-header",
            panel=_DATA,
            help="The manifest has no line of column names; its columns are numbered from 1. The path is in the first "
            "and the class in the second, unless --image-column and --label-column give other numbers.",
            show_default=False,
        ),
    ] = False
    image_root: Annotated[
        Path | None,
        panel_option(
            "--image-root",
            panel=_DATA,
            metavar="FOLDER",
            help="The folder that the paths in a manifest start from.",
            show_default="the folder of the manifest",
        ),
    ] = None
    label_depth: Annotated[
        str | None,
        panel_option(
            "--label-depth",
            panel=_DATA,
            metavar="N|leaf",
            help="How many nested folders make the class. For Fruit/Apple/Gala/1.jpg, 1 makes the class Fruit, 2 makes "
            "Fruit/Apple, and leaf makes Fruit/Apple/Gala.",
            show_default="1",
        ),
    ] = None
    class_names: Annotated[
        Path | None,
        panel_option(
            "--class-names",
            panel=_DATA,
            metavar="FILE",
            help="Class names for data whose labels are the numbers 0, 1, 2, …: one name per line, in this order.",
        ),
    ] = None
    data_dir: Annotated[
        Path | None,
        panel_option(
            "--data-dir",
            panel=_DATA,
            metavar="FOLDER",
            help="The folder in which timm's torch/… and tfds/… readers keep their data.",
        ),
    ] = None

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of coded labels.

        Raises:
            DataError: The file of names cannot be read, or has a name twice, or an empty line between names.
        """
        from nctransfer.sources.class_names import read_names_of_codes

        return None if self.class_names is None else read_names_of_codes(self.class_names)

    def reading(self, split: str | None, offline: bool) -> ReadingOptions:
        """The options that the library reads a data source with."""
        from nctransfer.sources.label_depth import checked_depth
        from nctransfer.sources.source_kind import ReadingOptions

        return ReadingOptions(
            label_depth=None if self.label_depth is None else checked_depth(self.label_depth),
            label_column=self.label_column,
            image_column=self.image_column,
            split_column=self.split_column,
            no_header=self.no_header,
            image_root=self.image_root,
            class_names=self.names,
            split=split,
            data_dir=self.data_dir,
            offline=offline,
        )


@dataclass(frozen=True)
class ImageOptions:
    """Which images, and how they are run through the backbone."""

    data: DataOption = None
    batch_size: BatchSizeOption = 32
    workers: WorkersOption = None
    compile: Annotated[
        bool,
        panel_option(
            "--compile",
            panel=_RUN,
            help="Compile the model by torch.compile. It takes about a minute, and pays off for many images on a GPU.",
            show_default=False,
        ),
    ] = False
    offline: OfflineOption = False
    skip_broken: Annotated[
        bool,
        panel_option(
            "--skip-broken",
            panel=_DATA,
            help="Go on without images that cannot be read. Without this option they are an error.",
            show_default=False,
        ),
    ] = False

    def runtime(self, device: str) -> Runtime:
        """How the library runs images."""
        from nctransfer.store.pipeline import Runtime

        return Runtime(
            device=device,
            batch_size=self.batch_size,
            workers=self.workers,
            offline=self.offline,
            compile=self.compile,
        )
