"""Registries: entries by name, from this package and from others that are installed.

Measures, classifiers, data sources and output formats are each kept in a registry. An entry says everything about
itself, so that options, help texts and tables are made from it. Another package adds an entry through an entry point::

    [project.entry-points."nctransfer.classifiers"]
    median = "their_package:MEDIAN"

The names of such entries are known without importing the package, so that ``--help`` stays fast; an entry is imported
when it is first used.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from nctransfer.errors import PluginError

if TYPE_CHECKING:
    from importlib import metadata

__all__ = ["Entry", "Registry"]


class Entry(Protocol):
    """What a registry holds: anything with a name."""

    @property
    def name(self) -> str:
        """The name by which users choose it."""


E = TypeVar("E", bound=Entry)


class Registry(Mapping[str, E], Generic[E]):
    """Entries by name: this package's in the given order, then those of other packages by name.

    Args:
        group: The group of entry points, such as ``nctransfer.measures``.
        kind: The class of every entry.
        entries: The entries of this package.

    >>> from types import SimpleNamespace
    >>> shapes = Registry("nctransfer.no_such_group", SimpleNamespace, [SimpleNamespace(name="round")])
    >>> list(shapes), shapes["round"].name
    (['round'], 'round')
    """

    def __init__(self, group: str, kind: type[E], entries: Sequence[E]) -> None:
        self.group = group
        self._kind = kind
        self._own = {entry.name: entry for entry in entries}
        self._loaded: dict[str, E] = {}
        assert len(self._own) == len(entries), "every entry has a name of its own"

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._others

    def __len__(self) -> int:
        return len(self._own) + len(self._others)

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._others

    def __getitem__(self, name: str) -> E:
        """The entry of that name.

        Raises:
            KeyError: There is none.
            PluginError: It belongs to another package, and cannot be used.
        """
        if name in self._own:
            return self._own[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(self._others[name])
        return self._loaded[name]

    @property
    def own(self) -> Mapping[str, E]:
        """The entries of this package, which are known without importing another one."""
        return self._own

    @functools.cached_property
    def _others(self) -> dict[str, metadata.EntryPoint]:
        """The entry points of other packages, by name.

        Raises:
            PluginError: One has the name of an entry of this package, or of a third one's.
        """
        from importlib import metadata  # slow to import, and mostly not needed

        found: dict[str, metadata.EntryPoint] = {}
        for point in sorted(metadata.entry_points(group=self.group), key=lambda one: one.name):
            if point.name in self._own or point.name in found:
                raise PluginError(
                    f"the package {_package(point)} adds {point.name!r} to {self.group}, which has that already",
                    f"uninstall {_package(point)}, or have its entry point renamed",
                )
            found[point.name] = point
        return found

    def _load(self, point: metadata.EntryPoint) -> E:
        try:
            entry = point.load()
        except Exception as error:  # whatever the other package raises when it is imported
            raise PluginError(
                f"{point.name!r} of the package {_package(point)} cannot be loaded: {type(error).__name__}: {error}",
                f"mend or uninstall {_package(point)}",
            ) from error
        if not isinstance(entry, self._kind) or entry.name != point.name:
            raise PluginError(
                f"{point.name!r} of the package {_package(point)} should be a {self._kind.__name__} of that name, "
                f"and is {entry!r}",
                f"mend or uninstall {_package(point)}",
            )
        return entry


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else point.module
