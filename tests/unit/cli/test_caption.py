"""`minivlm caption`, `import-checkpoint` and `export`, as people run them."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from minivlm.cli.main import app
from minivlm.generation.caption_files import printable
from tests.numeric.original import Variant, write_variant
from tests.unit.evaluation.toys import picture

QUESTION = "请详细描述这张图片。"


@pytest.fixture
def model(llava_directory):
    return llava_directory


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "照片"
    folder.mkdir()
    for i in range(3):
        picture(i).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def run(*arguments):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def caption(*arguments, model, speed=False):
    asked = ("--question", QUESTION, "--max-new-tokens", 6)
    return run("caption", *arguments, "--model", model, *asked, "--speed" if speed else "--no-speed")


def test_one_line_for_each_picture_of_files_and_folders(model, pictures):
    result = caption(pictures, pictures / "1.png", "--batch-size", 2, model=model)
    assert result.exit_code == 0
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == [str(pictures / f"{i}.png") for i in (0, 1, 2, 1)]
    assert lines[1][1] == lines[3][1] and all(len(line) == 2 for line in lines)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_each_picture_has_the_caption_that_it_has_alone(model, pictures, batch_size):
    alone = [caption(pictures / f"{i}.png", model=model).stdout for i in range(3)]
    assert len({line.split("\t")[1] for line in alone}) == 3, "they can be told apart"
    (pictures / "0b.png").write_text("not a picture")
    assert caption(pictures, "--batch-size", batch_size, model=model).stdout == "".join(alone)


def test_another_question_has_another_answer(model, pictures):
    asked = ("caption", pictures / "1.png", "--model", model, "--max-new-tokens", 6, "--no-speed", "--question")
    assert run(*asked, QUESTION).stdout == caption(pictures / "1.png", model=model).stdout
    assert run(*asked, "几只？").stdout != run(*asked, QUESTION).stdout


def test_the_bar_ends_at_the_last_picture_faults_among_them(model, pictures, monkeypatch):
    (pictures / "1.png").write_text("not a picture")
    monkeypatch.setattr("minivlm.cli.caption._has_room_for_a_bar", lambda: True)
    result = caption(pictures, "--batch-size", 2, model=model)  # without a terminal the bar is a line at its end
    assert result.stderr.splitlines()[-1].startswith("caption: 3 of 3 pictures, ")


def test_a_picture_that_cannot_be_read_costs_its_own_line(model, pictures):
    (pictures / "0.png").write_bytes((pictures / "0.png").read_bytes()[:300])
    (pictures / "1.png").write_text("not a picture")
    result = caption(pictures, pictures / "gone.png", model=model)
    assert result.exit_code == 2
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [str(pictures / "2.png")]
    wrong = result.stderr.splitlines()
    assert len(wrong) == 3
    for line, name, reason in zip(
        wrong, ("0", "1", "gone"), ("damaged", "not a picture", "not found"), strict=True
    ):
        assert line.startswith(f"error: {pictures / name}.png: {reason}")


def test_json_has_an_object_for_each_picture(model, pictures):
    (pictures / "1.png").write_bytes(b"")
    result = caption(pictures, "--json", model=model)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["error"] for line in found] == [None, "not a picture", None]
    assert found[0]["picture"] == str(pictures / "0.png") and isinstance(found[0]["caption"], str)
    assert found[1]["caption"] is None and result.exit_code == 2


def test_how_fast_it_was_is_said_beside_the_captions(model, pictures):
    plain = caption(pictures, model=model)
    result = caption(pictures, model=model, speed=True)
    assert result.stdout == plain.stdout and plain.stderr == ""
    (line,) = result.stderr.splitlines()
    for said in ("3 pictures, ", " a second", "first token ", "tokens/s", "model loaded in "):
        assert said in line


def test_no_picture_is_told_before_a_model_is_loaded(tmp_path):
    result = run("caption", "--model", tmp_path / "none")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: no pictures: name files") and result.stderr.count("\n") == 1


def test_paths_and_pictures_come_by_standard_input(model, pictures):
    files = [str(pictures / f"{i}.png") for i in range(3)]
    arguments = ["caption", "-", "--json", "--no-speed", "--model", str(model), "--max-new-tokens", "6"]
    listed = CliRunner().invoke(app, arguments, input="\n".join(files))
    said = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [line["picture"] for line in said] == files
    piped = CliRunner().invoke(app, arguments, input=(pictures / "1.png").read_bytes())
    assert json.loads(piped.stdout) == said[1] | {"picture": "-"}


def test_a_name_is_shown_without_what_a_terminal_obeys_and_json_has_it_as_it_is(model, tmp_path):
    names = ["tab\there\nline\x1b[31m.png", "c1\x9b31m.png", "图\u3000一.png"]
    for number, name in enumerate(names):
        picture(number).save(tmp_path / name)
    (tmp_path / "no\x1bpicture\n.png").touch()
    shown = ["c1\\x9b31m.png", "tab\\there\\nline\\x1b[31m.png", "图\u3000一.png"]
    result = caption(tmp_path, model=model)
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [f"{tmp_path}/{each}" for each in shown]
    assert result.stderr == f"error: {tmp_path}/no\\x1bpicture\\n.png: not a picture\n"
    result = caption(tmp_path / "c1\x9b31m.png", tmp_path / names[0], "--json", model=model)
    assert "\x9b" not in result.stdout and "\x1b" not in result.stdout
    found = [json.loads(line)["picture"] for line in result.stdout.splitlines()]
    assert found == [str(tmp_path / names[1]), str(tmp_path / names[0])]
    result = run("caption", f"{tmp_path}/\x1b[2J*.gif")
    assert result.stderr == f"error: {tmp_path}/\\x1b[2J*.gif: no file matches this pattern\n"


def test_json_has_every_byte_of_a_name_and_nothing_that_a_terminal_obeys(model, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9\x9b \xe2\x80\xae.png")
    picture(0).save(path)
    said = caption(path, "--json", model=model).stdout
    assert "caf\\udce9\\udc9b \\u202e.png" in said
    assert os.fsencode(json.loads(said)["picture"]) == os.fsencode(path)


@pytest.mark.parametrize("arguments", [("caption", "photo.jpg"), ("chat",), ("params",)])
def test_nothing_is_written_to_a_standard_output_that_is_closed(arguments):
    command = [sys.executable, "-m", "minivlm.cli.main", *arguments]
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output is closed; ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("caption", "-"), ("chat",)])
def test_a_standard_input_that_is_closed_is_bad_input(model, arguments):
    command = [sys.executable, "-m", "minivlm.cli.main", *arguments, "--model", str(model)]
    done = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: standard input is closed; ") and done.stderr.count("\n") == 1


def test_no_model_and_no_picture_areprintable(model, pictures, tmp_path):
    for result in (caption(pictures, model=tmp_path / "none"), caption(tmp_path / "照片" / "..", model=model)):
        assert result.exit_code == 2
        assert result.stdout == "" and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(("device", "said"), [("foo", "is none of auto"), ("cuda", "no CUDA device here")])
def test_a_device_that_is_not_there_isprintable(model, pictures, monkeypatch, device, said):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = caption(pictures, "--device", device, model=model)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: device '{device}'") and said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "file", ["1x1.png", "cmyk.jpg", "palette.gif", "grey16.png", "transparent.png", "long.png", "upside.jpg"]
)
def test_odd_pictures(model, tmp_path, file):
    path = tmp_path / file
    if file == "1x1.png":
        Image.new("RGB", (1, 1)).save(path)
    elif file == "cmyk.jpg":
        picture(0).convert("CMYK").save(path)
    elif file == "palette.gif":
        picture(0).convert("P").save(path)
    elif file == "grey16.png":
        Image.new("I;16", (20, 20), 4000).save(path)
    elif file == "transparent.png":
        picture(0).convert("RGBA").save(path)
    elif file == "long.png":
        Image.new("RGB", (20_000, 10)).save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 3  # turned by 180 degrees
        picture(0).rotate(180).save(path, quality=100, subsampling=0, exif=exif)
    result = caption(path, model=model)
    if file == "long.png":
        assert result.exit_code == 2 and "20000 x 10 pixels: more than 100 times as long as wide" in result.stderr
    else:
        assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1


def test_pictures_are_seen_upright(tmp_path):
    from minivlm.generation.opening import read_picture

    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").size == (20, 30)


def test_chinese_comes_out_under_a_c_locale(model, pictures):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "minivlm.cli.main", "caption", str(pictures / "0.png"), "--model", str(model)]
    command += ["--question", QUESTION, "--max-new-tokens", "6"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert done.stdout.decode("utf-8") == caption(pictures / "0.png", model=model).stdout


def test_import_and_export_from_the_command_line(tmp_path):
    source = write_variant(tmp_path, Variant(bias=None))
    parts = ("--vision", source / "clip", "--tokenizer", source / "tokenizer")
    config = ("--config", source / "config.json")
    result = run("import-checkpoint", source / "checkpoint.pth", *parts, *config, "--out", tmp_path / "model")
    assert result.exit_code == 0, result.stderr
    assert "no projector: one was drawn, untrained" in result.stdout
    assert "4 tokens '@' (34)" in result.stdout
    result = run("export", tmp_path / "model", "--format", "minimind", "--out", tmp_path / "back.pth")
    assert result.exit_code == 0, result.stderr
    # The projector that was drawn is in the file now, and the configuration lies beside it.
    config = ("--config", tmp_path / "back.json")
    result = run("import-checkpoint", tmp_path / "back.pth", *parts, *config, "--out", tmp_path / "again")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "again" / "config.json").read_text() == (tmp_path / "model" / "config.json").read_text()


def test_an_export_replaces_nothing_unless_told_to(tmp_path):
    source, model = write_variant(tmp_path, Variant()), tmp_path / "model"
    parts = ("--vision", source / "clip", "--tokenizer", source / "tokenizer", "--config", source / "config.json")
    assert run("import-checkpoint", source / "checkpoint.pth", *parts, "--out", model).exit_code == 0
    mine = tmp_path / "mine.json"
    mine.write_text("mine")
    arguments = ("export", model, "--format", "minimind", "--out", tmp_path / "mine.pth")
    result = run(*arguments)
    assert result.exit_code == 2 and "mine.json: there already" in result.stderr
    assert mine.read_text() == "mine" and not (tmp_path / "mine.pth").exists()
    assert run(*arguments, "--force").exit_code == 0
    assert "hidden_size" in mine.read_text()


def test_a_caption_cannot_command_a_terminal():
    assert printable(" 两只\x1b[31m鸟\x07\n 在 飞\x7f。 ") == "两只[31m鸟 在 飞。"


def test_a_file_is_exported_as_pth_alone_so_that_its_configuration_never_takes_its_place(tmp_path, monkeypatch):
    source = write_variant(tmp_path, Variant())
    parts = ("--vision", source / "clip", "--tokenizer", source / "tokenizer", "--config", source / "config.json")
    run("import-checkpoint", source / "checkpoint.pth", *parts, "--out", tmp_path / "sft" / "model")
    for name in ("x.json", "x", "x.pth.json"):
        result = run("export", tmp_path / "sft" / "model", "--format", "minimind", "--out", tmp_path / name)
        assert result.exit_code == 2 and not (tmp_path / name).exists()
        assert result.stderr == f"error: {tmp_path / name}: give the name of a .pth file\n"
    monkeypatch.chdir(tmp_path)
    assert run("export", "sft/model", "--format", "minimind").exit_code == 0
    assert (tmp_path / "sft_model.pth").is_file() and (tmp_path / "sft_model.json").is_file()


def test_errors_are_one_line_and_exit_code_2(tmp_path):
    for arguments in (
        [
            "import-checkpoint",
            tmp_path / "a.pth",
            "--vision",
            tmp_path,
            "--tokenizer",
            tmp_path,
            "--out",
            tmp_path,
        ],
        ["export", tmp_path, "--format", "minimind"],
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["tokenizer.json", "processor_config.json", "model.safetensors"])
def test_caption_and_export_notice_a_file_exchanged_for_another(tmp_path, pictures, name):
    source = write_variant(tmp_path, Variant())
    parts = ("--vision", source / "clip", "--tokenizer", source / "tokenizer", "--config", source / "config.json")
    assert run("import-checkpoint", source / "checkpoint.pth", *parts, "--out", tmp_path / "model").exit_code == 0
    other = tmp_path / "model" / name
    other.write_bytes(other.read_bytes() + b"\n")
    export = ("export", tmp_path / "model", "--format", "minimind", "--out", tmp_path / "x.pth")
    for result in (caption(pictures, model=tmp_path / "model"), run(*export)):
        assert result.exit_code == 2 and result.stdout == ""
        assert result.stderr.startswith(f"error: {other}: not the file that the model was saved with")
        assert result.stderr.count("\n") == 1


def test_giant_pictures_and_bombs_cost_their_line_and_no_memory(model, tmp_path):
    import resource
    import struct
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def png(width, height, *more):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(bytes(1000)))

    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000)))
    files = {"wide.png": png(60_000, 60_000), "large.png": png(10_001, 10_000), "text.png": png(20, 20, text)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = caption(*(tmp_path / name for name in files), model=model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert result.exit_code == 2 and result.stdout == ""
    wide, large, text = result.stderr.splitlines()
    assert "decompression bomb" in wide and "10001 x 10000 pixels: too large" in large and "damaged" in text


def test_an_answer_longer_than_the_model_has_positions_is_refused(model, pictures):
    result = run("caption", pictures, "--model", model, "--question", "?", "--max-new-tokens", 10**9)
    assert result.exit_code == 2
    assert result.stderr == ("error: an answer of 1,000,000,000 tokens: the model has 256 positions; take fewer\n")
