"""Sheets of extractions and of what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import about_features

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.store.extraction_report import ExtractionReport
    from nctransfer.store.manifest import Manifest
    from nctransfer.store.merging import MergeReport
    from nctransfer.store.repairing import Mended
    from nctransfer.store.verifying import Verification

__all__ = [
    "extraction_sheet",
    "features_sheet",
    "merge_sheet",
    "repair_sheet",
    "set_sheet",
    "sets_sheet",
    "verify_sheet",
]

NEXT = "next: nctransfer collapse, nctransfer fewshot"
SHOWN = 3  # classes by name


def extraction_sheet(report: ExtractionReport) -> Sheet:
    """The outcome of an extraction, as facts."""
    rate = report.images_per_second
    facts = {
        "model": report.stored.key.model,
        "weights": report.manifest.info(report.selection).weights or "",
        "data": ", ".join(filter(None, [report.stored.about.get("data", ""), str(report.selection)])),
        "id": report.stored.id,
        "samples": f"{report.samples:,}",
        "classes": f"{len(report.classes):,}" + f" ({join_names(report.classes, most=SHOWN)})" * bool(report.classes),
        "extracted": f"{report.extracted:,}" + (f" in {report.seconds:.1f} s, {rate:.1f} images/s" if rate else ""),
        "from cache": f"{report.reused:,}",
        "folder": str(report.stored.rows_path),
    }
    if len(columns := report.manifest.columns) > 1:
        facts["columns"] = ", ".join(f"{name} ({dim:,})" for name, dim in columns.items())
    if report.failed:
        facts["failed"] = f"{len(report.failed):,}"
    shard = report.selection.shard
    following = NEXT if shard is None or shard.of == 1 else f"when all {shard.of} shards are stored, {NEXT}"
    return Sheet("Features", [], [], facts, "" if report.failed else following)


def features_sheet(features: FeatureSet) -> Sheet:
    """A feature set in memory: where it came from, and its smallest and largest classes."""
    counts = features.counts.tolist()
    least, most = min(counts), max(counts)
    facts = about_features(features.describe())
    if features.info.data:
        facts["id"] = features.info.id
    facts["class sizes"] = f"{counted(most, 'sample')} each" if least == most else f"{least:,} to {most:,} samples"
    return Sheet("Features", [], [], facts)


def sets_sheet(sets: Sequence[Manifest], root: str) -> Sheet:
    """One row per stored set."""
    rows = [
        [
            stored.id,
            stored.about.get("data", ""),
            "×".join(map(str, stored.key.transform.get("input_size", ())[1:])),
            str(len(stored.columns)),
            f"{stored.rows:,}",
            f"{stored.bytes / 2**10:,.0f}",
        ]
        for stored in sets
    ]
    total = sum(stored.bytes for stored in sets) / 2**20
    return Sheet(
        "Stored features",
        ["id", "data", ">pixels", ">columns", ">rows", ">KiB"],
        rows,
        {"cache": root},
        f"{counted(len(sets), 'set')}, {total:,.1f} MiB." if sets else "Nothing is stored yet: run nctransfer extract.",
    )


def set_sheet(stored: Manifest, results: tuple[int, int] = (0, 0)) -> Sheet:
    """One stored set, and the number and the bytes of the results that are kept with it."""
    key = stored.key
    transform = ", ".join(f"{name} {value}" for name, value in key.transform.items())
    facts = {
        "id": stored.id,
        "model": key.model,
        "weights": f"{stored.about.get('weights', 'unknown')} (digest {key.weights})",
        "data": stored.about.get("data", ""),
        "transform": transform,
        "pool": key.pool,
        **({"arguments": ", ".join(f"{k}={v}" for k, v in key.model_kwargs.items())} if key.model_kwargs else {}),
        "computed": f"{key.dtype}, stored as {key.store_dtype}",
        "columns": ", ".join(f"{name} ({dim})" for name, dim in stored.columns.items()),
        "rows": f"{stored.rows:,} in {counted(len(stored.parts), 'part')}, {stored.bytes / 2**20:,.1f} MiB",
        **({"results": f"{results[0]:,} kept, {results[1] / 2**10:,.0f} KiB"} if results[0] else {}),
        "folder": str(stored.rows_path),
    }
    return Sheet(
        "Stored set",
        [],
        [],
        facts,
        "The folder opens with pandas, Polars or DuckDB: id, class, split, digest, feature.",
    )


def verify_sheet(found: Verification) -> Sheet:
    """Which files are damaged."""
    return Sheet(
        "Verification",
        ["set", "file", "damage"],
        [list(damage) for damage in found.damaged],
        {},
        f"{counted(found.parts, 'part')} of {counted(found.sets, 'set')} checked, {len(found.damaged)} damaged.",
    )


def repair_sheet(repaired: Mapping[str, Mended]) -> Sheet:
    """Which files of each set were deleted or made anew, and why."""
    rows = [
        [name, file, done, why]
        for name, mended in repaired.items()
        for done, files in (("deleted", mended.deleted), ("restored", mended.restored))
        for file, why in files.items()
    ]
    note = "Nothing was damaged."
    if rows:
        note = "Everything that was damaged is whole again."
    if any(mended.deleted for mended in repaired.values()):
        note = "Now run the same nctransfer extract as before: it makes what was deleted anew."
    return Sheet("Repair", ["set", "file", "was", "why"], rows, {}, f"{counted(len(repaired), 'set')} checked. {note}")


def merge_sheet(report: MergeReport) -> Sheet:
    """What each set has got from other caches."""
    rows = [
        [one.id, f"{one.rows:,}", f"{one.known:,}", f"{one.parts:,}", f"{one.bytes / 2**20:,.1f}"]
        for one in report.sets
    ]
    merged = sum(one.rows for one in report.sets)
    return Sheet(
        "Merged features",
        ["set", ">new rows", ">rows that were here", ">parts", ">MiB"],
        rows,
        {},
        (f"{counted(merged, 'row')}" if merged else "Nothing new")
        + f" from {counted(len(report.folders), 'cache')}."
        + (f" {NEXT}" if len(report.sets) == 1 and not report.refused else ""),
    )
