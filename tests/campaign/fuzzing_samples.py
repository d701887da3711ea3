"""Well-formed files of every kind that nctransfer reads, and mutations that fit their kind."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from fuzzing_mutations import (
    ODD_TEXTS,
    as_json_text,
    made_tar,
    made_zip,
    mutated,
    mutated_json,
    mutated_png,
    mutated_table,
    mutated_tar,
    mutated_zip,
)

__all__ = ["IMAGE_KINDS", "SAMPLES", "Bomb", "samples"]

Made = tuple[str, bytes]  # the name of a file, and its content

IMAGE_KINDS = {"png": {}, "jpg": {"format": "JPEG"}, "bmp": {}, "gif": {}, "webp": {}, "tiff": {}, "tga": {}, "ppm": {}}
IMAGE_KINDS |= {"jp2": {"format": "JPEG2000"}, "avif": {}, "mpo": {"format": "MPO"}}


class Bomb:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (os.environ["FUZZ_MARKER"],)


def samples() -> dict[str, Any]:
    """What mutations begin with: encoded images, a state dict, a head, the descriptions of a model, features."""
    from PIL import Image

    import tiny
    from made_heads import made_head, some_key
    from nctransfer.backbones.names import resolve

    rng = np.random.default_rng(0)
    images = {}
    for name, options in IMAGE_KINDS.items():
        pixels = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        try:
            Image.fromarray(pixels).save(buffer, **{"format": name.upper(), **options})
        except (KeyError, OSError):
            continue
        images[name] = buffer.getvalue()
    state = tiny.state_of("test_vit")
    from nctransfer.heads.head_content import to_bytes

    config = {"architecture": "test_vit", "num_classes": 1000, "num_features": 64, "global_pool": "token"}
    config["pretrained_cfg"] = {
        "tag": "x",
        "input_size": [3, 160, 160],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop_pct": 0.95,
    }
    config["pretrained_cfg"] |= {
        "interpolation": "bicubic",
        "pool_size": None,
        "classifier": "head",
        "first_conv": "patch_embed.proj",
    }
    config["model_args"] = {}
    assert resolve("test_vit")
    labels = np.arange(18) % 3
    features = rng.normal(size=(18, 5)).astype(np.float32) + labels[:, None]
    return {
        "images": images,
        "state": {name: tensor.half() for name, tensor in state.items()},
        "head": to_bytes(made_head(key=some_key(model_kwargs={}))),
        "config": config,
        "features": features,
        "labels": labels,
    }


def _members(rng: random.Random, known: Mapping[str, Any]) -> dict[str, bytes]:
    kinds = list(known["images"])
    return {
        f"{label}/{number}.{(kind := rng.choice(kinds))}": known["images"][kind]
        for label in "ab"
        for number in range(3)
    }


def archive(rng: random.Random, known: Mapping[str, Any]) -> Made:
    """A tar or zip archive of class folders."""
    members = _members(rng, known)
    if rng.random() < 0.35:
        content = made_zip(rng, members)
        content = mutated_zip(rng, content) if rng.random() < 0.5 else mutated(rng, content)
        return "data.zip", content
    content = made_tar(rng, members)
    if rng.random() < 0.7:
        content = mutated_tar(rng, content)
    pack, suffix = rng.choice(
        ((bytes, ".tar"), (gzip.compress, ".tar.gz"), (bz2.compress, ".tar.bz2"), (lzma.compress, ".tar.xz"))
    )
    content = pack(content)
    return "data" + suffix, mutated(rng, content) if rng.random() < 0.4 else content


def image(rng: random.Random, known: Mapping[str, Any]) -> Made:
    """One image."""
    kind = rng.choice(list(known["images"]))
    content = known["images"][kind]
    content = mutated_png(rng, content) if kind == "png" and rng.random() < 0.7 else mutated(rng, content)
    return f"odd.{rng.choice((kind, kind, *IMAGE_KINDS))}", content


def _odd_array(rng: random.Random, known: Mapping[str, Any], name: str) -> Any:
    features, labels = known["features"], known["labels"]
    odd: list[Any] = [
        *(features, features.astype(np.float64), features.astype(np.float16), features.astype("longdouble")),
        *(features * 1e300, features.astype(np.float64) * 1e300, features * 0, features * np.nan, features + np.inf),
        *(
            features.astype(complex),
            features.astype(">f4"),
            features.astype("S"),
            features.astype("U"),
            features[0],
            features[:0],
        ),
        *(
            features[:, :0],
            features[None],
            features.T,
            features > 0,
            features.astype(np.int8),
            np.array([Bomb()], dtype=object),
        ),
        *(
            labels,
            labels.astype(float),
            labels - 5,
            labels * 2**40,
            labels.astype(np.uint64) + 2**63,
            labels.astype("U"),
            labels[:5],
        ),
        *(
            labels.astype("S"),
            labels.astype("datetime64[s]"),
            labels.astype("timedelta64[s]"),
            labels.astype(bool),
            np.array(5),
        ),
        *(
            np.array(list(ODD_TEXTS[:18])),
            np.array(["a\x00b"] * 18),
            np.array([b"\xff"] * 18),
            np.zeros(18, [("a", "f4"), ("b", "O")]),
        ),
        *(np.zeros((18, 2), "V8"), np.array(["1e400"] * 18), np.full(18, 2**62), features.astype(np.float64) * 1e-300),
    ]
    usual = features if name in ("features", "x") else labels
    return usual if rng.random() < 0.5 else rng.choice(odd)


def feature_file(rng: random.Random, known: Mapping[str, Any]) -> Made:
    """Features as ``.npz``, ``.safetensors`` or Parquet."""
    make = rng.choice((_npz, _npz, _safetensors, _safetensors, _parquet))
    name, content = make(rng, known)
    if rng.random() < 0.5:
        content = mutated_zip(rng, content) if name.endswith("npz") and rng.random() < 0.4 else mutated(rng, content)
    return name, content


def _npz(rng: random.Random, known: Mapping[str, Any]) -> Made:
    names = rng.choice(
        (["features", "labels"], ["features", "labels", "ids"], ["x", "y", "split"], ["features", "labels", "classes"])
    )
    buffer = io.BytesIO()
    save = rng.choice((np.savez, np.savez_compressed))
    save(buffer, **{name: _odd_array(rng, known, name) for name in names})
    return "f.npz", buffer.getvalue()


def _safetensors(rng: random.Random, known: Mapping[str, Any]) -> Made:
    from safetensors.numpy import save

    arrays = {}
    for name in ("features", "labels", rng.choice(("ids", "more"))):
        array = np.ascontiguousarray(_odd_array(rng, known, name))
        arrays[name] = array if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8 else known["labels"]
    arrays = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}
    texts = {"ids": rng.choice((json.dumps(list(range(18))), "[1e400]", "[" * 3000, '["\\ud800"]', "x"))}
    return "f.safetensors", _with_other_header(rng, save(arrays, rng.choice((None, texts))))


def _with_other_header(rng: random.Random, content: bytes) -> bytes:
    """A file of tensors whose header is mutated, with its length right, or not."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if rng.random() < 0.6:
        return content
    if rng.random() < 0.5:
        for one in header.values():
            if "dtype" in one and rng.random() < 0.5:
                one["dtype"] = rng.choice(
                    ("F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8", "U64", "BOOL", "F4", "C64", "F8_E8M0")
                )
        text = json.dumps(header).encode()
    else:
        text = as_json_text(mutated_json(rng, header)).encode("utf-8", "replace")
    length = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 2**40, 2**63))
    return length.to_bytes(8, "little") + text + content[8 + size :]


def _parquet(rng: random.Random, known: Mapping[str, Any]) -> Made:
    import pyarrow as pa
    from pyarrow import parquet

    rows: list[Any] = known["features"].tolist()
    odd: list[pa.Array] = [
        pa.array(rows),
        pa.array(rows, pa.list_(pa.float16())) if rng.random() < 0.2 else pa.array(rows, pa.list_(pa.float64(), 5)),
        pa.array([[1e300] * 5] * 18),
        pa.array([row[:3] if i % 2 else row for i, row in enumerate(rows)]),
        pa.array([None if i == 3 else row for i, row in enumerate(rows)], pa.list_(pa.float32())),
        pa.array([[None, *row[1:]] for row in rows], pa.list_(pa.float32())),
        pa.array([[row] for row in rows]),
        pa.array([str(row) for row in rows]),
        pa.array([{"a": 1.0}] * 18),
        pa.array(list(range(18))),
        pa.array([b"\xff"] * 18),
        pa.nulls(18),
        pa.array([f"{i % 3}" for i in range(18)]),
        pa.array([f"{i % 3}" for i in range(18)]).dictionary_encode(),
        pa.array([f"{i % 3}" for i in range(18)], pa.string_view()),
        pa.array([2**60 + i % 3 for i in range(18)]),
        pa.array([i / 3 for i in range(18)]),
        pa.array([ODD_TEXTS[i % len(ODD_TEXTS)].replace("\x00", "") for i in range(18)]),
        pa.array([float("nan")] * 18),
        pa.array([True, False] * 9),
        pa.array([[]] * 18, pa.list_(pa.float32())),
    ]
    usual = {"feature": odd[0], "label": odd[12]}
    columns = {name: column if rng.random() < 0.5 else rng.choice(odd) for name, column in usual.items()}
    for name in ("id", "split", "class", "image"):
        if rng.random() < 0.3:
            columns[name] = rng.choice(odd)
    table = pa.table(columns)
    if rng.random() < 0.3:
        described = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b", "c"]}}}}
        table = table.replace_schema_metadata(
            {"huggingface": as_json_text(mutated_json(rng, described)).encode("utf-8", "replace")}
        )
    buffer = io.BytesIO()
    try:
        parquet.write_table(table, buffer, row_group_size=rng.choice((1, 5, 100)))
    except pa.ArrowException:
        parquet.write_table(pa.table(usual), buffer)
    return "f.parquet", buffer.getvalue()


def image_table(rng: random.Random, known: Mapping[str, Any]) -> Made:
    """Images in Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    bodies = [known["images"][rng.choice(list(known["images"]))] for _ in range(6)]
    bodies[0] = image(rng, known)[1]
    structs = pa.array([{"bytes": body, "path": f"{i}.png"} for i, body in enumerate(bodies)])
    odd = [
        pa.array(bodies),
        structs,
        pa.nulls(6),
        pa.array(["x"] * 6),
        pa.array([None, *bodies[1:]]),
        pa.array([bodies] * 6),
    ]
    labels = [
        pa.array([0, 1, 0, 1, 0, 1]),
        pa.array(list("ababab")),
        pa.array([-1, 5, 2**40, 0, 1, 2]),
        pa.nulls(6),
        pa.array([0.5] * 6),
    ]
    columns = {"image": odd[1] if rng.random() < 0.5 else rng.choice(odd), "label": rng.choice(labels)}
    if rng.random() < 0.4:
        columns["split"] = rng.choice((*labels, *odd))
    described = {
        "info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}}
    }
    table = pa.table(columns).replace_schema_metadata(
        {"huggingface": as_json_text(mutated_json(rng, described)).encode("utf-8", "replace")}
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, row_group_size=rng.choice((1, 3, 100)))
    return "data.parquet", mutated(rng, buffer.getvalue()) if rng.random() < 0.4 else buffer.getvalue()


def checkpoint(rng: random.Random, known: Mapping[str, Any]) -> Made:
    """A checkpoint of a small model."""
    import torch

    state = dict(known["state"])
    for name in rng.sample(list(state), rng.choice((0, 1, 1, 3))):
        state[rng.choice((name, name, name.upper(), "module." + name))] = _odd_tensor(rng, torch, state[name])
        if rng.random() < 0.2:
            state.pop(name, None)
    if rng.random() < 0.35:
        from safetensors.torch import save

        plain = {name: one for name, one in state.items() if isinstance(one, torch.Tensor) and _is_plain(torch, one)}
        content = _with_other_header(rng, save({name: one.clone().contiguous() for name, one in plain.items()}))
        return "c.safetensors", mutated(rng, content) if rng.random() < 0.3 else content
    wrapped: Any = rng.choice(
        (
            state,
            {"state_dict": state},
            {"model": state, "epoch": 3},
            {"teacher": {"backbone": state}},
            [state],
            state["norm.weight"],
        )
    )
    if rng.random() < 0.15:
        wrapped = rng.choice(
            (Bomb(), {"state_dict": state, "args": Bomb()}, {"state_dict": {"a": Bomb()}}, None, {}, 5, {1: 2})
        )
    buffer = io.BytesIO()
    torch.save(wrapped, buffer, _use_new_zipfile_serialization=rng.random() < 0.8)
    content = buffer.getvalue()
    if rng.random() < 0.4:
        content = mutated_zip(rng, content) if rng.random() < 0.3 else mutated(rng, content)
    return rng.choice(("c.pth", "c.pt", "c.ckpt", "c.bin", "c.safetensors")), content


def _is_plain(torch: Any, one: Any) -> bool:
    return (
        not one.is_nested
        and one.layout == torch.strided
        and not one.is_meta
        and not one.is_quantized
        and one.dtype not in (torch.quint8,)
    )


def _odd_tensor(rng: random.Random, torch: Any, tensor: Any) -> Any:
    makers = (
        lambda: tensor.float().to_sparse(),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        lambda: tensor.to("meta"),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        lambda: tensor.to(torch.complex64),
        lambda: tensor.to(torch.float8_e4m3fn),
        lambda: tensor.to(torch.int8),
        lambda: tensor.bool(),
        lambda: tensor.double() * 1e300,
        lambda: tensor * float("nan"),
        lambda: tensor[:0],
        lambda: tensor.reshape(-1),
        lambda: tensor.new_zeros((1,) * 10),
        lambda: tensor.new_zeros(1).expand(10**9),
        lambda: torch.tensor(5),
        lambda: 5,
        lambda: None,
        lambda: "text",
        lambda: {"a": tensor},
        lambda: torch.nn.Parameter(tensor),
        lambda: tensor.float().to_sparse_csr() if tensor.ndim == 2 else tensor.float().to_sparse(),
    )
    try:
        return rng.choice(makers)()
    except (RuntimeError, TypeError, NotImplementedError):
        return 5


def head(rng: random.Random, known: Mapping[str, Any]) -> Made:
    """A saved head; half of the time with a digest that is right."""
    content = known["head"]
    if rng.random() < 0.4:
        return "h.head", mutated(rng, content)
    import torch
    from safetensors.torch import load, save

    from nctransfer.heads import head_content

    size = int.from_bytes(content[:8], "little")
    record = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][head_content.METADATA])
    tensors = load(content)
    del record["sha256"]
    if rng.random() < 0.5:
        for name in rng.sample(list(tensors), 1):
            odd = _odd_tensor(rng, torch, tensors[name])
            if isinstance(odd, torch.Tensor) and _is_plain(torch, odd) and odd.numel() < 10**6:
                tensors[name] = odd.detach().clone().contiguous()
        made = record
    else:
        made = mutated_json(rng, record)
    text = as_json_text(made)
    try:
        made["sha256"] = head_content._digest(json.loads(text), tensors)
        text = as_json_text(made)
    except (ValueError, RecursionError):
        pass
    return "h.head", save(tensors, {head_content.METADATA: text.encode("utf-8", "replace").decode()})


def table(rng: random.Random, known: Mapping[str, Any]) -> Made:
    """A table of images, a list of classes or candidates, or ticked findings."""
    rows = "\n".join(f"{label}/{number}.png,{label},train" for label in "ab" for number in range(3))
    texts = {
        "m.csv": "path,label,split\n" + rows,
        "m.tsv": ("path,label,split\n" + rows).replace(",", "\t"),
        "classes.txt": "a\nb",
        "models.txt": "test_vit --random-init\ntest_resnet --img-size 64\n# note",
        "ticked.csv": "path,suggested,kind\na/0.png,b,label\na/1.png,,duplicate",
        "images.txt": "\n".join(f"{label}/{number}.png" for label in "ab" for number in range(3)),
        "m.jsonl": "\n".join(
            json.dumps({"path": f"{label}/{number}.png", "label": label}) for label in "ab" for number in range(3)
        ),
    }
    name = rng.choice(list(texts))
    if name == "m.jsonl" and rng.random() < 0.7:
        lines = [as_json_text(mutated_json(rng, json.loads(line))) for line in texts[name].split("\n")]
        return name, "\n".join(lines).encode("utf-8", "surrogatepass")
    text = mutated_table(rng, texts[name]).encode("utf-8", "surrogatepass")
    return name, mutated(rng, text) if rng.random() < 0.3 else text


def config(rng: random.Random, known: Mapping[str, Any]) -> Made:
    """The description of a model in a folder."""
    text = as_json_text(mutated_json(rng, known["config"])).encode("utf-8", "surrogatepass")
    return "config.json", mutated(rng, text) if rng.random() < 0.3 else text


SAMPLES: dict[str, Callable[[random.Random, Mapping[str, Any]], Made]] = {
    "archives": archive,
    "images": image,
    "files of features": feature_file,
    "images in Parquet": image_table,
    "checkpoints": checkpoint,
    "heads": head,
    "text tables": table,
    "descriptions of models": config,
}
