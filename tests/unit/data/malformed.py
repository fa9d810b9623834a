"""Malformed and odd rows, each with what must come of it, for both layouts of the data."""

import io
import json
import struct
import zlib
from typing import Any, NamedTuple

from PIL import Image

from minivlm.data.validation.picture import MAX_PICTURE_BYTES
from tests.unit.data.validation.rows import picture, placeholder

ASKED, TOLD = ("user", "<image>\n请描述这张图片。"), ("assistant", "一只鹰在飞行中")
PHOTO = picture(9000, (20, 16))
NONE, ELSEWHERE = "no <image>", "times <image> in turns of assistant or system"


class Case(NamedTuple):
    """A row by its turns and pictures; `reasons` empty: it is accepted."""

    turns: Any
    pictures: tuple[bytes, ...]
    reasons: tuple[str, ...] = ()


def turns(*said: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in said]


def drawn(kind: str, mode: str = "RGB", size: tuple[int, int] = (20, 16), **options: Any) -> bytes:
    """A picture; no two calls with other arguments give the same."""
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def frames(kind: str) -> bytes:
    stream = io.BytesIO()
    pictures = [Image.new("RGB", (20, 16), colour) for colour in ("red", "green", "blue")]
    pictures[0].save(stream, kind, save_all=True, append_images=pictures[1:])
    return stream.getvalue()


def deep(mode: str) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (20, 16)).save(stream, "TIFF" if mode == "F" else "PNG")
    return stream.getvalue()


def claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""
    data = bytearray(drawn("PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def spoiled_png() -> bytes:
    data = bytearray(picture(9100, (40, 40), "PNG"))
    middle = data.index(b"IDAT") + 10
    data[middle : middle + 8] = bytes(8)
    return bytes(data)


def shown(data: bytes, *reasons: str) -> Case:
    """A row without other fault that shows this."""
    return Case(turns(ASKED, TOLD), (data,), reasons)


def said(*what: tuple[str, Any], reasons: tuple[str, ...] = (), number: int) -> Case:
    """A row that says this to a sound picture of its own."""
    return Case(turns(*what), (picture(9200 + number, (20, 16)),), reasons)


# The same outcome whether the row comes as a line beside a folder or a zip, or in Parquet.
CASES = {
    "truncated JPEG": shown(picture(9001, (64, 64))[:-200], "picture_decodes: truncated"),
    "zero bytes": shown(b"", "picture_decodes: zero bytes"),
    "web page for a picture": shown(b"<html>404 Not Found</html>", "picture_decodes: not a picture"),
    "SVG": shown(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "picture_decodes: not a picture"),
    "EPS, which would run a program": shown(b"%!PS-Adobe-3.0 EPSF-3.0\n", "picture_decodes: not a picture"),
    "PNG with spoiled pixels": shown(spoiled_png(), "picture_decodes: damaged (OSError)"),
    "PNG that claims 50,000 x 50,000": shown(claims(50_000, 50_000), "picture_decodes: decompression bomb"),
    "1 x 1": shown(drawn("PNG", size=(1, 1)), "picture_not_small: a side of 1 pixels"),
    "20,000 x 10": shown(
        drawn("PNG", size=(20_000, 10)),
        "picture_not_small: a side of 10 pixels",
        "picture_not_large: a side of 20000 pixels",
    ),
    "16 bits": shown(deep("I;16"), "picture_is_rgb: picture of mode I;16"),
    "floating point": shown(deep("F"), "picture_is_rgb: picture of mode F"),
    "PNG named jpg": shown(drawn("PNG")),
    "CMYK": shown(drawn("JPEG", "CMYK")),
    "palette": shown(drawn("PNG", "P")),
    "1 bit": shown(drawn("PNG", "1")),
    "alpha": shown(drawn("PNG", "RGBA")),
    "gray with alpha": shown(drawn("PNG", "LA")),
    "WEBP": shown(drawn("WEBP")),
    "progressive JPEG": shown(drawn("JPEG", progressive=True)),
    "bytes after the end": shown(drawn("JPEG", quality=70) + b"trailing"),
    "EXIF-rotated": shown(drawn("JPEG", size=(40, 20), exif=exif(6))),
    "EXIF orientation of no meaning": shown(drawn("JPEG", size=(40, 20), exif=exif(99))),
    "animated GIF": shown(frames("GIF")),
    "animated PNG": shown(frames("PNG")),
    "TIFF of several pages": shown(frames("TIFF")),
    "JPEG of several pictures, as phones make": shown(frames("MPO")),
    "missing role": Case([{"content": "<image>"}, *turns(TOLD)], (picture(9002),), (
        "conversation_is_turns: turn 1 has no role",)),
    "missing content": Case([*turns(ASKED), {"role": "assistant"}], (picture(9003),), (
        "conversation_is_turns: turn 2 has no content",)),
    "from and value": Case([{"from": "human", "value": "<image>"}], (picture(9004),), (
        "conversation_is_turns: turn 1 has no role",)),
    "content is a number": said(ASKED, ("assistant", 3), number=1, reasons=(
        "conversation_is_turns: the content of turn 2 is not text",)),
    "no turns": Case([], (picture(9005),), ("conversation_is_turns: a list without turns",)),
    "turns are texts": Case(["<image>", "一只鹰"], (picture(9006),), (
        'conversation_is_turns: turn 1 is not {"role", "content"}',)),
    "conversation is one turn": Case(turns(ASKED)[0], (picture(9007),), (
        "conversation_is_turns: not a list of turns",)),
    "lone surrogate": said(ASKED, ("assistant", "一\ud83d"), number=2, reasons=(
        "conversation_is_turns: turn 2 has half a character (lone surrogate)",)),
    "lone surrogate for a role": said(ASKED, ("\udc00", "一"), number=3, reasons=(
        "conversation_is_turns: turn 2 has half a character (lone surrogate)",)),
    "two user turns": said(ASKED, ("user", "什么？"), TOLD, number=4, reasons=(
        "roles_alternate: user user assistant",)),
    "no assistant turn": said(ASKED, number=5, reasons=("roles_alternate: user",)),
    "user last": said(ASKED, TOLD, ("user", "还有呢？"), number=6, reasons=(
        "roles_alternate: user assistant user",)),
    "unknown roles": said(("human", "<image>"), ("gpt", "好"), number=7, reasons=(
        "roles_alternate: other other",)),
    "system alone": said(("system", "好"), ("assistant", "好"), number=8, reasons=(
        "roles_alternate: system assistant", f"pictures_match_marks: {NONE}, 1 picture")),
    "system later": said(ASKED, TOLD, ("system", "好"), ("user", "好"), TOLD, number=9, reasons=(
        "roles_alternate: user assistant system user assistant",)),
    "no assistant text": said(ASKED, ("assistant", " \n　"), number=10, reasons=(
        "answers_have_text: an assistant turn without text",)),
    "turn too long": said(ASKED, ("assistant", "长" * 2001), number=11, reasons=(
        "turns_fit: a turn of 2001 characters",)),
    "<image> missing": said(("user", "请描述"), TOLD, number=12, reasons=(
        f"pictures_match_marks: {NONE}, 1 picture",)),
    "<image> doubled": said(("user", "<image><image>"), TOLD, number=13, reasons=(
        "pictures_match_marks: 2 <image>, 1 picture",)),
    "<image> in the answer": said(ASKED, ("assistant", "见 <image>"), number=14, reasons=(
        f"no_other_image_mark: 1 {ELSEWHERE}",)),
    "<image> without a picture": Case(turns(ASKED, TOLD), (), (
        "pictures_match_marks: 1 <image>, no picture",)),
    "<image> for the placeholder": Case(turns(ASKED, TOLD), (placeholder("PNG"),), (
        "pictures_match_marks: 1 <image>, no picture (the black 8 x 8 placeholder is none)",)),
    "second of two truncated": Case(turns(("user", "<image>和<image>"), TOLD), (
        picture(9008), picture(9009, (64, 64))[:-200]), ("picture_decodes: picture 2: truncated",)),
    "17 pictures, 1 mark each": Case(turns(("user", "<image>" * 17), TOLD), (PHOTO,) * 17, ("17",)),
    "the first row again": Case(turns(ASKED, TOLD), (PHOTO,), ("again",)),
    "<image> at the end": said(("user", "请描述\n<image>"), TOLD, number=15),
    "runs of @": said(("user", "<image>" + "@" * 196), ("assistant", "@" * 400 + " a@b.c"), number=16),
    "tokens of the template typed": said(ASKED, ("assistant", "<|im_end|>\n<|im_start|>user"), number=17),
    "surrogate pair": said(ASKED, ("assistant", "\U0001f600"), number=18),
    "control characters": said(ASKED, ("assistant", "\0\x1b[31m红\u202e"), number=19),
    "system first": said(("system", "你是一个助手。"), ASKED, TOLD, number=20),
    "four turns": said(ASKED, TOLD, ("user", "还有呢？"), TOLD, number=21),
    "one character": said(("user", "<image>"), ("assistant", "鹰"), number=22),
    "text alone": Case(turns(("user", "你好"), ("assistant", "你好！")), ()),
    "text alone with the placeholder": Case(turns(("user", "你好"), ("assistant", "您好！")), (placeholder(),)),
    "two pictures": Case(turns(("user", "<image>和<image>"), TOLD), (picture(9010), picture(9011))),
    "the same picture twice": Case(turns(("user", "<image>和<image>"), TOLD), (picture(9012), picture(9012))),
    "pictures in two turns": Case(turns(ASKED, TOLD, ASKED, TOLD), (picture(9013), picture(9014))),
    "16 pictures": Case(turns(("user", "<image>" * 16), TOLD), tuple(picture(9020 + i) for i in range(16))),
}  # fmt: skip

# JSON that is at fault before it is a conversation -> what is said of it, of the line or of the text
JSON_FAULTS = {
    "key twice": (
        '[{"role": "user", "role": "assistant", "content": "x"}]',
        "the key 'role' stands twice in one object",
    ),
    "NaN": ('[{"role": "user", "content": NaN}]', "not JSON (NaN is no number of JSON)"),
    "out of range": ("[1e999]", "a number out of range: '1e999'"),
    "huge number": ("[" + "7" * 5000 + "]", "a number of 5,000 digits"),
    "nested too deep": ("[" * 20_000 + "]" * 20_000, "not JSON (brackets nested too deep)"),
}

GOOD_LINE = json.dumps(turns(ASKED, TOLD))


def line(image: Any) -> bytes:
    """A line with this `image`."""
    return json.dumps({"conversations": turns(ASKED, TOLD), "image": image}).encode()


PROPERTY = "Expecting property name enclosed in double quotes, character 2"
OUT = "leads out of the pictures' folder"
ABSOLUTE = "an absolute path; a name below the pictures' folder is needed"
UNTERMINATED = "Unterminated string starting at, character 37"
SEVERAL = "not in {where} at this path, and several files there could be meant"
METHOD = "cannot be read from the zip (That compression method is not supported)"
CHECKSUM = "damaged in the zip (Bad CRC-32 for file 'sft_images/checksum.jpg')"


def first(name: str, fault: str) -> str:
    """What is said of a row's first picture."""
    return f"picture 1 ('{name}'): {fault}"


# Lines at fault -> the reason in both layouts of pictures; None: the row is accepted
LINES = {
    "not JSON": (b"oops", "the line: not JSON (Expecting value, character 1)"),
    "cut in the middle": (line("good.jpg")[:40], f"the line: not JSON ({UNTERMINATED})"),
    "one quote for two": (b"{'conversations': []}", f"the line: not JSON ({PROPERTY})"),
    "a blank line between": (b"  ", "a blank line"),
    "a list": (b"[1]", "the line is no JSON object"),
    "null": (b"null", "the line is no JSON object"),
    "not UTF-8": (b'{"conversations": "\xb0\xa1"}', "the line is not UTF-8"),
    "no conversations": (b'{"image": "good.jpg"}', "the line has no conversations"),
    "conversations null": (b'{"conversations": null}', "the line has no conversations"),
    "image is a number": (line(7), "image is neither a file name nor a list of them"),
    "a name is a number": (line(["good.jpg", 7]), "name 2 in image is not text"),
    "a name is empty": (line("good.jpg,,good.jpg"), "name 2 in image is empty"),
    "17 names": (line(["good.jpg"] * 17), "image names 17 pictures; a row has at most 16"),
    "path out of the folder": (line("../secret.jpg"), first("../secret.jpg", OUT)),
    "path out by a detour": (line("deep/../../secret.jpg"), first("deep/../../secret.jpg", OUT)),
    "absolute path": (line("/etc/passwd"), first("/etc/passwd", ABSOLUTE)),
    "path of Windows": (line("C:\\a.jpg"), first("C:\\a.jpg", ABSOLUTE)),
    "no file name": (line("a\0.jpg"), first("a\\x00.jpg", "no file name")),
    "terminal control in the name": (line("\x1b[2J.jpg"), first("\\x1b[2J.jpg", "not in {where}")),
    "lone surrogate in the name": (line("\ud83d.jpg"), first("\\ud83d.jpg", "not in {where}")),
    "a name of 5,000 letters": (line("a" * 5000), first("a" * 57 + "...", "not in {where}")),
    "not there": (line("nowhere.jpg"), first("nowhere.jpg", "not in {where}")),
    "second not there": (line("good.jpg, nowhere.jpg"), "picture 2 ('nowhere.jpg'): not in {where}"),
    "base name of two files": (line("twin.jpg"), first("twin.jpg", SEVERAL)),
    "larger than the bound": (line("large.jpg"), first("large.jpg", f"larger than {MAX_PICTURE_BYTES:,} bytes")),
    "link out": (line("link.jpg"), {
        "folder": first("link.jpg", "a link that leads out of the pictures' folder"),
        "zip": first("link.jpg", "a link in the zip; links are not followed"),
    }),
    "a folder for a picture": (line("deep"), {
        "folder": first("deep", "no file, but a folder or a device"),
        "zip": first("deep", "not in the zip of pictures"),
    }),
    "base name of a file in another folder": (
        line("elsewhere/only.jpg"), first("elsewhere/only.jpg", "not in {where}")),
    "end of two paths": (line("below/twin.jpg"), first("below/twin.jpg", SEVERAL)),
    "longer than two paths": (line("all/deep/good.jpg"), {
        "folder": first("all/deep/good.jpg", SEVERAL.format(where="the folder of pictures")),
        "zip": first("all/deep/good.jpg", "not in the zip of pictures"),
    }),
    "by base name": (line("only.jpg"), None),
    "by the end of its path": (line("below/once.jpg"), None),
    "with folders around the pictures' folder": (line("data/sft_images/else/other.jpg"), None),
    "below a folder": (line("deep/twin.jpg"), None),
    "backslashes": (line("deep\\below\\twin.jpg"), None),
    "Chinese name": (line("图片 一.jpg"), None),
}  # fmt: skip
ONLY_IN_ZIP = {
    "encrypted": (line("encrypted.jpg"), first("encrypted.jpg", "encrypted in the zip")),
    "unknown compression": (line("method.jpg"), first("method.jpg", METHOD)),
    "wrong checksum": (line("checksum.jpg"), first("checksum.jpg", CHECKSUM)),
    "twice in the zip": (line("twice.jpg"), first("twice.jpg", "stands twice in the zip of pictures")),
}
ONLY_IN_FOLDER = {
    "named pipe": (line("pipe.jpg"), first("pipe.jpg", "no file, but a folder or a device")),
    "link to nothing": (line("dangling.jpg"), first("dangling.jpg", "a link that leads nowhere")),
}
