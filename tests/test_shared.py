"""Real weights on real photographs, where the data beside the project are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import parquet

import nctransfer as nct


def photographs(shared: Path, root: Path, classes: tuple[str, ...], each: int) -> Path:
    """CIFAR-100 test images as a folder of class folders."""
    table = parquet.read_table(shared / "data" / "cifar100" / "test.parquet")
    names = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    labels = table["label"].to_pylist()
    for name in classes:
        (root / name).mkdir(parents=True)
        for row in [row for row, label in enumerate(labels) if names[label] == name][:each]:
            (root / name / f"{row}.png").write_bytes(table["image"][row].as_py()["bytes"])
    return root


@pytest.mark.slow
def test_trained_weights_collapse_classes_that_random_weights_do_not(shared: Path, tmp_path: Path) -> None:
    data = photographs(shared, tmp_path / "cifar", ("bicycle", "leopard", "sunflower"), 8)
    weights = shared / "weights" / "resnet50_keras_in1k.safetensors"
    trained = nct.collapse(nct.extract("resnet50", data, checkpoint=weights))
    control = nct.collapse(nct.extract("resnet50", data, random_init=True))
    assert trained.ncc_accuracy >= 0.9
    assert trained.ncc_accuracy > control.ncc_accuracy
