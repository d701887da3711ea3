"""The examples of many workers, with the environment that SLURM and Kubernetes would give each of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import write_digits
from nctransfer.sources.sharding import Shard
from nctransfer.store.cache_folder import FeatureStore
from terminal import done

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
JOB = yaml.safe_load((EXAMPLES / "kubernetes_job.yaml").read_text(encoding="utf-8"))["spec"]
SCRIPT = (EXAMPLES / "slurm_array.sh").read_text(encoding="utf-8")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_digits(tmp_path / "pets", {"zero": 0, "one": 1}, 20)


def tasks() -> Iterator[dict[str, str]]:
    """What SLURM says to each task of the array that the script asks for."""
    settings = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", SCRIPT, re.MULTILINE))
    least, most = map(int, settings["array"].split("-"))
    whole = {"MIN": least, "MAX": most, "STEP": 1, "COUNT": most - least + 1}
    for task in range(least, most + 1):
        yield {
            **{f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in {"ID": task, **whole}.items()},
            "SLURM_CPUS_PER_TASK": settings["cpus-per-task"],
            "SLURM_PROCID": "0",
            "SLURM_NTASKS": "1",
        }


def pods() -> list[dict[str, str]]:
    """What Kubernetes says to each pod of the job."""
    return [{"JOB_COMPLETION_INDEX": str(index)} for index in range(JOB["completions"])]


def slurm_command(images: Path, environment: Mapping[str, str]) -> list[str]:
    """The command that the script runs, and what it sets in the environment."""
    program = images.parent / "bin" / "nctransfer"
    program.parent.mkdir(exist_ok=True)
    program.write_text('#!/usr/bin/env bash\necho "$NCTRANSFER_CACHE $OMP_NUM_THREADS ${@@Q}"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", EXAMPLES / "slurm_array.sh", images],
        capture_output=True,
        text=True,
        env={"PATH": path, "HOME": str(images.parent), **environment},
        check=True,
    )
    return shlex.split(ended.stdout)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_the_tasks_of_the_array_take_every_shard_once(images: Path) -> None:
    environments = list(tasks())
    cache, threads, *command = slurm_command(images, environments[0])
    assert cache == str(images.parent / "features")
    assert threads == environments[0]["SLURM_CPUS_PER_TASK"]
    assert option(command, "--data") == str(images)
    shards = [Shard.parse(option(command, "--shard"), environment) for environment in environments]
    assert shards == [Shard(index, len(environments)) for index in range(1, len(environments) + 1)]
    assert len(shards) > 1


def pod_command() -> list[str]:
    [container] = JOB["template"]["spec"]["containers"]
    program, *command = container["command"]
    assert program == "nctransfer"
    return command


def test_the_pods_of_the_job_take_every_shard_once() -> None:
    assert JOB["completionMode"] == "Indexed"
    shards = [Shard.parse(option(pod_command(), "--shard"), pod) for pod in pods()]
    assert shards == [Shard(index, JOB["completions"]) for index in range(1, JOB["completions"] + 1)]
    assert len(shards) > 1


def test_the_cache_and_the_images_of_the_job_lie_on_its_volume() -> None:
    [container] = JOB["template"]["spec"]["containers"]
    [mount] = container["volumeMounts"]
    [volume] = JOB["template"]["spec"]["volumes"]
    assert mount["name"] == volume["name"]
    [cache] = [item["value"] for item in container["env"] if item["name"] == "NCTRANSFER_CACHE"]
    for path in (cache, option(pod_command(), "--data")):
        assert Path(path).is_relative_to(mount["mountPath"])


def run_all(command: list[str], environments: list[dict[str, str]]) -> Any:
    """Run the command as every worker would, and once more without a shard, which has nothing left to do."""
    small = [*command, "--img-size", "64", "--format", "json"]
    extracted = [json.loads(done(*small, **environment).stdout)["extracted"] for environment in environments]
    at = small.index("--shard")
    again = json.loads(done(*small[:at], *small[at + 2 :]).stdout)
    assert sum(extracted) == again["samples"] == 40
    assert again["extracted"] == 0
    [stored] = FeatureStore().sets()
    assert stored.manifest().rows == 40


def test_the_command_that_follows_is_of_the_same_images_in_the_same_cache() -> None:
    for name, cache, images in (("slurm_array.sh", "~/features", "pets/"), ("kubernetes_job.yaml", None, None)):
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        [(used, command)] = re.findall(r"NCTRANSFER_CACHE=(\S+) nctransfer (collapse .+)", text)
        if cache is None:
            cache, images = JOB["template"]["spec"]["containers"][0]["env"][0]["value"], option(pod_command(), "--data")
        assert used == cache
        assert option(shlex.split(command), "--data") == images
        assert option(shlex.split(command), "--model") == "tf_efficientnet_lite0"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_the_array_extracts_every_image(images: Path) -> None:
    environments = list(tasks())
    _, _, *command = slurm_command(images, environments[0])
    run_all(command, environments)


@pytest.mark.slow
def test_the_job_extracts_every_image(images: Path) -> None:
    command = pod_command()
    command[command.index("--data") + 1] = str(images)
    run_all(command, pods())
