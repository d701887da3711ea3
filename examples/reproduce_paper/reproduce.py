"""The experiments of Galanti, György, Hutter (ICLR 2022) by one command: train, follow, compare, check the claims.

    python examples/reproduce_paper/reproduce.py --data cifar100/ --source-classes train.txt --target-classes test.txt

All is kept in ``--output``, and the same command goes on where it was stopped. README.md beside this file says more.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from timm.data import resolve_model_data_config

import nctransfer as nct
import report
import samples
from nctransfer.checkpoints.rehearsal import rehearse
from nctransfer.checkpoints.samples import samples_of
from nctransfer.devices import pick_device
from nctransfer.errors import NCTransferError
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions
from training import NETWORKS, Recipe, build, checkpoint, is_done, train


class Equal(StrEnum):
    """What every number of classes gets as many of."""

    updates = "updates"
    epochs = "epochs"


class Precision(StrEnum):
    """What is computed in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def train_all(
    recipes: dict[Path, tuple[Recipe, Sequence[str]]], images: samples.Images, device: str, jobs: int | None
) -> None:
    """Train by a recipe on its classes, for each folder; several at once, in processes of their own."""
    tasks = [(recipe, classes, images, folder, device) for folder, (recipe, classes) in recipes.items()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_once = min(len(tasks), jobs or (max(1, cores // 4) if device == "cpu" else 1))
    if at_once < 2:
        for task in tasks:
            train(*task)
        return
    images.pixels.share_memory_()
    spawn, threads = torch.multiprocessing.get_context("spawn"), max(1, cores // at_once)
    with ProcessPoolExecutor(at_once, spawn, torch.set_num_threads, (threads,)) as pool:
        running = [pool.submit(train, *task) for task in tasks]
        for done in as_completed(running):
            if done.exception():  # the others, which may take hours, are not begun
                pool.shutdown(cancel_futures=True)
            done.result()


def command(values: dict[str, Any]) -> str:
    """The command with every option, as it could be given again."""
    words = ["python", __file__]
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    return shlex.join(words)


def numbers(text: str) -> list[int]:
    """A comma list of whole numbers, ascending."""
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no comma list of whole numbers") from None


def decimals(text: str) -> tuple[float, ...]:
    """A comma list of numbers; ``none`` for no number."""
    try:
        return () if text == "none" else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a comma list of numbers, such as 0.6,0.8", param_hint="--milestones"
        ) from None


def doubling(first: int, most: int) -> list[int]:
    """``first``, twice that, and so on."""
    return [first * 2**power for power in range(most.bit_length()) if first * 2**power <= most]


def main(
    data: Annotated[str, typer.Option(help="Labelled images, as nctransfer --data takes them.")],
    output: Annotated[Path, typer.Option(help="Folder of checkpoints and results.")] = Path("reproduced"),
    source_classes: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Classes to train on: one name a line.")
    ] = None,
    target_classes: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Classes never trained on: one name a line.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels, of a table of images.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of the images, likewise.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where timm's readers keep data (torch/…).")] = None,
    test_share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Samples to test on, where data have no splits.")
    ] = 0.25,
    classes: Annotated[
        str | None,
        typer.Option(help="Numbers of source classes, a network each.", show_default="4,8,16 … as far as there are"),
    ] = None,
    network: Annotated[str, typer.Option(help="conv4, resnet12, wrn_28_4, conv_28_4, or one of timm's.")] = "conv4",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images of the most classes.")] = 16,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Epochs after which one is saved; 0 is before training.", show_default="0,1,2,4 … ¾ of all, and all"
        ),
    ] = None,
    equal: Annotated[Equal, typer.Option(help="What fewer classes get as many of as the most.")] = Equal.updates,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    learning_rate: float = 2**-4,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    milestones: Annotated[
        str, typer.Option(help="Shares of the training after which the rate falls to a tenth; none: constant.")
    ] = "0.6,0.8",
    crop: Annotated[bool, typer.Option(help="Move images by up to 4 pixels at random.")] = True,
    flip: Annotated[bool, typer.Option(help="Mirror images at random.")] = True,
    precision: Annotated[Precision, typer.Option(help="To train in; bfloat16 by autocast.")] = Precision.float32,
    max_per_class: Annotated[
        int, typer.Option(min=2, help="Images of a class that are measured, of each split.")
    ] = 100,
    target_split: Annotated[str, typer.Option(help="Of the target classes; all: every image.")] = samples.TEST,
    ways: Annotated[int, typer.Option(min=2)] = 5,
    shots: Annotated[str, typer.Option(help="Support samples a class.")] = "1,5,10",
    queries: Annotated[int, typer.Option(min=1)] = 15,
    episodes: Annotated[int, typer.Option(min=2)] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of classes, weights, batches and episodes.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    jobs: Annotated[int | None, typer.Option(min=1, help="Networks that are trained at once.")] = None,
) -> None:
    """Train on growing numbers of source classes, follow collapse and few-shot accuracy, check the paper's claims."""
    print(command(locals()), flush=True)
    start = time.perf_counter()
    steps = sorted({*(numbers(checkpoints) if checkpoints else (0, *doubling(1, epochs), epochs * 3 // 4)), epochs})
    if steps[0] < 0 or steps[-1] > epochs:
        raise typer.BadParameter(f"the epochs go from 0 to {epochs}", param_hint="--checkpoints")
    config = resolve_model_data_config(build(network, 2))
    where = pick_device(device).type
    output.mkdir(parents=True, exist_ok=True)
    reading = ReadingOptions(label_column=label_column, image_column=image_column, data_dir=data_dir)
    origin = open_source(data, reading).id
    data = samples.with_splits(data, reading, test_share, seed, output)
    source, target = samples.divide(data, reading, samples.names(source_classes), samples.names(target_classes), seed)
    shares = decimals(milestones)
    all_classes = numbers(classes) if classes else doubling(2 if len(source) < 16 else 4, len(source))
    if all_classes[-1] > len(source) or all_classes[0] < 2:
        raise typer.BadParameter(f"there are {len(source)} source classes, and 2 are needed", param_hint="--classes")
    task = {"ways": ways, "shots": numbers(shots), "queries": queries, "episodes": episodes, "seed": seed}
    task["ridge_lambda"] = "paper"  # the penalty that we believe the paper uses
    split = None if target_split == "all" else target_split
    wanted = Selection(split, classes=target, max_per_class=max_per_class, seed=seed)
    rehearse(samples_of(data, wanted, reading, None, source[: all_classes[0]]), FewShotTask(**task))

    images = samples.load(data, reading, source, config)
    runs: dict[int, Path] = {}
    todo: dict[Path, tuple[Recipe, Sequence[str]]] = {}
    for number in reversed(all_classes):  # the longest first
        counted = source[: all_classes[-1] if equal == "updates" else number]
        epoch = max(1, sum(label in counted for label in images.labels) // batch_size)
        recipe = Recipe(
            network,
            origin,
            epochs * epoch,
            {step: step * epoch for step in steps},
            batch_size,
            learning_rate,
            momentum,
            weight_decay,
            shares,
            crop,
            flip,
            precision,
            seed,
        )
        runs[number] = output / f"classes-{number:03d}"
        if not is_done(recipe, runs[number], source[:number]):
            todo[runs[number]] = (recipe, source[:number])
    train_all(todo, images, where, jobs)
    trained = time.perf_counter()
    print(f"trained in {trained - start:,.0f} s", flush=True)

    found = []
    for number, folder in sorted(runs.items()):
        print(f"measuring {folder}", flush=True)
        followed = nct.trajectory(
            network,
            [checkpoint(folder, step) for step in steps],
            data,
            split=wanted.split,
            classes=target,
            source_classes=source[:number],
            max_per_class=max_per_class,
            reading=reading,
            device=device,
            batch_size=128,
            cache_dir=output / "cache",
            plugin=str(NETWORKS),
            **task,
        )
        found.append(followed.to_frame().assign(l=number))
    print(f"measured in {time.perf_counter() - trained:,.0f} s\n", flush=True)
    report.write(pd.concat(found, ignore_index=True), ways, numbers(shots), output)


if __name__ == "__main__":
    try:
        typer.run(main)
    except NCTransferError as error:
        raise SystemExit(f"error: {error.message}" + f"\nhint: {error.hint}" * bool(error.hint)) from None
