"""The data loader alone: JPEG decoding by size, rows a second by workers, against what a training step consumes.

Rows are as long as those of the original's two stages, and each has a JPEG of its own, so that every row decodes
one (drawn scenes; copies of a few with other bytes behind the picture's end). Nothing is trained. The rate that is
to be beaten is the training step's, of benchmarks/results/step.json or, with a GPU, step_gpu.json: there the
loader also leaves to the device what a training leaves to it. On a CPU a step needs the same cores as the workers.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.record import RESULTS, destination, machine, record, run, table
from benchmarks.stores import scenes, write_stores

if TYPE_CHECKING:
    from minivlm.data.batches import Batches

SIDE, IMAGE_TOKENS, IMAGE_ID = 224, 196, 3  # what CLIP-ViT-B/16 sees
SIZES = {"96 x 96": (96, 96), "224 x 224": (224, 224), "640 x 480": (640, 480)}  # width, height in pixels
LONGEST = {"pretrain": 640, "sft": 1536}  # tokens of a row, as the original has them
MADE: dict[str, Any] = {
    "longest": LONGEST,
    "vocabulary": 6400,
    "meta": {"image_token_id": IMAGE_ID, "image_tokens": IMAGE_TOKENS, "pad_token_id": 0},
}

app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    rows: Annotated[int, typer.Option(help="Rows that each measurement loads.")] = 2_000,
    batch_tokens: Annotated[int, typer.Option(help="Tokens in a batch, padding included.")] = 16_384,
    workers: Annotated[list[int] | None, typer.Option(help="Worker processes; repeat the option.")] = None,
    size: Annotated[str, typer.Option(help=f"Pictures to load: {', '.join(SIZES)}.")] = "224 x 224",
    repeats: Annotated[int, typer.Option(help="Measurements of each, interleaved; medians are told.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="600 rows, twice, 0 and 1 workers.")] = False,
    directory: Annotated[Path | None, typer.Option(help="Where loader.json goes; benchmarks/results.")] = None,
) -> None:
    """Measure, print, write loader.json."""
    results = destination(directory, quick)
    import torch

    from minivlm import hardware

    if quick:
        rows, repeats, workers = 600, 2, [0, 1]
    torch.set_num_threads(1)
    decoding = [decoding_speed(name, repeats) for name in SIZES]
    table(decoding, f"decoding to {SIDE} x {SIDE}, one thread")
    consumed = consumption(directory or RESULTS)
    found = []
    with tempfile.TemporaryDirectory(prefix="loader-") as folder:
        write_stores(Path(folder), rows, SIZES[size], **MADE)
        for stage in LONGEST:
            choices = sorted(set(workers or (0, 1, 2, hardware.cores())))
            found += loading(Path(folder), stage, choices, batch_tokens, repeats, consumed.get(stage))
    shown = [
        {
            "stage": line["stage"],
            "workers": line["workers"],
            "rows/s": line["rows_per_second"],
            "padding": line["padding_share"],
            "a step": line["consumed_per_second"],
            "ratio": line["ratio"],
        }
        for line in found
    ]
    table(shown, f"loading rows with pictures of {size} pixels")
    about = {"rows": rows, "batch_tokens": batch_tokens, "picture": size, "side": SIDE}
    print(record("loader", {"decoding": decoding, "loading": found, **about}, repeats=repeats, directory=results))


def decoding_speed(name: str, repeats: int) -> dict[str, Any]:
    """Milliseconds and pictures a second of JPEGs of one size, by one thread."""
    from minivlm.data.pictures import Preparation, decode

    files, prepared = scenes(SIZES[name], 8), Preparation(SIDE, SIDE)
    times = []
    for _ in range(5 * repeats):
        start = time.perf_counter()
        for data in files:
            decode(data, prepared)
        times.append((time.perf_counter() - start) / len(files))
    seconds = statistics.median(times)
    kilobytes = sum(map(len, files)) / len(files) / 1024
    return {
        "picture": name,
        "kilobytes": kilobytes,
        "milliseconds": 1e3 * seconds,
        "pictures_per_second": 1 / seconds,
    }


def loading(
    folder: Path, stage: str, workers: Sequence[int], batch_tokens: int, repeats: int, consumed: float | None
) -> list[dict[str, Any]]:
    """Rows a second for each number of workers, measured in turn; `consumed`: rows a second of a training step."""
    speeds: dict[int, list[float]] = {count: [] for count in workers}
    padding = 0.0
    for repeat in range(repeats):
        for count in workers:
            speed, padding = drain(batches(folder, stage, count, batch_tokens, epoch=repeat))
            speeds[count].append(speed)
    return [
        {
            "stage": stage,
            "workers": count,
            "rows_per_second": statistics.median(speeds[count]),  # and pictures: each row shows one of its own
            "padding_share": padding,
            "consumed_per_second": consumed,
            "ratio": consumed and statistics.median(speeds[count]) / consumed,
        }
        for count in workers
    ]


def batches(folder: Path, stage: str, workers: int, batch_tokens: int, epoch: int) -> Batches:
    """An epoch's batches as a training loads them."""
    import torch

    from minivlm.data.batch_plan import plan_batches
    from minivlm.data.pictures import Preparation
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.training.feed import made_batches

    store = TokenStore(folder / stage)
    return made_batches(
        plan_batches(store.lengths, batch_tokens, 0, epoch),
        store,
        PictureStore(folder / "pictures"),
        Preparation(SIDE, SIDE),
        image_token_id=IMAGE_ID,
        batch_tokens=batch_tokens,
        device="cuda" if torch.cuda.is_available() else "cpu",
        workers=workers,
    )


def drain(loader: Batches) -> tuple[float, float]:
    """(rows a second, share of padding) of all batches but those that workers made before the clock started."""
    stream = iter(loader)
    first = next(stream)  # the processes have started
    rows, tokens, padded = 0, first.tokens, first.padded_tokens
    start = end = time.perf_counter()
    for batch in stream:
        end = time.perf_counter()  # of the last batch: ending the processes is no part of it
        rows, tokens, padded = rows + batch.samples, tokens + batch.tokens, padded + batch.padded_tokens
    return rows / (end - start), 1 - tokens / padded


def consumption(folder: Path) -> dict[str, float]:
    """Samples a second of a training step by stage, where benchmarks.step measured them on a machine as this one.

    With a GPU those of step_gpu.json. Rates of another processor, number of cores or GPU are not held against
    this one's.
    """
    from minivlm.files import read_json

    here = machine()
    path = folder / ("step_gpu.json" if here["gpu"] else "step.json")
    if not path.is_file():
        return {}
    found = read_json(path)
    there = found.get("machine") or {}
    if any(there.get(name) != here[name] for name in ("cpu", "cores", "gpu")):
        return {}
    return {stage: found[stage]["samples_per_second"] for stage in LONGEST if stage in found}


if __name__ == "__main__":
    run(app)
