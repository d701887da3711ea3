"""Every kind of data source, in the order in which they are asked whether they read what the user named."""

from __future__ import annotations

from nctransfer.errors import PluginError
from nctransfer.registry import Registry
from nctransfer.sources.digits import DIGITS
from nctransfer.sources.folder import FLAT_FOLDER, FOLDER
from nctransfer.sources.given_images import IMAGE_FILE, PATH_LIST
from nctransfer.sources.manifest import MANIFEST
from nctransfer.sources.parquet import PARQUET
from nctransfer.sources.source_kind import SourceKind
from nctransfer.sources.tar_archive import TAR
from nctransfer.sources.timm_readers import TIMM, TORCH
from nctransfer.sources.zip_archive import ZIP

__all__ = ["OWN", "SOURCES", "UNLABELLED", "describe_sources", "sources_table"]

OWN = (DIGITS, FOLDER, PARQUET, TAR, ZIP, MANIFEST, TORCH, TIMM)
SOURCES: Registry[SourceKind] = Registry("nctransfer.sources", SourceKind, OWN)
"""Every kind of data source by name. Kinds from other packages come last, so a folder that exists is never theirs."""
UNLABELLED = (FLAT_FOLDER, IMAGE_FILE, PATH_LIST)
"""Kinds that know no labels. Where labels are optional, they are asked before the others."""


def describe_sources(labels_optional: bool = False) -> str:
    """Every kind in a few words, for help texts and hints: an example of its name, and what that is.

    Kinds from other packages are named without importing the packages.

    Args:
        labels_optional: Whether kinds that know no labels are named too.
    """
    kinds = [f"{kind.examples[0]} ({kind.summary})" for kind in (*(UNLABELLED if labels_optional else ()), *OWN)]
    try:
        others = list(SOURCES)[len(OWN) :]
    except PluginError:  # opening a source says what is wrong
        others = []
    return "; ".join([*kinds, *(f"the kind {name!r} of another package" for name in others)])


def sources_table() -> str:
    """The kinds of this package as a table in Markdown: what the user may give, and what that is."""
    rows = [("`--data`", "What it is"), ("---", "---")]
    for kind in OWN:
        examples = ", ".join(f"`{example}`" for example in kind.examples)
        rows.append((examples, f"{kind.summary}. {kind.details}".strip()))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
