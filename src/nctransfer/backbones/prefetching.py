"""Download the weights of the next backbone while the present one runs."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nctransfer.backbones.hub import why_not_asked
from nctransfer.backbones.names import PIXELS, resolve
from nctransfer.backbones.plugins import import_plugin
from nctransfer.backbones.timm_import import import_timm
from nctransfer.backbones.weight_files import at_hand, find
from nctransfer.errors import ModelError, NCTransferError

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.backbones.request import BackboneRequest

__all__ = ["WeightsAhead", "is_at_hand"]

log = logging.getLogger(__name__)

PATIENCE = 0.1  # seconds between two looks at a download that is waited for


def is_at_hand(request: BackboneRequest) -> bool:
    """Whether no server is needed for a backbone. Files of the user's own count, even if they do not exist.

    Raises:
        ModelError: There is no such model.
    """
    if request.checkpoint or request.random_init or request.model.startswith(("local-dir:", "local_dir:")):
        return True
    if request.plugin:
        import_plugin(request.plugin)
    try:
        spec = resolve(request.model, offline=True)
    except ModelError:
        if ":" in request.model:  # its description is not in the hub's cache
            return False
        raise
    return spec.name == PIXELS or at_hand(spec) is not None


class WeightsAhead:
    """Downloads the weights of one backbone after the other in the background, as a context.

    Nothing is downloaded twice: if :meth:`wait` returns, the weights are in the cache of the hub, where loading finds
    them. When the context ends, also by Ctrl-C, a download that still runs is left behind: its thread does not keep the
    process alive, and the hub's client finishes such a file another time.

    Args:
        offline: Whether servers must not be asked; then nothing is done ahead.
    """

    def __init__(self, offline: bool = False) -> None:
        self._offline = offline
        self._downloads: dict[str, _Download] = {}
        self._started: set[str] = set()  # each is tried once, also if it failed
        self._last: _Download | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for download in self._downloads.values():
            download.is_wanted = False
        self._downloads.clear()

    def start(self, request: BackboneRequest) -> None:
        """Download the weights of a backbone in the background, if they are not here, after those that came before.

        Errors are kept until :meth:`wait`.
        """
        if why_not_asked(self._offline) or str(request) in self._started:
            return
        try:
            if is_at_hand(request):
                return
        except NCTransferError:  # loading it will say so
            return
        import_timm()  # not in two threads at once
        self._started.add(str(request))
        self._last = self._downloads[str(request)] = _Download(request, self._last)

    def is_busy_with(self, request: BackboneRequest) -> bool:
        """Whether the weights of a backbone are being downloaded."""
        download = self._downloads.get(str(request))
        return download is not None and download.thread.is_alive()

    def wait(self, request: BackboneRequest, progress: Progress | None = None) -> None:
        """Wait for the weights of a backbone if they are being downloaded.

        Args:
            request: The backbone.
            progress: Called as ``progress(stage, done, total)`` while it waits.

        Raises:
            NCTransferError: The weights could not be had.
        """
        download = self._downloads.pop(str(request), None)
        if download is None:
            return
        while download.thread.is_alive():
            download.thread.join(PATIENCE)
            if progress and download.total:
                progress("downloading weights", download.done, download.total)
        if download.error:
            raise download.error


class _Download:
    """One download in a thread of its own, which first waits for the one before."""

    def __init__(self, request: BackboneRequest, before: _Download | None) -> None:
        self.done = self.total = 0
        self.error: NCTransferError | None = None
        self.is_wanted = True
        self._request = request
        self._before = before
        self.thread = threading.Thread(target=self._run, name=f"weights of {request.model}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        if self._before:
            self._before.thread.join()
            self._before = None
        if not self.is_wanted:
            return
        try:
            spec = resolve(self._request.model, progress=self._note)
            find(spec, progress=self._note)
        except NCTransferError as error:
            self.error = error
        except Exception as error:  # loading the backbone will tell it in words
            log.debug("the weights of %s could not be fetched ahead: %s", self._request.model, error)

    def _note(self, _: str, done: int, total: int) -> None:
        self.done, self.total = done, total
