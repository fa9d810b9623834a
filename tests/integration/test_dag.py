"""The whole pipeline at toy size, in a checkout of its own: what runs, what does not run again, what it writes."""

import json
import os
import time

import pytest
from ruamel.yaml import YAML

from minivlm.config import load_params
from minivlm.paths import STAGES, Paths
from tests.integration.checkout import Checkout, stages_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("dag"))


@pytest.fixture(scope="module")
def first(checkout):
    """The output of the first run, whose reports and dvc.lock are committed."""
    checkout.imported_from()
    output = checkout.run("dvc", "repro")
    checkout.commit("first run")
    return output


def test_the_whole_pipeline_runs_its_own_code_and_writes_what_it_declares(checkout, first):
    assert stages_run(first) == list(STAGES)
    assert checkout.imported_from() == {checkout.root}
    locked = YAML(typ="safe").load(checkout.root / "dvc.lock")["stages"]
    outs = [out["path"] for stage in locked.values() for out in stage["outs"]]
    assert [out for out in outs if not (checkout.root / out).exists()] == []
    assert checkout.tracked_runs() > len(STAGES)


def test_only_declared_files_and_no_run_dependent_ones_are_new_to_git(checkout, first):
    assert checkout.run("git", "status", "--porcelain") == ""
    tracked = checkout.run("git", "ls-files", "reports").split()
    assert not [name for name in tracked if name.endswith(("cost.json", "index.html")) or "data_docs" in name]


def test_a_second_run_runs_nothing_in_under_three_seconds(checkout, first):
    before = os.times()
    output = checkout.run("dvc", "repro")
    after = os.times()
    assert stages_run(output) == []
    assert "Data and pipelines are up to date." in output
    assert checkout.run("git", "status", "--porcelain") == ""
    # Processor time, so that a busy machine does not count.
    assert after.children_user - before.children_user + after.children_system - before.children_system < 3


def test_outputs_hold_no_time_and_no_path_of_this_machine(checkout, first):
    for path in [*(checkout.root / "artifacts").rglob("*"), checkout.root / "dvc.lock"]:
        if path.is_file():
            assert str(checkout.root).encode() not in path.read_bytes(), path


def test_parameters_of_no_stage_run_nothing(checkout, first):
    params = checkout.root / "params.yaml"
    text = params.read_text(encoding="utf-8")
    changed = text.replace("cpu_hour: 0.2", "cpu_hour: 0.3").replace("workers: 0", "workers: 1")
    assert changed != text
    params.write_text(changed, encoding="utf-8")
    try:
        assert checkout.run("dvc", "status", "--json").strip() == "{}"
    finally:
        params.write_text(text, encoding="utf-8")


def test_an_experiment_in_a_temporary_checkout_runs_only_sft_and_evaluate(checkout, first):
    checkout.imported_from()
    runs = checkout.tracked_runs()
    output = checkout.run("dvc", "exp", "run", "--temp", "--name", "faster", "-S", "sft.learning_rate=5e-3")
    assert stages_run(output) == ["sft", "evaluate"]
    (temporary,) = checkout.imported_from()
    assert temporary.is_relative_to(checkout.root / ".dvc" / "tmp"), "a stage ran the code of another checkout"
    assert checkout.tracked_runs() >= runs + 2, "the experiment's runs are not in the user's own store"
    assert checkout.run("git", "status", "--porcelain") == "", "the user's files changed"


def test_experiments_can_be_compared(checkout, first):
    rows = json.loads(checkout.run("dvc", "exp", "show", "--json"))
    (workspace,) = [row for row in rows if row["rev"] == "workspace"]
    assert (
        workspace["data"]["params"]["params.yaml"]["data"]["sft"]["learning_rate"]
        == load_params(Paths().params).sft.learning_rate
    )
    differences = json.loads(checkout.run("dvc", "metrics", "diff", "--json", "faster"))
    assert "reports/sft/metrics.json" in differences
    assert "reports/pretrain/metrics.json" not in differences
    checkout.run("dvc", "plots", "diff", "faster", "--out", "../plots")


@pytest.mark.long
def test_a_queued_experiment_runs_and_is_shown_in_few_columns(checkout, first):
    runs = checkout.tracked_runs()
    checkout.run("dvc", "exp", "run", "--queue", "--name", "queued", "-S", "sft.learning_rate=5e-4")
    checkout.run("dvc", "queue", "start")
    until = time.monotonic() + 600
    while time.monotonic() < until and checkout.run("dvc", "queue", "status").count("Success") < 1:
        time.sleep(2)
    assert checkout.tracked_runs() >= runs + 3, "a reproduction with its sft and evaluate"
    assert "queued" in checkout.reproductions()
    rows = {row["name"]: row for row in json.loads(checkout.minivlm("experiments", "--json"))}
    assert rows["queued"]["changed"] == {"sft.learning_rate": 5e-4}
    losses = {rows[name]["figures"]["sft loss"] for name in ("main", "faster", "queued") if name in rows}
    assert len(losses) >= 2, "the learning rate changed nothing"
    header = next(line for line in checkout.minivlm("experiments").splitlines() if "changed" in line)
    assert header.split() == ["experiment", "changed", "sft", "loss", "recall", "unseen", "gap"]


PLOTS = ["pretrain loss", "sft loss", "attribute recall", "row lengths"]


def test_plots_are_named_and_hold_both_revisions(checkout, first):
    drawn = json.loads(checkout.run("dvc", "plots", "diff", "HEAD", "faster", "--json"))
    assert "errors" not in drawn and list(drawn["data"]) == PLOTS
    for (plot,) in drawn["data"].values():
        assert plot["revisions"] == ["HEAD", "faster"]
        assert {row["rev"] for row in plot["content"]["data"]["values"]} == {"HEAD", "faster"}
        assert "DVC_METRIC" not in json.dumps(plot), "an anchor of the template was not filled in"
    rows = drawn["data"]["sft loss"][0]["content"]["data"]["values"]
    for rev in ("HEAD", "faster"):
        assert [row for row in rows if row["rev"] == rev and row["val_loss"]], "no validation loss"


@pytest.mark.parametrize(
    "asked", ["exp show --json", "plots diff --json", "data status --json --granular", "params diff --json HEAD"]
)
def test_what_the_extension_of_vs_code_asks_is_answered(checkout, first, asked):
    answer = checkout.run("dvc", *asked.split())
    json.loads(answer)
    assert len(answer) < 1_000_000


def test_the_same_seed_gives_the_same_bytes_wherever_and_however_it_runs(checkout, first, tmp_path):
    """In another folder, with other numbers of processes that make and load rows, in another time zone and locale,
    and with another hash seed."""
    elsewhere = Checkout(
        tmp_path / "别处 elsewhere", TZ="Pacific/Chatham", LC_ALL="C", LANGUAGE="tr", PYTHONHASHSEED="7",
        MINIVLM_LOADERS="2",
    )  # fmt: skip
    params = elsewhere.root / "params.yaml"
    text = params.read_text(encoding="utf-8")
    assert "workers: 0" in text
    params.write_text(text.replace("workers: 0", "workers: 3"), encoding="utf-8")
    assert stages_run(elsewhere.run("dvc", "repro")) == list(STAGES)
    assert checkout.loaders() == [] and set(elsewhere.loaders()) == {2}
    assert (elsewhere.root / "dvc.lock").read_bytes() == (checkout.root / "dvc.lock").read_bytes()
    for name in elsewhere.run("git", "ls-files", "--others", "--modified", "--exclude-standard").splitlines():
        if name != "params.yaml":
            assert (elsewhere.root / name).read_bytes() == (checkout.root / name).read_bytes(), name
