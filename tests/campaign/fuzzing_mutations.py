"""How bytes and JSON are mutated: half of the time so that they stay well formed, else anywhere."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

__all__ = [
    "ODD_TEXTS",
    "as_json_text",
    "mutated",
    "mutated_json",
    "mutated_png",
    "mutated_table",
    "mutated_tar",
    "mutated_zip",
]

Mutate = Callable[[random.Random, bytes], bytes]

ODD_TEXTS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1e400",
        "NaN",
        "=cmd()",
        "../../etc/passwd",
        "/etc/passwd",
        "a" * 400,
        "\x1b[2J",
        "\u202eabc",
    ),
    *(
        "\x00",
        "ü" * 90,
        "a\nb",
        "a,b",
        '"',
        "'",
        "\\",
        "C:/x",
        "%s{0}",
        "[red]",
        "\ufeff",
        "٣",
        "𝕏",
        "None",
        "~nobody-here/x",
    ),
)
ODD_NUMBERS = (0, 1, -1, 2**7, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
RAW_JSON = (  # texts that Python's own writer does not make
    *("1e400", "-1e400", "NaN", "Infinity", "9" * 5000, "[" * 5000 + "]" * 5000, '{"a":' * 3000 + "1" + "}" * 3000),
    *('"\\ud800"', '{"a": 1, "a": 2}', "1.5e-400", "-0", "tru", '"' + "x" * 10_000 + '"'),
)


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Bytes with some damage anywhere."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        size = len(found)
        at, length = rng.randrange(size + 1), rng.choice((1, 2, 4, 8, 64, 512))
        chosen = rng.randrange(9)
        if chosen == 0 and size:
            found[rng.randrange(size)] ^= 1 << rng.randrange(8)
        elif chosen == 1:
            del found[at:]
        elif chosen == 2:
            found[at:at] = rng.randbytes(length)
        elif chosen == 3:
            del found[at : at + length]
        elif chosen == 4:
            found[at : at + length] = bytes([rng.choice((0, 255, 0x20, 0x7F, 0x80))]) * length
        elif chosen == 5:
            other = rng.randrange(size + 1)
            found[at:at] = found[other : other + length]
        elif chosen == 6:
            found[at : at + length] = (rng.choice(ODD_NUMBERS) % 2**64).to_bytes(8, "little")[: min(length, 8)]
        elif chosen == 7:
            found[at : at + length] = rng.choice(ODD_TEXTS).encode("utf-8", "surrogatepass")
        else:
            found = bytearray(
                re.sub(rb"\d+", lambda one: _other_number(rng, one[0]), bytes(found), count=rng.randrange(1, 9))
            )
    return bytes(found)


def _other_number(rng: random.Random, digits: bytes) -> bytes:
    return digits if rng.random() < 0.5 else str(rng.choice((*ODD_NUMBERS, -1, 10**30))).encode()


def mutated_json(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """A JSON value of which some parts have another type, size or name; :class:`Raw` is text that stands as it is."""
    if depth and rng.random() < 0.15:
        return _odd_json(rng)
    if isinstance(value, dict):
        found = {key: mutated_json(rng, one, depth + 1) if rng.random() < 0.5 else one for key, one in value.items()}
        if found and rng.random() < 0.2:
            found.pop(rng.choice(list(found)))
        if rng.random() < 0.1:
            found[rng.choice(ODD_TEXTS)] = _odd_json(rng)
        return found
    if isinstance(value, list):
        found_list = [mutated_json(rng, one, depth + 1) if rng.random() < 0.5 else one for one in value]
        return found_list * rng.choice((0, 1, 1, 1, 2))
    return _odd_json(rng) if rng.random() < 0.3 else value


class Raw(str):
    """Text that stands in JSON as it is."""


def _odd_json(rng: random.Random) -> Any:
    plain = (None, True, [], {}, [[]], {"": {}}, 0, -1, 0.5, *ODD_NUMBERS, *ODD_TEXTS, [1] * 1000)
    return Raw(rng.choice(RAW_JSON)) if rng.random() < 0.25 else rng.choice(plain)


def as_json_text(value: Any) -> str:
    """The value as JSON, with parts that are :class:`Raw` as they are."""
    raw: list[str] = []

    def held(one: Any) -> Any:
        if isinstance(one, Raw):
            raw.append(str(one))
            return f"\x01raw{len(raw) - 1}\x01"
        if isinstance(one, dict):
            return {key: held(item) for key, item in one.items()}
        return [held(item) for item in one] if isinstance(one, list) else one

    text = json.dumps(held(value))
    return re.sub(r'"\\u0001raw(\d+)\\u0001"', lambda one: raw[int(one[1])], text)


def mutated_tar(rng: random.Random, content: bytes) -> bytes:
    """A tar archive in which some headers have other fields, with their checksums right."""
    fields = {"name": (0, 100), "mode": (100, 8), "size": (124, 12), "mtime": (136, 12), "type": (156, 1)}
    fields |= {"link": (157, 100), "magic": (257, 8), "major": (329, 8), "prefix": (345, 155), "sparse": (386, 24)}
    found = bytearray(content)
    heads = [at for at in range(0, len(found) - 511, 512) if found[at + 257 : at + 262] == b"ustar"]
    for at in rng.sample(heads, min(len(heads), rng.choice((1, 1, 2, 5)))):
        start, length = fields[rng.choice(list(fields))]
        text = rng.choice((*ODD_TEXTS, "77777777777", "00000000000", "x/" * 40)).encode("utf-8", "surrogatepass")
        number = bytes([rng.choice((0x80, 0xFF))]) + rng.randbytes(length)  # base 256
        odd = rng.choice(
            (text, number, rng.randbytes(length), b"\0" * length, bytes([rng.choice(b"0123456789xgLKSX")]))
        )
        found[at + start : at + start + length] = odd[:length].ljust(length, b"\0")
        found[at + 148 : at + 156] = b" " * 8
        found[at + 148 : at + 156] = b"%06o\0 " % sum(found[at : at + 512])
    return bytes(found)


def made_tar(rng: random.Random, members: dict[str, bytes]) -> bytes:
    """A tar archive with odd members, as the library writes them."""
    buffer = io.BytesIO()
    form = rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(
                rng.choice((name, name, name, f"../{name}", f"/{name}", name + "/" + rng.choice(ODD_TEXTS)))
            )
            info.size = len(body)
            info.type = rng.choice(
                (tarfile.REGTYPE,) * 6 + (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)
            )
            info.linkname = rng.choice(("", "../../etc/passwd", name)) if info.type != tarfile.REGTYPE else ""
            if form == tarfile.PAX_FORMAT and rng.random() < 0.3:
                odd = rng.choice((*ODD_TEXTS[:9], "-5", str(10**40), "x"))
                info.pax_headers = {
                    rng.choice(("size", "path", "GNU.sparse.map", "GNU.sparse.major", "hdrcharset", "mtime")): odd
                }
            try:
                tar.addfile(info, io.BytesIO(body))
            except (ValueError, OSError, UnicodeError):
                continue
    return buffer.getvalue()


def mutated_zip(rng: random.Random, content: bytes) -> bytes:
    """A zip archive in which some numbers of its directory and headers are others."""
    found = bytearray(content)
    places = [one.start() for one in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", content)]
    for at in rng.sample(places, min(len(places), rng.choice((1, 1, 2, 8)))):
        size = rng.choice((2, 4))
        start = at + rng.randrange(4, 46)
        found[start : start + size] = (rng.choice(ODD_NUMBERS) % 256**size).to_bytes(size, "little")
    return bytes(found)


def made_zip(rng: random.Random, members: dict[str, bytes]) -> bytes:
    """A zip archive with odd names and methods."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in members.items():
            info = zipfile.ZipInfo(
                rng.choice((name, name, name, f"../{name}", f"/{name}", rng.choice(ODD_TEXTS) + "/x.png"))
            )
            info.external_attr = rng.choice((0, 0, 0o120777 << 16, 0o010644 << 16, 2**32 - 1))
            info.compress_type = rng.choice(
                (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            )
            try:
                archive.writestr(info, body)
            except (ValueError, UnicodeError):
                continue
    return buffer.getvalue()


def mutated_png(rng: random.Random, content: bytes) -> bytes:
    """A PNG image whose chunks are mutated, with their checksums right."""
    at, chunks = 8, []
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(chunks))
        kind, body = chunks[place]
        chosen = rng.randrange(4)
        if chosen == 0:
            chunks.insert(place, chunks[rng.randrange(len(chunks))])
        elif chosen == 1 and len(chunks) > 1:
            del chunks[place]
        elif chosen == 2:
            kind = rng.choice(
                (b"tRNS", b"PLTE", b"iCCP", b"eXIf", b"zTXt", b"acTL", b"fdAT", b"gAMA", b"pHYs", b"IDAT")
            )
            chunks.insert(place, (kind, rng.randbytes(rng.choice((0, 1, 4, 26, 300)))))
        else:
            chunks[place] = kind, mutated(rng, body)
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return content[:8] + b"".join(packed)


def mutated_table(rng: random.Random, text: str) -> str:
    """A text table of which some cells and lines are others."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(lines))
        cells = lines[place].split(",")
        chosen = rng.randrange(5)
        if chosen == 0:
            cells[rng.randrange(len(cells))] = rng.choice(ODD_TEXTS)
        elif chosen == 1:
            cells.append(rng.choice(ODD_TEXTS))
        elif chosen == 2:
            del cells[rng.randrange(len(cells))]
        elif chosen == 3:
            lines.insert(place, lines[rng.randrange(len(lines))])
            continue
        else:
            cells[rng.randrange(len(cells))] = '"' + rng.choice(ODD_TEXTS)
        lines[place] = ",".join(cells)
    return rng.choice(("\n", "\n", "\r\n", "\r")).join(lines)
