"""Places of files as a page shows them: a page is passed on, so it does not tell the name of its author's folder."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["last_part", "without_home"]


def last_part(place: str) -> str:
    """The last part of a path or name; the whole of it if that would be nothing.

    >>> last_part("/home/ann/pets.tar"), last_part("pets/"), last_part("torch/cifar10"), last_part("/")
    ('pets.tar', 'pets', 'cifar10', '/')
    """
    return Path(place).name or place


def without_home(text: str) -> str:
    """A text in which ``~`` stands for the home folder of the user.

    >>> from pathlib import Path
    >>> home = Path.home()
    >>> without_home(f"--data={home}/pets of {home}") == "--data=~/pets of ~"
    True
    """
    home = str(Path.home()).rstrip("/\\")
    return re.sub(rf"{re.escape(home)}(?=[/\\'\"\s:;,]|$)", "~", text) if home else text
