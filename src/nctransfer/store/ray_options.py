"""How an extraction uses Ray: how many workers, with which share of a GPU, on which cluster."""

from __future__ import annotations

from dataclasses import dataclass

from nctransfer.errors import SettingError

__all__ = ["ENGINES", "RayOptions"]

ENGINES = {"local": "this process", "ray": "worker processes of Ray, here or on a cluster"}


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """How many workers run, and where.

    Attributes:
        actors: The number of workers, each with a backbone of its own. Default: one per GPU; without GPUs, as many as
            share the cores with a few threads each.
        gpus_per_actor: The GPUs of a worker; a share such as 0.5 lets two workers use one GPU. Default: 1 if the
            cluster has GPUs, else 0.
        address: The cluster to join: ``auto``, ``host:port`` or ``ray://host:port``. Without it, a cluster is started
            on this computer, and stopped at the end.

    Raises:
        SettingError: A value makes no sense.
    """

    actors: int | None = None
    gpus_per_actor: float | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise SettingError(f"expected at least 1 actor, got {self.actors}", "give --actors 1 or more")
        share = self.gpus_per_actor
        if share is not None and not (0 <= share <= 1 or (1 < share < 2**16 and share == int(share))):
            raise SettingError(
                f"expected a number of GPUs per actor from 0 to 1, or a whole number, got {share}",
                "give --gpus-per-actor 1, or a share such as 0.5",
            )
        if self.address == "":
            raise SettingError("the address of the cluster is empty", "give auto, host:port or ray://host:port")
