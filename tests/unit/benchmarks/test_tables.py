"""The tables of docs/performance.md are those of benchmarks/results/."""

import copy

import pytest
import torch

from benchmarks.record import RESULTS, record
from benchmarks.tables import BLOCKS, DOCUMENTS, blocks, filled
from minivlm.errors import UserError

ROWS = {
    "validate": [{"rows": 10_000, "seconds": 2.5, "rows_per_second": 4000.0, "peak_memory_bytes": 300 << 20}],
    "train": [{"rows": 1_000_000, "seconds": 9.0, "rows_per_second": 1.0, "peak_memory_bytes": 400 << 20}],
}
LOADER = {
    "decoding": [{"picture": "224 x 224", "milliseconds": 1.234, "pictures_per_second": 810.4}],
    "loading": [
        {"stage": "sft", "workers": 2, "rows_per_second": 900.0, "consumed_per_second": None, "ratio": None}
    ],
}
GENERATION = {
    "models": [
        {"model": "26m-random", "batch": 8, "cache": True, "first_token_seconds": 0.25, "tokens_per_second": 123.4}
    ]
}
SERVING = {
    "servers": [
        {"server": "minivlm serve", "model": "trained", "ready_seconds": 2.5, "at_once": 4}
        | {"first_token_seconds": 0.0201, "tokens_per_second": 512.3, "answers_per_second": 12.34}
    ]
}
REPRO = {"commands": [{"command": "dvc repro", "seconds": 2.345}], "parts": [{"part": "imports", "share": 0.5}]}
NEWCOMER = {"commands": [{"command": "make repro", "seconds": 234.5}], "seconds": 345.6}
NEWCOMER["environment_bytes"] = 6_630_000_000


@pytest.fixture
def results(tmp_path, found):
    figures = {"rows": ROWS, "loader": LOADER, "generation": GENERATION, "serving": SERVING, "repro": REPRO}
    figures["newcomer"] = NEWCOMER
    for name, values in figures.items():
        record(name, values, directory=tmp_path)
    record("step", found, repeats=2, directory=tmp_path)
    return tmp_path


def test_every_file_makes_its_tables(results):
    made = blocks(results)
    assert "| validate | 10,000 | 2.5 | 4,000 | 300 |" in made["rows"]
    assert "| train | 1,000,000 | 9 |  | 400 |" in made["rows"]  # a few steps are no rows a second
    assert "| sft | 2 | 900 | – | – |" in made["loader"] and "| 224 x 224 | 1.23 | 810 |" in made["loader"]
    assert "| 26m-random | 8 | on | 250 | 123 |" in made["generation"]
    assert "| `minivlm serve` | trained | 4 | 2.5 | 20.1 | 512 | 12.3 |" in made["serving"]
    assert "| dvc repro | 2.35 |" in made["repro"] and "| imports | 50% |" in made["repro"]
    assert "| `make repro` | 234 |" in made["newcomer"] and "| all | 346 |" in made["newcomer"]
    assert f"torch {torch.__version__}" in made["newcomer"] and "took 6.6 GB of disk." in made["newcomer"]
    assert "fp32; the reference in fp32; " in made["step"]
    assert made["step_gpu"] == "Not measured yet: `python -m benchmarks.step --device cuda`.\n"


def test_steps_are_shown_with_ratio_counts_and_parts(results, found):
    made = blocks(results)["step"]
    for stage in ("pretrain", "sft"):
        assert f"**{found[stage]['ratio']:.1f}**" in made
        for side in ("this project", "reference"):
            assert made.count(f"| {stage} | {side} |") == 2


def test_kept_features_pay_once_filling_has_taken_what_they_save(tmp_path):
    """A picture is filled in 0.1 s; a row takes 0.2 s without and 0.16 s with its features, or no less."""
    figures = {"fill_pictures_per_second": 10.0, "megabytes_per_picture": 0.3}
    for stage, kept in (("pretrain", 6.25), ("sft", 5.0)):
        figures[stage] = {"samples_per_second": 5.0, "kept_samples_per_second": kept, "ratio": kept / 5}
        figures[stage]["ratio_range"] = [1.0, 2.0]
    record("features", figures, directory=tmp_path)
    made = blocks(tmp_path)["features"]
    assert "| pretrain | 5 | 6.25 | **1.25** | 1.00 to 2.00 | 2.5 |" in made
    assert "| sft | 5 | 5 | **1.00** | 1.00 to 2.00 | – |" in made


def test_the_schedule_stands_beside_the_published_hours(results, found):
    made = blocks(results)["schedule"]
    assert "| the original, as published | RTX 4090 | 2.5 | 2 | 4.5 |" in made
    assert made.count("| projected |") == made.count("| at the peak, computed |") == 3
    assert "| this project |" not in made  # nothing was measured on a GPU
    gpu = copy.deepcopy(found)
    gpu["schedule"]["measured"] = {
        "device": "NVIDIA H200",
        "ours_hours": {"pretrain": 0.2, "sft": 0.1, "total": 0.3},
        "reference_hours": {"pretrain": 2.0, "sft": 1.0, "total": 3.0},
        "mfu": {"pretrain": 0.31, "sft": 0.42},
    }
    for stage in ("pretrain", "sft"):
        gpu[stage] |= {"peak_memory_bytes": 30 << 30, "reference_peak_memory_bytes": 6 << 30}
    record("step_gpu", gpu, directory=results)
    assert "| sft | 30 | 6 |" in blocks(results)["step_gpu"]
    made = blocks(results)["schedule"]
    assert "| this project | NVIDIA H200 | 0.2 | 0.1 | 0.3 | 0.31, 0.42 |" in made
    assert "| reference | NVIDIA H200 | 2 | 1 | 3 |  |" in made


def test_only_what_stands_between_the_markers_is_replaced():
    text = "before\n<!-- a:begin -->\nold | x\n<!-- a:end -->\nafter\n"
    assert filled(text, {"a": "new\n"}, "x.md") == "before\n<!-- a:begin -->\nnew\n<!-- a:end -->\nafter\n"
    with pytest.raises(UserError, match=r"x\.md: needs one line <!-- b:begin -->"):
        filled(text, {"b": ""}, "x.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_committed_documents_are_current(document):
    text = document.read_text(encoding="utf-8")
    made = {name: block for name, block in blocks(RESULTS).items() if name in DOCUMENTS[document]}
    assert filled(text, made, document.name) == text, "run `python -m benchmarks.tables --write`"
    assert text.count(":begin -->") == len(made)


def test_every_block_stands_in_one_document():
    assert sorted(BLOCKS) == sorted(name for names in DOCUMENTS.values() for name in names)
