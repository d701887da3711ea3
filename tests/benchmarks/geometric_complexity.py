"""What the geometric complexity costs and how exact it is, by the number of random vectors: CPU seconds per image.

    python tests/benchmarks/geometric_complexity.py [MODEL] [--images 16]

The anchor is the plain forward pass of the same images. The error is the relative standard error for one image, from
the variance between random vectors and between images; the product of time and squared error is the price of a given
exactness, lower is better. All run in turn, in one process and with one thread, on the built-in digits.
"""

from __future__ import annotations

import argparse
import math
import time

import torch

from nctransfer.backbones.building import load
from nctransfer.backbones.chosen_images import chosen_pixels
from nctransfer.backbones.geometric_complexity import geometric_complexity
from nctransfer.backbones.request import BackboneRequest
from nctransfer.sources.digits import Digits

PROBES = (1, 2, 4, 8, 16)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="tf_efficientnet_lite0")
    parser.add_argument("--images", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load(BackboneRequest(given.model), "cpu", offline=True)
    pixels = chosen_pixels(backbone, Digits(), given.images, seed=0)
    backbone(pixels[:8])
    start = time.process_time()
    for batch in pixels.split(8):
        backbone(batch)
    forward = (time.process_time() - start) / len(pixels)
    exact = geometric_complexity(backbone, Digits(), given.images, probes=32, target=0, seed=1).jacobian
    noise, spread = (
        (part or 0.0) ** 2 * given.images / exact.value**2 for part in (exact.probe_error, exact.image_error)
    )
    print(f"{given.model}: forward pass {forward:.3f} s per image")
    print(f"relative variance between images {spread:.2f}, between random vectors {32 * noise:.2f}")
    print("probes  seconds  in forward passes  error of one image  time × error²")
    for probes in PROBES:
        start = time.process_time()
        geometric_complexity(backbone, Digits(), given.images, probes=probes, target=0)
        seconds = (time.process_time() - start) / given.images
        squared = spread + 32 * noise / probes
        cells = f"{seconds:7.3f}  {seconds / forward:17.1f}  {math.sqrt(squared):18.0%}  {seconds * squared:13.3f}"
        print(f"{probes:6}  {cells}")


if __name__ == "__main__":
    main()
