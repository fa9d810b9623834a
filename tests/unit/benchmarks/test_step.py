"""A training step against the reference, at toy size: what is counted is asserted, times are not."""

import copy
import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import comparing
from benchmarks.clock import Phases, Segment, Work
from benchmarks.comparing import Options, compare, figures
from benchmarks.reference_side import Theirs
from benchmarks.schedule import devices, schedule
from benchmarks.setting import write_setting
from benchmarks.sides import Ours
from benchmarks.step import choose, print_tables
from minivlm.errors import UserError
from tests.contract.imports import ROOT
from tests.unit.benchmarks.tiny import BASE, DEFAULTS, OPTIONS


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return write_setting(tmp_path_factory.mktemp("setting"), BASE, rows=12, longest={"pretrain": 96, "sft": 256})


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_both_sides_have_one_loss_on_the_same_rows(found, stage):
    losses = found[stage]["loss"]
    assert losses["ours_fp32"] == pytest.approx(losses["reference_fp32"], rel=1e-5)
    assert losses["ours_trained"] == losses["ours_fp32"]  # the toy trains in float32


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_only_the_reference_computes_logits_that_nothing_supervises(found, stage):
    ours, theirs = found[stage]["counts"]["ours"], found[stage]["counts"]["reference"]
    spare = ours["logit_positions"] - ours["supervised_tokens"]
    assert 0 <= spare < 64 * OPTIONS.steps[stage]  # to a round number in each batch, at most
    assert theirs["logit_positions"] == theirs["rows"] * (DEFAULTS[stage].max_length - 1)
    assert ours["tower_runs_per_picture"] == theirs["tower_runs_per_picture"] == 1  # every row has its own picture
    assert ours["padding_share"] < theirs["padding_share"]
    assert theirs["padded_tokens_per_row"] == DEFAULTS[stage].max_length - 1


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_every_part_of_a_step_takes_time_on_both_sides(found, stage):
    for parts in found[stage]["parts"].values():
        assert set(parts) == {"decode", "tower", "llm_forward", "backward", "optimizer"}
        assert all(milliseconds > 0 for milliseconds in parts.values())


def test_all_repeats_are_kept_and_none_beside_them(found):
    for stage in ("pretrain", "sft"):
        assert found[stage]["steps"] == OPTIONS.repeats * OPTIONS.steps[stage]
        assert found[stage]["reference_steps"] == OPTIONS.repeats * OPTIONS.reference_steps
    assert found["schedule"]["measured"] is None  # extrapolated on a GPU alone
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_tables_show_both_stages(found, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    figures = copy.deepcopy(found)
    for stage in ("pretrain", "sft"):
        figures[stage] |= {"ratio": 11.659, "operations_per_sample": 101.665e9, "samples_per_second": 12345.6}
        for parts in figures[stage]["parts"].values():
            parts.update({name: 123.456 for name in parts})
    print_tables(figures)
    shown = capsys.readouterr().out
    assert "…" not in shown  # nothing is cut at 80 columns
    assert shown.count("reference") >= 4 and "backward" in shown and "logits/target" in shown


def test_a_repeated_picture_goes_through_the_tower_once_here_and_twice_there(setting):
    ours = Ours(setting, "pretrain", device="cpu", precision="fp32", batch_tokens=400, workers=0)
    theirs = Theirs(setting, "pretrain", device="cpu", defaults=DEFAULTS["pretrain"], workers=0)
    seen = {}
    for name, side in (("ours", ours), ("theirs", theirs)):
        # every row of the same picture
        side.tokens.pictures, side.tokens.pictures_of = lambda row: [0], lambda rows: np.zeros(len(rows), int)
        with (
            Work(side.model.model.vision_tower, side.model.config.text_config.vocab_size) as work,
            torch.no_grad(),
        ):
            if side is ours:
                [batch] = ours.batches([[0, 1, 2, 3]], workers=0)
                ours.objective(batch)
            else:
                [padded] = theirs.batches([0, 1, 2, 3], workers=0)
                theirs.reference.loss(padded)
        seen[name] = work.pictures
    assert seen == {"ours": 1, "theirs": 4}


def test_nothing_is_timed_when_the_losses_differ(setting, monkeypatch):
    monkeypatch.setattr(Theirs, "loss", lambda self, rows, low: 1.0)
    monkeypatch.setattr(comparing, "interleaved", lambda *_: pytest.fail("timed"))
    with pytest.raises(UserError, match=r"pretrain: loss .* where the reference has 1\.0.*nothing is timed"):
        comparing.compare_stage("pretrain", setting, OPTIONS, DEFAULTS["pretrain"])


def test_figures_are_medians_of_the_repeats():
    def pair(ours, theirs):
        return (
            Segment(1.0, None, steps=1, rows=ours, tokens=90, padded_tokens=100, operations=ours * 7),
            Segment(1.0, None, steps=1, rows=theirs),
        )

    found = figures([pair(10, 1), pair(30, 2), pair(20, 4)])
    assert (found["samples_per_second"], found["reference_samples_per_second"], found["ratio"]) == (20, 2, 10)
    assert found["ratio_range"] == [5, 15]
    assert found["operations_per_sample"] == 7 and found["operations_per_second"] == 140
    assert found["padding_share"] == pytest.approx(0.1)


def test_the_original_s_schedule_is_counted_in_its_rows_and_epochs(setting, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    speeds = {"samples_per_second": 1000.0, "reference_samples_per_second": 100.0, "operations_per_second": 6e13}
    found = schedule({"pretrain": speeds, "sft": speeds}, setting.model().config, "cuda:0")
    assert found["samples"] == {"pretrain": 2_380_000, "sft": 1_800_000}
    measured = found["measured"]
    assert measured["ours_hours"]["total"] == pytest.approx(4180 / 3600)
    assert measured["reference_hours"]["total"] == pytest.approx(41800 / 3600)
    assert measured["mfu"]["sft"] == pytest.approx(60 / 989.4)


def test_projecting_to_the_measured_device_gives_the_measured_hours(setting, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    slow = {"samples_per_second": 1000.0, "reference_samples_per_second": 100.0, "operations_per_second": 3e13}
    fast = slow | {"samples_per_second": 4000.0, "operations_per_second": 2e14}
    found = schedule({"pretrain": slow, "sft": fast}, setting.model().config, "cuda:0")
    assert found["devices"]["H200"]["hours"] == pytest.approx(found["measured"]["ours_hours"]["total"])


def test_what_the_reference_holds_is_its_weights_and_its_optimizer(setting):
    theirs = Theirs(setting, "sft", device="cpu", defaults=DEFAULTS["sft"], workers=0)
    weights = sum(p.numel() for p in theirs.model.parameters())
    trained = sum(p.numel() for p in theirs.model.parameters() if p.requires_grad)
    buffers = sum(buffer.nbytes for buffer in theirs.model.buffers())
    assert theirs.held() == 4 * weights + buffers
    theirs.steps(theirs.batches(theirs.rows(1)))
    assert 4 * (weights + 2 * trained) + buffers <= theirs.held() <= 1.01 * 4 * (weights + 3 * trained) + buffers


def test_devices_need_longer_than_their_peak_allows():
    found = devices(314 * 10**15, None)
    assert found["RTX 4090"]["hours_at_peak"] == pytest.approx(314e15 / 165.2e12 / 3600)
    for each in found.values():
        assert each["hours_at_peak"] < each["hours_low"] < each["hours"] < each["hours_high"]


def test_work_is_counted_at_the_rows_own_lengths(setting):
    ours = Ours(setting, "sft", device="cpu", precision="fp32", batch_tokens=600, workers=0)
    assert ours.operations([0, 1]) == ours.operations([0]) + ours.operations([1])
    longest, shortest = (int(f(ours.tokens.lengths)) for f in (np.argmax, np.argmin))
    assert ours.operations([longest]) > ours.operations([shortest])


def test_a_gpu_gets_two_hundred_steps_and_workers(monkeypatch):
    monkeypatch.setattr("minivlm.device.resolve_device", lambda device: "cuda:0")
    given = Namespace(device="auto", precision="bf16", stages=["sft"], rows=None, repeats=None, steps=None,
                      batch_tokens=None, compile=False, quick=False, directory=None)  # fmt: skip
    options = choose(given, {"pretrain": 4096, "sft": 1600})
    assert isinstance(options, Options) and options.workers > 0
    assert options.repeats * options.steps["sft"] >= 200 and options.repeats * options.reference_steps >= 200


def test_each_repeat_has_rows_of_all_lengths(tmp_path):
    made = write_setting(tmp_path, BASE, rows=120, longest={"pretrain": 96, "sft": 256})
    ours = Ours(made, "sft", device="cpu", precision="fp32", batch_tokens=600, workers=0)
    longest = [[int(ours.tokens.lengths[rows].max()) for rows in part] for part in ours.plan(8, 3)]
    assert [len(part) for part in longest] == [8, 8, 8]
    means = [sum(part) / len(part) for part in longest]
    assert max(means) < 1.1 * min(means)
    assert all(min(part) < 0.8 * max(part) for part in longest)


def test_parts_are_timed_where_they_run(setting):
    ours = Ours(setting, "sft", device="cpu", precision="fp32", batch_tokens=600, workers=0)
    phases = Phases("cpu")
    with phases.of_method(*ours.tower, "tower"):
        assert ours.step_in_phases(ours.plan(1)[0], phases) > 0
    before = phases.seconds["tower"]
    ours.loss([0], low=False)
    assert phases.seconds["tower"] == before > 0  # the clock is taken off again


def test_bf16_leaves_the_frozen_weights_as_they_were(setting):
    ours = Ours(setting, "pretrain", device="cpu", precision="bf16", batch_tokens=400, workers=0)
    weight = ours.model.model.vision_tower.encoder.layers[0].mlp.fc1.weight
    before = weight.clone()
    with ours.converted():
        assert weight.dtype == torch.bfloat16
    assert torch.equal(weight, before)
    assert ours.loss([0, 1], low=True) == pytest.approx(ours.loss([0, 1], low=False), rel=2e-2)


BLOCKED = """
import importlib.machinery as machinery, json, sys, tempfile
from pathlib import Path

blocked = {"pydantic", "pydantic_core", "mlflow", "dvc", "great_expectations", "pandas", "pyarrow", "ruamel"}
find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = classmethod(
    lambda kind, name, path=None, target=None: None if name.split(".")[0] in blocked else find(name, path, target)
)
from benchmarks.comparing import compare
from tests.unit.benchmarks.tiny import BASE, DEFAULTS, OPTIONS

with tempfile.TemporaryDirectory() as folder:
    found = compare(OPTIONS, BASE, DEFAULTS, Path(folder))
assert not blocked & set(sys.modules), blocked & set(sys.modules)
print(json.dumps(found["sft"]["counts"]))
"""


@pytest.mark.slow
def test_a_step_needs_torch_and_transformers_alone():
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], cwd=ROOT, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["reference"]["logit_positions"] > counts["reference"]["supervised_tokens"] > 0


def environment():
    import os

    return os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"}


@pytest.mark.gpu
def test_both_sides_agree_and_are_timed_on_a_gpu(tmp_path):
    options = replace(OPTIONS, device="cuda:0", precision="bf16", warm_up=2, workers=2)
    found = compare(options, BASE, DEFAULTS, tmp_path)
    assert found["sft"]["peak_memory_bytes"] > 0 and found["schedule"]["measured"]["ours_hours"]["total"] > 0
