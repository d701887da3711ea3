"""A backbone that is loaded only if it is needed: its key is remembered from earlier runs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.backbones.building import load, make_fast
from nctransfer.backbones.feature_key import FEATURE, FeatureKey, format_of
from nctransfer.backbones.hub import cached
from nctransfer.backbones.names import WEIGHT_FILES
from nctransfer.backbones.plugins import plugin_file
from nctransfer.backbones.weight_files import Weights
from nctransfer.checked_values import CheckedValues
from nctransfer.paths import expanded

if TYPE_CHECKING:
    from nctransfer.backbones.backbone import Backbone
    from nctransfer.backbones.hub import Progress
    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.pipeline import Runtime

__all__ = ["LazyBackbone"]

log = logging.getLogger(__name__)


class _Known(NamedTuple):
    """What is known about a backbone before it is loaded."""

    key: FeatureKey
    weights: str  # where they came from, in words
    columns: tuple[str, ...]  # the columns that are wanted


class LazyBackbone:
    """A backbone that is loaded only if it is needed.

    Args:
        store: The cache, which remembers keys.
        request: The backbone.
        runtime: How to run.
        progress: Called as ``progress(stage, done, total)``.
    """

    def __init__(
        self, store: FeatureStore, request: BackboneRequest, runtime: Runtime, progress: Progress | None
    ) -> None:
        self._store = store
        self._request = request
        self._runtime = runtime
        self._progress = progress
        self._loaded: Backbone | None = None

    def known(self) -> _Known:
        """The key, the origin of the weights, and the wanted columns: remembered, else found by loading the backbone.

        Raises:
            NCTransferError: The backbone cannot be loaded.
        """
        question = self._question()
        answer = {} if self._loaded else self._store.recall(question)
        try:
            known, weights, stamp = _remembered(answer)
            holds = _still_the_same(weights, stamp)
        except ValueError:  # the answer is not there, or it is damaged
            holds = False
        if holds:
            asked = self._request.model
            if ":" not in asked and known.key.model.partition(".")[0] != asked.partition(".")[0]:
                log.info("%s is %s", self._request.model, known.key.model)
            return known
        backbone = self._load(self._request)
        answer = {
            "key": asdict(backbone.key),
            "columns": backbone.columns,
            **asdict(backbone.weights),
            "path": str(backbone.weights.path) if backbone.weights.path else None,
            "file": _file_stamp(backbone.weights.path),
        }
        self._store.remember(question, answer)
        return _Known(backbone.key, backbone.weights.name, backbone.columns)

    def request(self, columns: Collection[str]) -> BackboneRequest:
        """The request for a backbone that gives these columns."""
        layers = sorted(int(name.rpartition("_")[2]) for name in columns if name != FEATURE)
        return replace(self._request, layers=",".join(map(str, layers)) or None)

    def get(self, columns: Collection[str]) -> Backbone:
        """The backbone, loaded and prepared to run fast, that gives these columns.

        Raises:
            NCTransferError: The backbone cannot be loaded.
        """
        backbone = self._loaded
        if backbone is None or not set(columns) <= set(backbone.columns):
            backbone = self._load(self.request(columns))
        make_fast(backbone, self._runtime.batch_size if self._runtime.compile else None)
        return backbone

    def release(self) -> None:
        """Forget a backbone that is loaded, which holds memory. It is loaded again if it is needed."""
        self._loaded = None

    def _load(self, request: BackboneRequest) -> Backbone:
        self._loaded = load(request, self._runtime.device, self._runtime.offline, self._progress)
        return self._loaded

    def _question(self) -> Mapping[str, Any]:
        """The request as the cache remembers it: with the size and time of each local file, and the versions."""
        request = self._request
        files = [request.checkpoint, plugin_file(request.plugin) if request.plugin else None]
        if request.model.startswith("local-dir:"):
            folder = expanded(request.model.partition(":")[2])
            files += [folder / name for name in ("config.json", *WEIGHT_FILES)]
        return {
            **asdict(request),
            "checkpoint": None,
            "seed": request.random_init and request.seed,
            "files": [[str(path.absolute()), _file_stamp(path)] for path in files if path],
            "versions": [format_of(request.dtype), version("timm"), version("torch")],
        }


def _remembered(answer: Mapping[str, Any]) -> tuple[_Known, Weights, list[int] | None]:
    """What the cache has remembered of a backbone: its key and columns, its weights, and the stamp of their file.

    Raises:
        ValueError: It does not make sense: files of the cache are of whoever can write to it.
    """
    given = CheckedValues(answer, "the remembered backbone")
    path = given.string_or_none("path")
    weights = Weights(given.text("kind"), given.string("name"), None if path is None else Path(path))
    columns = given.strings("columns")
    if FEATURE not in columns:
        raise ValueError(f"the columns lack {FEATURE}")
    known = _Known(FeatureKey.from_json(given.take("key")), weights.name, columns)
    return known, weights, list(given.wholes("file", least=0)) if path is not None else None


def _file_stamp(path: Path | None) -> list[int] | None:
    """The size and time of a file; ``None`` if there is no such file."""
    try:
        stat = expanded(path).stat() if path else None
    except (OSError, ValueError):
        return None
    return [stat.st_size, stat.st_mtime_ns] if stat else None


def _still_the_same(weights: Weights, stamp: list[int] | None) -> bool:
    """Whether the weights are those that are remembered.

    A file in the hub's cache that has been deleted counts as unchanged: features that it gave stay valid.
    """
    if weights.path is None:
        return True
    now = _file_stamp(weights.path)
    if weights.kind in ("checkpoint", "folder") and now is None:
        return False
    if weights.kind == "hub" and (newer := cached(weights.name, [weights.path.name])) and newer != weights.path:
        return False
    return now is None or now == stamp
