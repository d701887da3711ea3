"""Candidates as text: a model and the options of its own, as on the command line of ``nctransfer extract``."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer import paths
from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.expanding import expanded

if TYPE_CHECKING:
    from nctransfer.backbones.request import BackboneRequest

__all__ = ["parse_candidate", "read_candidates"]

HOW = "give a model and options of a backbone, for example resnet50 --img-size 128"


def parse_candidate(text: str, defaults: BackboneOptions | None = None, seed: int = 0) -> BackboneRequest:
    """The backbone that a text such as ``resnet50 --img-size 128`` names.

    Args:
        text: The model, and any options that say which backbone runs; also ``--seed``, for random weights.
        defaults: Options of the whole command, for all that the text does not set.
        seed: The seed of random weights, if the text sets none.

    Raises:
        SettingError: The text has an unknown option or a wrong value.
    """
    from nctransfer.errors import SettingError

    found: list[tuple[BackboneOptions, str, int | None]] = []

    def candidate(
        backbone: BackboneOptions,
        name: Annotated[str, typer.Argument(metavar="MODEL")],
        seed: Annotated[int | None, typer.Option("--seed")] = None,
    ) -> None:
        found.append((backbone, name, seed))

    app = typer.Typer(add_completion=False)
    app.command(add_help_option=False)(expanded(candidate))
    try:
        typer.main.get_command(app).main(shlex.split(text), prog_name="candidate", standalone_mode=False)
        [(options, name, own_seed)] = found
        if options.model is not None:
            raise SettingError(f"the candidate {text!r} has two models", HOW)
        given = dataclasses.asdict(options) | {"model": name}
        for option, value in dataclasses.asdict(defaults or BackboneOptions()).items():
            if given[option] == getattr(BackboneOptions(), option):
                given[option] = value
        return BackboneOptions(**given).request(seed if own_seed is None else own_seed)
    except (typer.BadParameter.__base__, ValueError) as error:  # type: ignore[misc]  # any wrong usage; open quotes
        reason = error.format_message() if hasattr(error, "format_message") else str(error)
        raise SettingError(f"the candidate {text!r} cannot be read: {reason}", HOW) from error


def read_candidates(file: Path, defaults: BackboneOptions | None = None, seed: int = 0) -> list[BackboneRequest]:
    """The backbones that a file names, one in a line. Empty lines and text after ``#`` do not count.

    Args:
        file: The file.
        defaults: See :func:`parse_candidate`.
        seed: See :func:`parse_candidate`.

    Raises:
        SettingError: The file cannot be read, or names no candidate; or a line cannot be understood.
        ModelError: A line names a model that does not exist.
    """
    from nctransfer.errors import NCTransferError, SettingError, reason_of
    from nctransfer.rank.candidates import candidates_of

    try:
        lines = paths.read_list(paths.expanded(file)).splitlines()
    except (OSError, ValueError) as error:
        raise SettingError(
            f"the candidates in {str(file)!r} cannot be read: {reason_of(error)}",
            "give a text file, one model per line",
        ) from error
    requests = []
    for number, line in enumerate(lines, 1):
        if not (text := re.sub(r"(^|\s)#.*", "", line).strip()):
            continue
        try:
            request = parse_candidate(text, defaults, seed)
            candidates_of([request])  # there must be such a model
        except NCTransferError as error:
            raise type(error)(f"{str(file)!r}, line {number}: {error.message}", error.hint) from error
        requests.append(request)
    if not requests:
        raise SettingError(f"{str(file)!r} names no candidate", f"in each line, {HOW}")
    return requests
