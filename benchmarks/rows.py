"""validate, tokenize and a short training at growing numbers of rows: rows a second, peak memory.

The stage commands themselves run in a copy of the code, on tables made for it (benchmarks/row_tables.py). Few
pictures are shown by many rows: what each row costs is measured, decoding is what benchmarks/loader.py measures.
Every check is on, the search for pictures that look alike included. `python -m tests.reliability.validation`
measures validate with a picture of its own for each row.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.processes import measured
from benchmarks.record import ROOT, destination, record, run, table
from benchmarks.row_tables import SIDE, write_tables

STEPS = 40  # of the training
_BATCH_TOKENS = 2048
# A model that costs little: what is measured are rows.
_PROFILE = f"""
threads: 1
base:
  source: random
  validation_fraction: 0.0
  tokenizer: {{vocabulary: 1024}}
  vision_tower:
    {{image_size: {SIDE}, patch_size: 16, hidden_size: 32, layers: 2, heads: 2, intermediate_size: 64, projection_size: 32}}
  llm: {{hidden_size: 48, layers: 2, heads: 2, key_value_heads: 1, intermediate_size: 96}}
validate: {{near_duplicate_bits: 2}}
tokenize: {{validation_fraction: 1.0e-9}}
pretrain: {{epochs: %s, batch_tokens: {_BATCH_TOKENS}, validations: 1, precision: fp32}}
tracking: {{enabled: false}}
"""  # noqa: E501
app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    rows: Annotated[list[int], typer.Option(help="Numbers of rows; repeat the option.")] = [  # noqa: B006
        10_000,
        100_000,
        1_000_000,
    ],
    quick: Annotated[bool, typer.Option("--quick", help="At 2,000 and 10,000 rows.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Keep the made tables here for another time.")] = None,
    directory: Annotated[Path | None, typer.Option(help="Where rows.json goes; benchmarks/results.")] = None,
) -> None:
    """Measure, print, write rows.json."""
    results = destination(directory, quick)
    counts = sorted([2_000, 10_000] if quick else rows)
    figures: dict[str, list[dict[str, Any]]] = {"validate": [], "tokenize": [], "train": []}
    with tempfile.TemporaryDirectory(prefix="rows-") as folder:
        root = checkout(Path(folder))
        for count in counts:
            place_tables(root, count, cache)
            for stage, line in stages(root, count):
                figures[stage].append(line)
                print(f"{stage}: {count:,} rows, {line['seconds']:.1f} s", flush=True)
    for stage, lines in figures.items():
        table(lines, stage)
    print(record("rows", figures, directory=results))


def checkout(folder: Path) -> Path:
    """The code and parameters in a folder of their own; a stage reads and writes below its own code."""
    for name in ("src/minivlm", "pipelines", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "params.yaml", folder)
    return folder


def place_tables(root: Path, rows: int, cache: Path | None, *, own_pictures: bool = False) -> None:
    """The tables of so many rows as the download stage's output; with `own_pictures` no two rows share a file."""
    home = root / "artifacts" / "download"
    shutil.rmtree(home, ignore_errors=True)
    kept = cache and cache / f"{rows}{'-own' if own_pictures else ''}"
    if kept and kept.exists():
        shutil.copytree(kept, home)
        return
    write_tables(home, rows, own_pictures=own_pictures)
    if kept:
        shutil.copytree(home, kept)


def stages(root: Path, rows: int) -> Any:
    """Run validate, tokenize and pretrain: (name, figures) of each; the base is made when it is missing."""
    from minivlm.files import read_json

    write_params(root, epochs=1.0)
    yield "validate", run_stage(root, "validate", rows)
    if not (root / "artifacts" / "base").exists():
        run_stage(root, "base", rows)
    yield "tokenize", run_stage(root, "tokenize", rows)
    write_params(root, epochs=_epochs(root, rows))
    line = run_stage(root, "pretrain", rows)
    # Not of all rows, but of those that the steps took, in the time that they took.
    cost = read_json(root / "reports" / "pretrain" / "cost.json")
    yield "train", line | {"rows_per_second": round(cost["samples"] / cost["seconds"], 1), "steps": STEPS}


def write_params(root: Path, epochs: float) -> None:
    """The repository's parameters with a small model, and so many epochs of pretrain."""
    from minivlm.cli.profile import merged

    shutil.copy2(ROOT / "params.yaml", root)
    profile = root / "profiles" / "rows.yaml"
    profile.write_text(_PROFILE % epochs, encoding="utf-8")
    text, _ = merged(root / "params.yaml", profile)
    (root / "params.yaml").write_text(text, encoding="utf-8")


def _epochs(root: Path, rows: int) -> float:
    """The share of an epoch that holds STEPS steps."""
    from minivlm.data.batch_plan import plan_batches
    from minivlm.data.store import TokenStore

    store = TokenStore(root / "artifacts" / "tokenize" / "pretrain")
    lengths = store.lengths[store.training_rows()]
    return min(1.0, (STEPS + 0.5) / len(plan_batches(lengths, _BATCH_TOKENS, 0, 0)))


def run_stage(root: Path, stage: str, rows: int) -> dict[str, Any]:
    """Run one stage below `root`: its rows, seconds, rows a second and peak memory."""
    done = measured([sys.executable, "-m", f"pipelines.{stage}"], root, {"PYTHONPATH": ""})
    return {
        "rows": rows,
        "seconds": round(done.seconds, 2),
        "rows_per_second": round(rows / done.seconds, 1),
        "peak_memory_bytes": done.peak_memory,
    }


if __name__ == "__main__":
    run(app)
