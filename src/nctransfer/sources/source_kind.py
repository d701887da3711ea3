"""What a kind of data source says about itself, and the options that a user gives for reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.sources.label_depth import checked_depth

if TYPE_CHECKING:
    from nctransfer.sources.label_depth import LabelDepth
    from nctransfer.sources.source import ImageSource

__all__ = ["ReadingOptions", "SourceKind"]


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """What a source cannot know by itself.

    Attributes:
        label_column: Column of the labels in a manifest, in Parquet files or in a Hugging Face data set.
        image_column: Column of the images in the same.
        split_column: Column of the splits in a manifest or in Parquet files.
        no_header: Whether the first line of a manifest is an image, and no line of column names.
        image_root: Folder that the paths in a manifest are relative to. Default: the folder of the manifest.
        class_names: Names of the classes whose labels are the codes 0, 1, …
        split: Split that timm opens. Other sources read all splits, and a selection chooses among them.
        labels_optional: Whether images without a label are listed too, with the label "". Otherwise they are left out,
            and a source that knows no labels at all is an error.
        label_depth: How many of the folders that an image lies in make its class: of ``Fruit/Apple/Gala/1.jpg``, 2
            makes ``Fruit/Apple``, and ``"leaf"`` makes ``Fruit/Apple/Gala``. Default: 1.
        data_dir: Folder where timm looks for data, and downloads data to.
        offline: Whether servers must not be asked.
    """

    label_column: str | None = None
    image_column: str | None = None
    image_root: Path | None = None
    class_names: tuple[str, ...] | None = None
    split: str | None = None
    data_dir: Path | None = None
    offline: bool = False
    labels_optional: bool = False
    label_depth: LabelDepth | None = None
    split_column: str | None = None
    no_header: bool = False

    def __post_init__(self) -> None:
        if self.label_depth is not None:
            checked_depth(self.label_depth)


@dataclass(frozen=True, kw_only=True)
class SourceKind:
    """A kind of data source: how it is recognised and opened, and what help texts say about it.

    Attributes:
        name: Name of the kind, for example ``folder``.
        recognises: Returns whether this kind reads what the user named. It must be fast: each kind is asked in turn.
        open: Returns the source with that name. Images are listed later.
        takes: The fields of :class:`ReadingOptions` that this kind uses; a user who gives another one gets an error.
            ``split``, ``offline`` and ``labels_optional`` need not be listed, because they may be given for every kind.
        examples: What the user may write after ``--data``, for example ``pets/``; the first is the usual one.
        summary: What the examples are, in one phrase for help texts, for example "a tar or zip archive".
        details: Further sentences for the documentation; may be empty.
    """

    name: str
    recognises: Callable[[str], bool]
    open: Callable[[str, ReadingOptions], ImageSource]
    takes: tuple[str, ...] = ()
    examples: tuple[str, ...]
    summary: str
    details: str = ""
