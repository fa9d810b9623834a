"""A million rows train in the memory that a thousand take, but for some dozen bytes a row."""

import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from minivlm.data.store_writer import PictureWriter, TokenWriter
from tests.unit.model.tiny import IMAGE_ID, IMAGE_TOKENS, VOCABULARY, picture, write_base

ROOT = Path(__file__).resolve().parents[2]
STEPS, BATCH_TOKENS, PICTURES, LONGEST = 20, 2048, 16, 40
MOST = 1 << 30  # bytes above a process that only has the model: what the project promises
EXPECTED = 150 << 20  # bytes above a thousand rows: what it takes

# A process of its own: what it had at most is told by the kernel, page by page.
SCRIPT = """
import sys
from pathlib import Path

from minivlm.config import load_params
from minivlm.tracking import NullRun
from minivlm.training.places import Machine, Places
from minivlm.training.vision_language import train_vision_language

root, tokens, out, epochs = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
params = load_params(Path("params.yaml"))
options = params.pretrain.model_dump()
options |= {"freeze": "projector", "epochs": epochs, "batch_tokens": BATCH_TOKENS, "validations": 1}
if tokens.name == "none":  # the model alone
    from minivlm.model.llava import assemble
    from minivlm.training import feature_cache, loop

    model = assemble(root / "base", seed=4)
else:
    train_vision_language(
        "pretrain",
        places=Places(
            base=root / "base", start=None, tokens=tokens, pictures=root / "pictures",
            artifacts=out / "artifacts", reports=out / "reports", state=out / "state",
            features=out / "features" if sys.argv[5] == "features" else None,
        ),
        machine=Machine("cpu", 1, 0, params.prices),
        tracker=NullRun(), seed=4, **(options | {"precision": "fp32"}),
    )
status = Path("/proc/self/status").read_text()
print("peak", int(status.split("VmHWM:")[1].split()[0]) << 10)
""".replace("BATCH_TOKENS", str(BATCH_TOKENS))


def write_tokens(folder: Path, rows: int) -> int:
    """A token store of rows of 8 to 40 random tokens, three of four with one of 16 pictures; returns all tokens.

    Of the rows 32 are kept for validation.
    """
    random = np.random.default_rng(5)
    lengths = random.integers(8, LONGEST + 1, rows)
    writer = TokenWriter(folder, "uint16")
    pool = random.integers(IMAGE_ID + 1, VOCABULARY, LONGEST * 64)
    starts, shown = random.integers(0, len(pool) - LONGEST, rows), random.integers(0, PICTURES, rows)
    for row, (length, start, number) in enumerate(
        zip(lengths.tolist(), starts.tolist(), shown.tolist(), strict=True)
    ):
        ids = pool[start : start + length].copy()
        pictures = [number] if row % 4 else []
        ids[2 : 2 + IMAGE_TOKENS * len(pictures)] = IMAGE_ID
        writer.add(row, ids, np.arange(length) >= 2 + IMAGE_TOKENS, pictures)
    validation = np.zeros(rows, dtype=bool)
    validation[:: max(1, rows // 32)] = True
    writer.close(validation, {"image_token_id": IMAGE_ID, "image_tokens": IMAGE_TOKENS, "pad_token_id": 0})
    return int(lengths.sum())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    from PIL import Image

    root = tmp_path_factory.mktemp("million")
    write_base(root / "base", layer=-2)
    from minivlm.model.fingerprint import write_fingerprint
    from minivlm.model.llava import assemble

    write_fingerprint(assemble(root / "base", seed=4), root / "base", seed=4)
    pictures = PictureWriter(root / "pictures")
    for number in range(PICTURES):
        stream = io.BytesIO()
        Image.fromarray(picture(number).permute(1, 2, 0).numpy()).save(stream, "PNG")
        pictures.add(stream.getvalue())
    pictures.close()
    return root


def peak_memory(root: Path, rows: int | None, pictures: str = "pixels") -> int:
    """Bytes of a process that trains on some rows, reading `pictures` or their features; None: has the model."""
    tokens, epochs = root / "none", 0.0
    if rows is not None:
        tokens = root / f"tokens-{rows}-{pictures}"
        epochs = STEPS * BATCH_TOKENS / write_tokens(tokens, rows)  # nearly
    command = [sys.executable, "-c", SCRIPT, root, tokens, root / f"out-{tokens.name}", str(epochs), pictures]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("pictures", [pytest.param("pixels", marks=pytest.mark.long), "features"])
def test_a_million_rows_train_in_little_more_memory_than_a_thousand(root, pictures):
    model, few, many = (peak_memory(root, rows, pictures) for rows in (None, 1_000, 1_000_000))
    print(", ".join(f"{number / 2**20:.0f} MiB" for number in (model, few, many)), "at most")
    assert many - few < EXPECTED and many - model < MOST


@pytest.mark.slow
def test_six_epochs_of_a_million_rows_are_planned_in_a_few_dozen_megabytes():
    from minivlm.training.steps import plan_steps

    rows, lengths = np.arange(1_000_000), np.random.default_rng(0).integers(8, 60, 1_000_000)
    tracemalloc.start()
    try:
        steps = plan_steps(rows, lengths, batch_tokens=2048, accumulation=2, epochs=6, seed=0)
        assert sum(len(batch) for batch in steps[-40:].batches) > 0
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 20 << 20 and most < 80 << 20
