"""A Griffe extension for the API reference: Sphinx roles in docstrings become links, or plain code.

``:class:`~nctransfer.features.feature_set.FeatureSet``` becomes a link named ``FeatureSet``, which is on the page.
What is not public has no place there, and becomes code.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Module, Object

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(?P<short>~?)(?P<path>[\w.]+)`")


class SphinxRoles(Extension):
    """See the module."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Rewrite every docstring of the package."""
        names = [name for name in pkg.exports or () if str(name) in pkg.members]
        self._homes = {pkg.members[str(name)].canonical_path: f"{pkg.path}.{name}" for name in names}
        self._package = pkg
        self._rewrite(pkg)

    def _rewrite(self, one: Object) -> None:
        if one.docstring:
            one.docstring.value = _ROLE.sub(self._link, one.docstring.value)
        for member in one.members.values():
            if not member.is_alias:
                self._rewrite(member)  # type: ignore[arg-type]

    def _link(self, found: re.Match[str]) -> str:
        path = found["path"]
        name = path.rpartition(".")[2] if found["short"] else path
        target = self._documented(path)
        return f"[`{name}`][{target}]" if target else f"`{name}`"

    def _documented(self, path: str) -> str | None:
        """Where the page has a path, which may be that of a module or the bare name of what is public."""
        for home, public in self._homes.items():
            for start in (home, public, public.rpartition(".")[2]):
                rest = path.removeprefix(start)
                if path.startswith(start) and (not rest or rest.startswith(".")):
                    members = getattr(self._package[public.rpartition(".")[2]], "members", {})
                    is_there = not rest or (rest[1:] in members and not rest.startswith("._"))
                    return public + rest if is_there else None
        return None
