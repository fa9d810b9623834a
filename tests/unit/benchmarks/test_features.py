"""Steps with and without kept features, at toy size: what is there is asserted, times are not."""

import json
from dataclasses import replace

from benchmarks import features
from benchmarks.features import compare, figures
from benchmarks.record import record
from benchmarks.tables import blocks
from tests.unit.benchmarks.tiny import BASE, DEFAULTS, OPTIONS


def test_both_stages_are_timed_with_and_without_kept_features(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(features, "fill", watch(features.fill, taken))
    results = tmp_path / "results"
    found = compare(replace(OPTIONS, rows=12), BASE, DEFAULTS, tmp_path)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for stage in ("pretrain", "sft"):
        assert found[stage]["samples_per_second"] > 0 and found[stage]["kept_samples_per_second"] > 0
    assert found["pictures"] == 12 and found["fill_pictures_per_second"] > 0
    numbers = 16 * 32 * 4  # patches, width, bytes of a number in float32
    assert numbers <= 1e6 * found["megabytes_per_picture"] <= numbers + 1000
    assert len({str(store.directory) for store, _ in taken}) == 1  # what the first stage filled, the other reads
    record("features", found, repeats=2, directory=results)
    made = blocks(results)["features"]
    assert "| pretrain |" in made and "| sft |" in made and "the reference" not in made


def watch(function, kept):
    def watched(*arguments):
        kept.append(function(*arguments))
        return kept[-1]

    return watched


def test_figures_are_medians_of_the_repeats():
    found = figures([(10.0, 20.0), (30.0, 30.0), (20.0, 80.0)])
    assert (found["samples_per_second"], found["kept_samples_per_second"]) == (20.0, 30.0)
    assert found["ratio"] == 1.5 and found["ratio_range"] == [1.0, 4.0]


def test_a_quick_pass_fills_few_pictures(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(features, "compare", lambda options, *_: seen.update(options=options) or {
        "pretrain": figures([(1.0, 2.0)]), "sft": figures([(1.0, 2.0)]), "fill_pictures_per_second": 1.0,
        "megabytes_per_picture": 0.3,
    })  # fmt: skip
    features.main(["--quick", "--device", "cpu", "--directory", str(tmp_path)])
    assert seen["options"].rows == features.QUICK_ROWS and (tmp_path / "features.json").exists()
