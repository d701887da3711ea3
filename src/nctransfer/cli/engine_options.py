"""Options that say which engine runs the images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from nctransfer.cli.expanding import panel_option

if TYPE_CHECKING:
    from nctransfer.store.pipeline import Runtime

__all__ = ["EngineOptions"]

_RUN = "How to run"


@dataclass(frozen=True)
class EngineOptions:
    """What runs the images: this process, or workers of Ray."""

    engine: Annotated[
        str,
        panel_option(
            "--engine",
            panel=_RUN,
            metavar="NAME",
            help="What runs the images: local (this process), or ray (several worker processes, also on other "
            "computers; the extra ray of this package installs it).",
        ),
    ] = "local"
    actors: Annotated[
        int | None,
        panel_option(
            "--actors",
            panel=_RUN,
            metavar="N",
            min=1,
            help="Workers of Ray; each holds the model.",
            show_default="one per GPU, or one per four cores",
        ),
    ] = None
    gpus_per_actor: Annotated[
        float | None,
        panel_option(
            "--gpus-per-actor",
            panel=_RUN,
            metavar="G",
            min=0,
            help="GPUs of each worker of Ray; 0.5 lets two workers share one GPU.",
            show_default="1 if there are GPUs",
        ),
    ] = None
    address: Annotated[
        str | None,
        panel_option(
            "--address",
            panel=_RUN,
            metavar="ADDRESS",
            help="The cluster of Ray to join: auto, HOST:PORT or ray://HOST:PORT.",
            show_default="one is started on this computer",
        ),
    ] = None

    def applied_to(self, runtime: Runtime) -> Runtime:
        """How to run, with this engine.

        Raises:
            SettingError: There is no such engine, or an option does not apply to it.
        """
        from nctransfer.errors import SettingError
        from nctransfer.store.ray_options import RayOptions

        given = {"actors": self.actors, "gpus_per_actor": self.gpus_per_actor, "address": self.address}
        useless = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
        if self.engine == "local" and useless:
            raise SettingError(
                f"{useless[0]} has no effect on --engine local", f"give --engine ray, or leave out {useless[0]}"
            )
        ray = RayOptions(actors=self.actors, gpus_per_actor=self.gpus_per_actor, address=self.address)
        return dataclasses.replace(runtime, engine=self.engine, ray=ray)
