"""Download published files, or find them in the caches of the Hugging Face hub and of torch."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nctransfer.errors import WeightsError, reason_of

__all__ = ["Progress", "cached", "cached_url", "fetch", "fetch_url", "why_not_asked", "why_offline"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``."""
HOW_ELSE = (
    "connect to the network and run again; or give a file with --checkpoint FILE, --model tf_efficientnet_lite0 (whose "
    "weights come with the installation; nctransfer models lists others), or --random-init for untrained weights"
)
HUB_SECONDS = 5.0  # a server that takes longer to answer counts as unreachable


def cached(repository: str, filenames: Sequence[str]) -> Path | None:
    """The first of some files that is in the cache of the hub, or ``None`` if none is.

    Args:
        repository: ``owner/name``, or ``owner/name@revision``.
        filenames: Alternative names, the preferred one first.
    """
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = repository.partition("@")
    for filename in filenames:
        if isinstance(path := try_to_load_from_cache(name, filename, revision=revision or None), str):
            return Path(path)
    return None


def cached_url(url: str) -> Path | None:
    """The file that torch's cache holds for a URL, or ``None``."""
    return path if (path := _url_file(url)).is_file() else None


def fetch(
    repository: str, filenames: Sequence[str], what: str, offline: bool = False, progress: Progress | None = None
) -> Path:
    """The first of some files that a repository holds, from the cache or downloaded into it.

    Args:
        repository: ``owner/name``, or ``owner/name@revision``.
        filenames: Alternative names, the preferred one first.
        what: What the file is, for messages: "the weights of …".
        offline: Whether only the cache may be used; the environment variable ``HF_HUB_OFFLINE`` does the same.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        WeightsError: The file is not in the cache, and cannot be downloaded.
    """
    if path := cached(repository, filenames):
        return path
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    _check_reachable(constants.ENDPOINT, f"the hub's cache ({constants.HF_HUB_CACHE})", what, offline)
    log.info("downloading %s from %s", what, repository)
    name, _, revision = repository.partition("@")
    try:
        for filename in filenames:
            try:
                file = hf_hub_download(name, filename, revision=revision or None, tqdm_class=_tqdm_class(progress))
                return Path(file)
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):  # the server could not be asked
                    raise
    except Exception as error:  # it may come from the hub's client or its HTTP library
        raise WeightsError(f"{what} could not be downloaded: {reason_of(error)}", HOW_ELSE) from error
    raise WeightsError(f"{repository} holds none of {', '.join(filenames)}", HOW_ELSE)


def fetch_url(url: str, what: str, offline: bool = False) -> Path:
    """The file at a URL, from torch's cache or downloaded into it; see :func:`fetch` for the arguments."""
    if path := cached_url(url):
        return path
    import torch

    path = _url_file(url)
    _check_reachable(url, str(path.parent), what, offline)
    log.info("downloading %s from %s", what, url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except Exception as error:  # it may come from any HTTP library
        raise WeightsError(f"{what} could not be downloaded: {reason_of(error)}", HOW_ELSE) from error
    return path


def _url_file(url: str) -> Path:
    import torch

    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


def why_offline(offline: bool = False) -> str:
    """Why nothing can be downloaded from the hub; empty if it answers.

    Args:
        offline: Whether the hub must not be asked.
    """
    from huggingface_hub import constants

    return why_not_asked(offline) or _why_unreachable(constants.ENDPOINT)


def why_not_asked(offline: bool) -> str:
    """Why no server may be asked; empty if it may be."""
    from huggingface_hub import constants

    return "--offline" if offline else "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""


def _check_reachable(endpoint: str, where: str, what: str, offline: bool) -> None:
    asked_not = why_not_asked(offline)
    if reason := asked_not or _why_unreachable(endpoint):
        raise WeightsError(
            f"{what} are not on this machine: they are not in {where}, and {endpoint} "
            + (f"was not asked ({asked_not})" if asked_not else f"cannot be reached ({reason})"),
            HOW_ELSE,
        )


def _why_unreachable(url: str) -> str:
    """Why a server does not answer within HUB_SECONDS; empty if it answers, even with an error."""
    from huggingface_hub import get_session

    outcome = [f"no answer within {HUB_SECONDS:.0f} seconds"]

    def ask() -> None:
        try:
            get_session().head(url, timeout=HUB_SECONDS)
            outcome[0] = ""
        except Exception as error:  # it may come from any HTTP library
            outcome[0] = reason_of(error)

    # In a thread, because looking up the server's name may take longer than the timeout of the request.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return outcome[0]


def _tqdm_class(progress: Progress | None) -> Any:
    """A class of progress bars that draw nothing, and call ``progress`` instead."""
    from tqdm.auto import tqdm

    class Reporter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})

        def display(self, *_: Any, **__: Any) -> None:
            if progress and self.total:
                progress("downloading weights", int(self.n), int(self.total))

    return Reporter
