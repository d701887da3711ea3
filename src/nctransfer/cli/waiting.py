"""How the threads of a model wait for each other."""

from __future__ import annotations

import os

__all__ = ["wait_passively"]


def wait_passively() -> None:
    """Let threads of OpenMP sleep, not spin, while they wait for the others, unless the environment says otherwise.

    Spinning threads take the cores from the threads that decode images, and from other processes. OpenMP reads this
    setting once, when torch is imported; so a command calls this first. The library never does: the process is not its
    own.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
