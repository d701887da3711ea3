"""Decoding gives upright 8-bit RGB or says why not; names and digests are what they are taken for."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from nctransfer.sources.decoding import FORMATS, decode, to_ppm
from nctransfer.sources.source import content_digest, safe_name, source_id

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> list[list[tuple[int, ...]]]:
    """The decoded rows of pixels."""
    image = decode(content)
    assert image.mode == "RGB"
    return [[tuple(pixel) for pixel in row] for row in np.asarray(image).tolist()]


# Decoding


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (1, 1), 77), (77, 77, 77)),
        (Image.new("1", (1, 1), 1), WHITE),
        (Image.new("RGB", (1, 1), GREEN), GREEN),
        (Image.new("RGBA", (1, 1), (*RED, 0)), WHITE),
        (Image.new("RGBA", (1, 1), (*RED, 255)), RED),
        (Image.new("RGBA", (1, 1), (*RED, 51)), (255, 204, 204)),
        (Image.new("LA", (1, 1), (10, 0)), WHITE),
        (Image.new("LA", (1, 1), (10, 255)), (10, 10, 10)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_modes_become_rgb_on_white(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert pixels(encode(image)) == [[expected]]


@pytest.mark.parametrize(
    ("form", "options", "expected"),
    [
        ("PNG", {}, [RED, BLUE]),
        ("GIF", {}, [RED, BLUE]),
        ("PNG", {"transparency": 0}, [WHITE, BLUE]),
        ("GIF", {"transparency": 0}, [WHITE, BLUE]),
        ("PNG", {"transparency": b"\xff\x00"}, [RED, WHITE]),
    ],
)
def test_palettes(form: str, options: dict[str, object], expected: list[tuple[int, ...]]) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    assert pixels(encode(image, form, **options)) == [expected]


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (1, 2, 3)), ("1", 0)])
def test_a_colour_declared_transparent_is_white(mode: str, colour: int | tuple[int, ...]) -> None:
    assert pixels(encode(Image.new(mode, (1, 1), colour), transparency=colour)) == [[WHITE]]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(form: str) -> None:
    levels = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    assert [pixel[0] for pixel in pixels(encode(Image.fromarray(levels), form))[0]] == [0, 1, 128, 255]


def test_cmyk_jpeg() -> None:
    (row,) = pixels(encode(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "JPEG", quality=100))
    np.testing.assert_allclose(row[0], RED, atol=3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    """The bright corner is on the top left of the scene, wherever it lies in the file."""
    scene = np.zeros((8, 16, 3), np.uint8)
    scene[:4, :4] = 255
    # the transformation from scene to file that each orientation stands for
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: scene.transpose(1, 0, 2)[::-1],
        7: scene[::-1, ::-1].transpose(1, 0, 2),
        8: scene.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif)
    np.testing.assert_allclose(np.asarray(decode(content)), scene, atol=40)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0no TIFF header",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
    ],
    ids=["garbage", "cut", "orientation 99"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_metadata_do_not_spoil_a_whole_image(exif: bytes) -> None:
    (row,) = pixels(encode(Image.new("RGB", (1, 1), RED), "JPEG", exif=exif))
    np.testing.assert_allclose(row[0], RED, atol=3)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_counts(form: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    content = encode(frames[0], form, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(pixels(content)[0][0], RED, atol=3)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_round_trips(form: str) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    ramp = np.linspace(0, 255, 64, dtype=np.uint8).repeat(16).reshape(32, 32)
    image = Image.fromarray(ramp).convert("RGB")
    np.testing.assert_allclose(np.asarray(decode(encode(image, form))), np.asarray(image), atol=12)


def _cut(form: str) -> bytes:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = encode(noise, form)
    return content[: len(content) * 2 // 3]


def _bomb() -> bytes:
    return encode(Image.new("1", (20_000, 20_000)))


def _eps() -> bytes:
    return encode(Image.new("RGB", (4, 4)), "EPS")


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        pytest.param(lambda: b"", r"\b0\b", id="0 bytes"),
        pytest.param(lambda: b"this is text", "format", id="text"),
        pytest.param(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format", id="SVG"),
        pytest.param(lambda: _cut("JPEG"), "truncated", id="truncated JPEG"),
        pytest.param(lambda: _cut("PNG"), "truncated", id="truncated PNG"),
        pytest.param(lambda: _cut("WEBP"), "truncated|format", id="truncated WEBP"),
        pytest.param(lambda: _cut("JPEG")[:20], "truncated|format", id="JPEG header only"),
        pytest.param(_bomb, "400000000", id="bomb"),
        pytest.param(_eps, "format", id="EPS"),
        pytest.param(lambda: b"Pf\n1 1\n-1.0\n" + struct.pack("f", 0.5), "floating-point", id="PFM"),
        pytest.param(lambda: encode(Image.new("F", (2, 2)), "TIFF"), "floating-point", id="float TIFF"),
    ],
)
def test_what_is_no_image_says_why(make: Callable[[], bytes], fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        decode(make())


@pytest.mark.parametrize("content", [_eps(), b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_ghostscript_is_never_run(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", refuse)
    monkeypatch.setattr("os.system", refuse)
    with pytest.raises(ValueError, match="format"):
        decode(content)


def test_refused_floats_are_not_called_damaged() -> None:
    """A whole file whose pixels have no range is neither truncated nor damaged."""
    with pytest.raises(ValueError, match="floating-point") as caught:
        decode(encode(Image.new("F", (2, 2)), "TIFF"))
    assert "damaged" not in str(caught.value)


# Images that a library has decoded


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (3, 2), GREEN),
        Image.new("L", (3, 2), 9),
        Image.new("LA", (3, 2), (9, 0)),
        Image.fromarray(np.full((2, 3), 32896, np.uint16)),
    ],
    ids=lambda image: image.mode,
)
def test_what_is_decoded_becomes_a_ppm_of_the_same_pixels(image: Image.Image) -> None:
    content = to_ppm(image)
    assert content.startswith(b"P6\n3 2\n255\n")
    assert len(content) == 11 + 3 * 2 * 3
    assert pixels(content) == pixels(encode(image))


def test_a_ppm_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.open(io.BytesIO(encode(Image.new("RGB", (3, 2)), exif=exif)))
    assert to_ppm(sideways).startswith(b"P6\n2 3\n")


def test_floats_become_no_ppm() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        to_ppm(Image.new("F", (2, 2)))


# Names and digests


@given(st.text(max_size=100) | st.sampled_from(["", ".", "..", "...", "a/b", "../..", "C:\\x", ".hid", "x" * 999]))
def test_safe_name(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe) <= 64
    assert not safe.startswith(".")
    assert not set(safe) & set('/\\:*?"<>|\0\n ')
    assert safe == Path(safe).name


def test_source_ids_differ_by_path_and_by_choice(tmp_path: Path) -> None:
    given = [(tmp_path,), (tmp_path / "a",), (tmp_path / "a", "x"), (tmp_path / "a", "x", "y"), (tmp_path / "a", "xy")]
    assert len({source_id(*arguments) for arguments in given}) == len(given)
    assert source_id(tmp_path / "a" / ".." / "a") == source_id(str(tmp_path / "a"))


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_content_digest_is_of_the_bytes(one: bytes, other: bytes) -> None:
    assert (content_digest(one) == content_digest(other)) == (one == other)
    assert len(content_digest(one)) == 32
