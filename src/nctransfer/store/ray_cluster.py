"""A cluster of Ray: joined, or started on this computer and stopped at the end; and how workers share it."""

from __future__ import annotations

import importlib
import logging
import math
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import DeviceError, EngineError, reason_of

if TYPE_CHECKING:
    from nctransfer.store.ray_options import RayOptions

__all__ = ["Crew", "joined_cluster", "planned_crew", "ray_package"]

log = logging.getLogger(__name__)

THREADS = 4  # of a worker on the CPU: more processes with fewer threads are faster, but each holds a model
OBJECT_STORE = 100 * 2**20  # bytes; only lists of images and of parts go through it
LONGEST_FOLDER = 40  # characters: the system allows 107 for the path of a socket, and Ray needs about 65
REACHED_WITHIN = 10.0  # seconds
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True, kw_only=True)
class Crew:
    """How many workers there are, and what each uses.

    Attributes:
        actors: The number of workers.
        cpus: The CPUs that Ray keeps for each; a share if there are more workers than CPUs.
        gpus: The GPUs of each.
        threads: The threads of each, for the model on the CPU and for decoding.
        room: How many such workers the cluster has room for now.
    """

    actors: int
    cpus: float
    gpus: float
    threads: int
    room: int


def planned_crew(options: RayOptions, device: str, nodes: Sequence[Mapping[str, float]]) -> Crew:
    """Divide a cluster among workers.

    Args:
        options: What the user asked for.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        nodes: The resources of each node, such as ``{"CPU": 8, "GPU": 1}``.

    Raises:
        DeviceError: The cluster has not what is asked for.

    >>> from nctransfer.store.ray_options import RayOptions
    >>> planned_crew(RayOptions(), "auto", [{"CPU": 32, "GPU": 4}, {"CPU": 16, "GPU": 2}])
    Crew(actors=6, cpus=1, gpus=1.0, threads=8, room=6)
    >>> planned_crew(RayOptions(actors=3), "auto", [{"CPU": 2}])
    Crew(actors=3, cpus=0.5, gpus=0.0, threads=1, room=4)
    """
    total = sum(node.get("GPU", 0.0) for node in nodes)
    share = options.gpus_per_actor
    if share is None:
        share = 1.0 if total and (device == "auto" or device.startswith("cuda")) else 0.0
    if share and device not in ("auto", "cuda"):
        raise DeviceError(f"--device {device} and GPUs per worker exclude each other", "leave one of them out")
    if device.startswith("cuda") and not share:
        raise DeviceError(
            "no worker would have a GPU for --device cuda", "the cluster has none, or give --gpus-per-actor 1"
        )
    return _with_gpus(options, share, nodes) if share else _without_gpus(options, nodes)


def _with_gpus(options: RayOptions, share: float, nodes: Sequence[Mapping[str, float]]) -> Crew:
    slots = [math.floor(node.get("GPU", 0.0) / share + 1e-9) for node in nodes]
    if not sum(slots):
        most = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
        gpus = f"{share:g} GPU" + "s" * (share > 1)
        raise DeviceError(
            f"a worker with {gpus} fits on no node of the cluster: the largest has {most:g}",
            "give a smaller --gpus-per-actor, or --device cpu",
        )
    cores = [(node.get("CPU", 0.0), slot) for node, slot in zip(nodes, slots, strict=True) if slot]
    return Crew(
        actors=options.actors or sum(slots),
        cpus=1 if all(cpus >= slot for cpus, slot in cores) else 0,
        gpus=share,
        threads=max(1, min(int(cpus // slot) for cpus, slot in cores)),
        room=sum(slots),
    )


def _without_gpus(options: RayOptions, nodes: Sequence[Mapping[str, float]]) -> Crew:
    cores = [int(node.get("CPU", 0.0)) for node in nodes]
    if not sum(cores):
        raise DeviceError("the cluster has no CPUs", "start its nodes with --num-cpus")
    actors = options.actors or sum(math.ceil(count / THREADS) for count in cores)
    most = max(cores)
    shares: list[float] = [*range(most, 0, -1), *(1 / parts for parts in range(2, actors + 1))]
    rooms = ((share, sum(math.floor(count / share + 1e-9) for count in cores)) for share in shares)
    cpus, room = next(found for found in rooms if found[1] >= actors)
    return Crew(actors=actors, cpus=cpus, gpus=0.0, threads=max(1, int(cpus)), room=room)


def ray_package() -> Any:
    """The package ``ray``.

    Raises:
        EngineError: It is not installed.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise EngineError("Ray is not installed", "pip install 'nctransfer[ray]'") from error


@contextmanager
def joined_cluster(options: RayOptions) -> Iterator[list[Mapping[str, float]]]:
    """Join the cluster of the options, or start one; if this process has joined one already, that one is used.

    Yields:
        The resources of each node.

    Raises:
        EngineError: Ray is not installed, or the cluster cannot be joined or started.
    """
    ray = ray_package()
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        if not ray.is_initialized():
            stack.callback(ray.shutdown)
            with _signals_kept():
                if options.address is None:
                    log.info("starting Ray on this computer …")
                    _start(ray, stack)
                else:
                    log.info("joining the cluster of Ray at %s …", options.address)
                    _join(ray, options.address)
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _start(ray: Any, stack: ExitStack) -> None:
    """Start a cluster of this computer alone."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    if len(str(folder)) > LONGEST_FOLDER:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.callback(ray.shutdown)
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        # Ray asks for a token of its own accord; this one is known to nobody else, and not kept in the home folder
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            stack.callback(os.environ.pop, name, None)
    if "RAY_worker_niceness" not in os.environ:
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
        stack.callback(os.environ.pop, "RAY_worker_niceness", None)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        ray.init(
            "local",
            num_cpus=cores,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=OBJECT_STORE,
            _temp_dir=str(folder),
        )
    except (RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
        raise EngineError(f"Ray cannot be started here: {reason_of(error)}", "try it by: ray start --head") from error


def _join(ray: Any, address: str) -> None:
    """Join a cluster that runs."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    said: list[str] = []
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), REACHED_WITHIN).close()
        with _kept_stderr() as said:
            ray.init(address, log_to_driver=False, configure_logging=False)
    except (RuntimeError, OSError, ValueError, OverflowError, ray.exceptions.RayError) as error:
        hint = "see whether it runs by: ray status --address ADDRESS; without --address one is started on this computer"
        why = said[-1] if said else ""
        if "token" in why.lower():
            hint = (
                "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as they are on its nodes; if --address auto has found the "
                "cluster of another user, give the address of yours"
            )
        raise EngineError(
            f"the cluster of Ray at {address!r} cannot be joined: {reason_of(error)}" + f" ({why})" * bool(why), hint
        ) from error


@contextmanager
def _kept_stderr() -> Iterator[list[str]]:
    """Keep what the compiled part of Ray prints on standard error once a second while it tries to connect.

    Yields:
        A list, which is empty until the end, when it holds the messages.
    """
    messages: list[str] = []
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield messages
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            messages += re.findall(r"\.cc:\d+: (.+)", file.read().decode(errors="replace"))


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep what SIGTERM does: Ray would exit at once, before the workers have written what they have computed."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray from printing: on standard output it would stand between the results."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    # it prints what kills a worker, which the engine reports itself; Ray has no setting for that
    worker: Any = sys.modules.get("ray._private.worker")
    show: Callable[..., object] | None = getattr(worker, "print_to_stdstream", None)
    if show is not None:
        worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        logger.setLevel(level)
        if show is not None:
            worker.print_to_stdstream = show
