"""What the engine uses of Ray, in one process and in an order that a seed decides, with workers that die when told."""

from __future__ import annotations

import itertools
import pickle
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

__all__ = ["FakeRay"]

Dies = Callable[[int, str, tuple[Any, ...]], str]
"""Told a worker, a method and its arguments; says whether the worker dies "before" or "after" the call, or "never"."""


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class RayActorError(RayError):
    pass


class FakeActor:
    """A worker: calls wait in its queue."""

    def __init__(self, ray: FakeRay, number: int, make: Callable[[], Any]) -> None:
        self.ray, self.number, self.queue = ray, number, deque[tuple[object, str, tuple[Any, ...]]]()
        self.make, self.made, self.is_dead = make, None, False

    def __getattr__(self, name: str) -> Any:
        def remote(*values: Any) -> object:
            reference = object()
            if self.is_dead:
                self.ray.results[reference] = RayActorError("its node died")
            else:
                self.queue.append((reference, name, pickle.loads(pickle.dumps(values))))
            return reference

        return SimpleNamespace(remote=remote)

    def die(self) -> None:
        self.is_dead = True
        for reference, *_ in self.queue:
            self.ray.results[reference] = RayActorError("connection error code 2")
        self.queue.clear()

    def step(self) -> None:
        """Run the call that waits longest."""
        reference, name, values = self.queue[0]
        fate = self.ray.dies(self.number, name, values)
        if fate == "before":
            self.die()
            return
        self.made = self.made or self.make()
        result = getattr(self.made, name)(*values)
        if fate == "after":
            self.die()
            return
        self.queue.popleft()
        self.ray.results[reference] = pickle.loads(pickle.dumps(result))


class FakeRay:
    """The package ``ray`` and a cluster.

    Args:
        nodes: The resources of each node.
        dies: Which workers die when.
        seed: Decides which worker goes on next.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError, RayActorError=RayActorError)

    def __init__(
        self, nodes: Sequence[Mapping[str, float]] = ({"CPU": 2},), dies: Dies = lambda *_: "never", seed: int = 0
    ) -> None:
        self.results: dict[object, Any] = {}
        self.actors: list[FakeActor] = []
        self.settings: list[Mapping[str, Any]] = []
        self.dies = dies
        self.on_wait: Callable[[int], None] = lambda _: None
        self._waits = itertools.count(1)
        self._nodes = nodes
        self._random = random.Random(seed)

    def is_initialized(self) -> bool:
        return True

    def shutdown(self) -> None:
        pass

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": dict(one)} for one in self._nodes]

    def remote(self, **settings: Any) -> Callable[[type], Any]:
        self.settings.append(settings)

        def make(kind: type) -> Any:
            def start(*values: Any) -> FakeActor:
                copied = pickle.loads(pickle.dumps(values))
                self.actors.append(FakeActor(self, len(self.actors), lambda: kind(*copied)))
                return self.actors[-1]

            return SimpleNamespace(remote=start)

        return make

    def wait(self, references: Sequence[object], timeout: float) -> tuple[list[object], list[object]]:
        self.on_wait(next(self._waits))
        if not any(reference in self.results for reference in references):
            waiting = [actor for actor in self.actors if actor.queue]
            assert waiting, "the engine waits for ever"
            self._random.choice(waiting).step()
        done = [reference for reference in references if reference in self.results]
        return done[:1], done[1:]

    def get(self, reference: object) -> Any:
        result = self.results.pop(reference)
        if isinstance(result, Exception):
            raise result
        return result

    def kill(self, actor: FakeActor) -> None:
        actor.die()
