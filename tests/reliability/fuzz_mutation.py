"""Sound input → damaged input, by what chance a `random.Random` takes: bytes, text, JSON, files of parts."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any

# Where readers of lengths, counts and types go wrong.
INTEGERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 65536, *(2**n - 1 for n in (31, 32, 63, 64)), 2**31)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 2**16, 2**31, 2**63, 10**30, 10**400, -(10**9), 0.5, -0.0, 1e-320, 1e308),
    *("", " ", "x" * 3000, "\0", "\n", "\ud800", "../../etc/passwd", "/etc/passwd", "<image>", "<|im_end|>"),
    *("{{ 1 // 0 }}", "nan", "1e4", "true", "图片", "\x1b[31m"),
    *([], {}, [[]], [None], {"a": {"b": []}}, [0] * 300),
)
WORDS = (
    *(b":", b": ", b"- ", b"\t", b"  ", b"#", b"&a ", b"*a", b"<<: *a", b"|\n", b">-\n", b"'", b'"', b"{", b"}"),
    *(b"!!int ", b"!!binary ", b"!!timestamp ", b"!!set ", b"!!python/object:os.system ", b"[", b"]", b"? "),
    *(b"---\n", b"%YAML 1.1\n", b"null", b"~", b".inf", b".nan", b"1e999", b"0x" + b"F" * 40, b"9" * 5000),
    *(b"2001-99-99", b"yes", b"\xff", b"\0", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"[" * 200, b"-1", b"1_000"),
    *(b"0.0", b'"\\ud800"', b"\r"),
)
_JSON = (b"{", b"}", b"[", b"null", b"1e999", b"NaN", b'"\\ud800"', b"9" * 5000)


def mutate_bytes(
    data: bytes, random: Random, others: Sequence[bytes] = (), *, words: Sequence[bytes] = ()
) -> bytes:
    """One to eight changes: bits, bytes, numbers, pieces left out, doubled, moved, or taken from another input."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5, 8))):
        at = random.randrange(len(changed) + 1)
        size = min(random.choice((1, 1, 2, 4, 8, 16, 64, 256)), max(0, len(changed) - at))
        match random.randrange(9 + 3 * bool(words)):
            case 0 if size:
                changed[at] ^= 1 << random.randrange(8)
            case 1 if size:
                changed[at : at + size] = random.randbytes(size)
            case 2:
                del changed[at : at + size]
            case 3:
                changed[at:at] = changed[at : at + size]
            case 4:
                number, width = random.choice(INTEGERS), random.choice((1, 2, 4, 8))
                order = random.choice(("little", "big"))
                changed[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, order)
            case 5 if random.random() < 0.3:
                del changed[at:]
            case 6 if others:
                other = random.choice(others)
                start = random.randrange(len(other) + 1)
                changed[at : at + size] = other[start : start + random.choice((4, 64, 1024))]
            case 7:
                changed[at:at] = random.randbytes(size)
            case 8 if size:
                changed[at] = random.choice((0, 255, 0x20, 0x7F, 0x80, 0x0A))
            case _ if words:
                changed[at : at + random.choice((0, 0, size))] = random.choice(words)
    return bytes(changed)


def mutate_text(data: bytes, random: Random) -> bytes:
    """A text of lines: lines moved, doubled, left out, indented otherwise, beside what `mutate_bytes` does."""
    lines = data.splitlines(keepends=True)
    if random.random() < 0.5 and len(lines) > 1:
        one, other = random.randrange(len(lines)), random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                lines[one], lines[other] = lines[other], lines[one]
            case 1:
                lines.insert(one, lines[other])
            case 2:
                del lines[one]
            case 3:
                lines[one] = b" " * random.randrange(9) + lines[one].lstrip()
            case 4:
                key, colon, _ = lines[one].partition(b":")
                lines[one] = key + colon + b" " + random.choice(WORDS) + b"\n"
        if random.random() < 0.7:
            return b"".join(lines)
    return mutate_bytes(b"".join(lines), random, words=WORDS)


def mutate_value(value: Any, random: Random) -> Any:
    """A JSON value with one or two places in it changed: another value, a key renamed, doubled or left out."""
    changed = json.loads(json.dumps(value))
    for _ in range(random.choice((1, 1, 1, 2))):
        places = [(holder, key) for holder, key in _places(changed)]
        if not places:
            return random.choice(VALUES)
        holder, key = random.choice(places)
        match random.randrange(5):
            case 0 | 1:
                holder[key] = copy.deepcopy(random.choice(VALUES))  # the next change may be in it
            case 2 if isinstance(holder[key], int | float):
                holder[key] = holder[key] * random.choice((-1, 0, 2, 3, 0.5, 10**6)) + random.choice((0, 1, -1))
            case 3 if isinstance(holder, dict):
                holder[key + random.choice(("", "s", "_"))] = holder.pop(key)
            case _:
                del holder[key]
    return changed


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(holder, key or index) of everything inside a value, to a bounded number."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(found) < 2000:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            waiting.append(holder[key])
    return found


def mutate_json(data: bytes, random: Random) -> bytes:
    """The bytes of a JSON file: half the time a value in it, else its bytes."""
    if random.random() < 0.5:
        return mutate_bytes(data, random, words=_JSON)
    return json.dumps(mutate_value(json.loads(data), random)).encode()


def mutate_safetensors(data: bytes, random: Random) -> bytes:
    """A safetensors file: names, types, shapes and offsets of its header, or bytes anywhere."""
    size = int.from_bytes(data[:8], "little")
    if random.random() < 0.3:
        return mutate_bytes(data, random)
    header = json.dumps(mutate_value(json.loads(data[8 : 8 + size]), random)).encode()
    length = len(header) if random.random() < 0.9 else random.choice(INTEGERS)
    return (length % 2**64).to_bytes(8, "little") + header + data[8 + size :]


def mutate_png(data: bytes, random: Random) -> bytes:
    """A PNG whose chunks are changed, and most of their checksums made right again."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + size]])
        at += 12 + size
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(len(chunks))
        match random.randrange(5):
            case 0:
                chunks[place][1] = mutate_bytes(chunks[place][1], random)
            case 1:  # sizes, depth, colours, interlacing
                sides = [
                    random.choice((0, 1, 8, 33, 5000, 20_000, 70_000, 2**31 - 1, 2**32 - 1)) for _ in range(2)
                ]
                rest = bytes(random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)) for _ in range(5))
                chunks[0][1] = struct.pack(">II", *sides) + (rest if random.random() < 0.5 else chunks[0][1][8:])
            case 2:
                name = random.choice(
                    (b"zTXt", b"iCCP", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"PLTE", b"tRNS")
                )
                bomb = zlib.compress(bytes(random.choice((10, 10**4, 10**7))))
                chunks.insert(place, [name, random.choice((b"a\0\0", b"", b"Exif\0\0")) + bomb])
            case 3:
                chunks.insert(place, list(random.choice(chunks)))
            case _:
                del chunks[place]
        if not chunks:
            return data[:8]
    made = bytearray(data[:8])
    for name, content in chunks:
        check = zlib.crc32(name + content) if random.random() < 0.95 else random.getrandbits(32)
        made += struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
    return bytes(made)
