"""Published files: from the cache of the Hugging Face hub (or of torch), else downloaded, else a clear error."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nctransfer.errors import WeightsError

__all__ = ["Progress", "cached", "cached_url", "fetch", "fetch_url"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
HUB_SECONDS = 5.0  # until a server that does not answer counts as not reachable


def cached(repository: str, filenames: Sequence[str]) -> Path | None:
    """The first of the files that the hub's cache holds.

    Args:
        repository: ``owner/name``, or ``owner/name@revision``.
        filenames: Alternatives, the preferred one first.
    """
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = repository.partition("@")
    for filename in filenames:
        if isinstance(path := try_to_load_from_cache(name, filename, revision=revision or None), str):
            return Path(path)
    return None


def cached_url(url: str) -> Path | None:
    """What torch's cache holds of a URL."""
    return path if (path := _url_file(url)).is_file() else None


def fetch(
    repository: str, filenames: Sequence[str], what: str, offline: bool = False, progress: Progress | None = None
) -> Path:
    """The first of the files that there is, from the cache or downloaded into it.

    Args:
        repository: ``owner/name``, or ``owner/name@revision``.
        filenames: Alternatives, the preferred one first.
        what: What the file is, for messages: "the weights of …".
        offline: Only the cache; ``HF_HUB_OFFLINE`` does the same.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        WeightsError: It is not at hand, and cannot be had.
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
                if isinstance(error, LocalEntryNotFoundError):  # refused, not absent
                    raise
    except Exception as error:  # of the hub's client, or of whichever HTTP library it uses
        raise WeightsError(f"{what} could not be downloaded: {_first_line(error)}") from error
    raise WeightsError(f"{repository} holds none of {', '.join(filenames)}")


def fetch_url(url: str, what: str, offline: bool = False) -> Path:
    """What a URL holds, from torch's cache or downloaded into it; see :func:`fetch`."""
    if path := cached_url(url):
        return path
    import torch

    path = _url_file(url)
    _check_reachable(url, str(path.parent), what, offline)
    log.info("downloading %s from %s", what, url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except Exception as error:  # of whichever HTTP library it uses
        raise WeightsError(f"{what} could not be downloaded: {_first_line(error)}") from error
    return path


def _url_file(url: str) -> Path:
    import torch

    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


def _check_reachable(endpoint: str, where: str, what: str, offline: bool) -> None:
    from huggingface_hub import constants

    asked_not = "--offline" if offline else "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
    if reason := asked_not or _why_unreachable(endpoint):
        raise WeightsError(
            f"{what} are not at hand: not in {where}, and {endpoint} "
            + (f"was not asked ({asked_not})" if asked_not else f"is not reachable ({reason})"),
            "connect and run again, give a file by --checkpoint FILE, take --model tf_efficientnet_lite0 "
            "(at hand; nctransfer models lists others), or --random-init for a control without training",
        )


def _why_unreachable(url: str) -> str:
    """Why a server gives no answer, of whatever kind, within HUB_SECONDS; empty if it does."""
    from huggingface_hub import get_session

    outcome = [f"no answer within {HUB_SECONDS:.0f} seconds"]

    def ask() -> None:
        try:
            get_session().head(url, timeout=HUB_SECONDS)
            outcome[0] = ""
        except Exception as error:  # of whichever HTTP library the hub's client uses
            outcome[0] = str(error) or type(error).__name__

    # a thread, as looking up a name may hang for longer than any timeout of the request
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return outcome[0]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _tqdm_class(progress: Progress | None) -> Any:
    """A progress bar that draws nothing and tells ``progress``."""
    from tqdm.auto import tqdm

    class Reporter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})

        def display(self, *_: Any, **__: Any) -> None:
            if progress and self.total:
                progress("downloading weights", int(self.n), int(self.total))

    return Reporter
