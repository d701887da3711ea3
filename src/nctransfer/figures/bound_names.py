"""What bounds of the error are called in figures."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["by", "readable"]

NAMES: Mapping[str, str] = {
    "galanti2022": "Galanti et al. 2022",
    "galanti2022_sharp": "Galanti et al. 2022, sharper",
    "luthra2025": "Luthra et al. 2025",
    "luthra2026": "Luthra et al. 2026",
    "luthra2026_capped": "Luthra et al. 2026, capped",
    "margin": "margin bound",
    "margin_per_query": "margin bound per query",
}


def readable(name: str) -> str:
    """The name of a bound for readers; a bound without one keeps its own.

    >>> readable("margin_per_query"), readable("mine")
    ('margin bound per query', 'mine')
    """
    return NAMES.get(name, name)


def by(name: str) -> str:
    """What follows "by" in a sentence.

    >>> by("margin"), by("luthra2025"), by("mine")
    ('the margin bound', 'Luthra et al. 2025', 'the bound mine')
    """
    found = readable(name)
    if name not in NAMES:
        return f"the bound {name}"
    return f"the {found}" if found[0].islower() else found
