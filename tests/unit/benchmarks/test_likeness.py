"""The measurement that chooses validate.near_duplicate_bits."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from typer.testing import CliRunner

from benchmarks.likeness import app, copies, distances, distinct_pictures, hashes, pair_counts


def picture(seed):
    cells = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(cells).resize((64, 64), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def write(path, seeds):
    pq.write_table(
        pa.table({"conversations": ["[]"] * len(seeds), "image_bytes": [picture(n) for n in seeds]}), path
    )
    return path


def test_each_picture_counts_once(tmp_path):
    assert list(distinct_pictures(write(tmp_path / "a.parquet", [1, 2, 1]))) == [picture(1), picture(2)]


def test_pairs_are_counted_by_the_bits_that_differ():
    counts = pair_counts(np.array([0b0, 0b1, 0b11], np.uint64))
    assert (counts[1], counts[2], counts.sum()) == (2, 1, 3)


def test_what_is_saved_again_lies_nearer_than_what_is_cut():
    pictures = [picture(seed) for seed in range(8)]
    far = {name: distances(pictures, hashes(pictures), change).mean() for name, change in copies().items()}
    assert far["JPEG of quality 75"] < far["2 % cut off each side"] < far["5 % cut off each side"]


def test_the_command_prints_shares_pairs_and_the_nearest(tmp_path):
    train, heldout = write(tmp_path / "a.parquet", range(6)), write(tmp_path / "b.parquet", [3, 10])
    result = CliRunner().invoke(app, [str(train), str(heldout), "--sample", "4"])
    assert result.exit_code == 0, result.output
    assert "share of 4 copies" in result.output and "28 pairs" in result.output
