"""A training stage as several processes: the losses of one, one line for an error, no orphan."""

import re
import signal
import sys
import time

import psutil
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from minivlm.files import read_json, sha256_tree
from tests.integration.toy_stage import Stage
from tests.reliability.moments import steps_told

pytestmark = pytest.mark.slow
TORCHRUN = "torchrun --standalone --nproc-per-node 2"
ACCELERATE = (
    "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
)


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory):
    """What one process writes."""
    stage = Stage(tmp_path_factory.mktemp("alone"), inputs)
    code, _, errors = stage.run()
    assert code == 0, errors
    return stage


@pytest.fixture
def stage(inputs, tmp_path):
    return Stage(tmp_path / "checkout", inputs)


def assert_same_losses(stage, alone, rel=1e-5):
    assert len(alone.history()) > 10
    for row, expected in zip(stage.history(), alone.history(), strict=True):
        assert row == pytest.approx(expected, rel=rel, nan_ok=True)
    figures = read_json(stage.root / "reports/pretrain/metrics.json")
    assert figures == pytest.approx(read_json(alone.root / "reports/pretrain/metrics.json"), rel=1e-5)


def assert_nobody_left(stage, within=20.0):
    """No process works in the checkout any longer."""
    end = time.monotonic() + within
    while left := [each for each in psutil.process_iter() if works_in(each, stage.root)]:
        assert time.monotonic() < end, [each.cmdline() for each in left]
        time.sleep(0.1)


def works_in(process, folder):
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder)
    except psutil.Error:
        return False


@pytest.mark.parametrize(
    "runtime",
    [
        pytest.param({"launcher": TORCHRUN}, id="torchrun"),
        pytest.param({"launcher": ACCELERATE}, id="accelerate", marks=pytest.mark.long),
        pytest.param({"launcher": TORCHRUN, "sharding": "full"}, id="sharded"),
    ],
)
def test_two_processes_have_the_losses_of_one(stage, alone, runtime):
    code, output, errors = stage.set(**runtime).run()
    assert (code, errors) == (0, "")
    assert_same_losses(stage, alone)
    assert output.count("pretrain: trains") == output.count("step 12/12") == 1 and "2 processes" in output
    for name in ("last.safetensors", "model/model.safetensors"):
        ours, theirs = (load_file(each.root / "artifacts/pretrain" / name) for each in (stage, alone))
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            torch.testing.assert_close(ours[key], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sharding", [pytest.param("none", marks=pytest.mark.long), "full"])
def test_processes_agree_where_a_batch_without_a_picture_trains_nothing(inputs, tmp_path, sharding):
    one = Stage(tmp_path / "one", inputs).set(freeze="projector")
    two = Stage(tmp_path / "two", inputs).set(freeze="projector", launcher=TORCHRUN, sharding=sharding)
    for stage in (one, two):
        code, _, errors = stage.run()
        assert (code, errors) == (0, "")
    assert_same_losses(two, one)


@pytest.mark.gpu
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_gpus_have_the_losses_of_one(inputs, tmp_path, sharding):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    one = Stage(tmp_path / "one", inputs).set(device="cuda")
    two = Stage(tmp_path / "two", inputs).set(device="cuda", launcher=TORCHRUN, sharding=sharding)
    for stage in (one, two):
        code, _, errors = stage.run()
        assert code == 0, errors
    assert_same_losses(two, one)


def test_fewer_micro_batches_than_processes_is_one_line(stage):
    code, output, errors = stage.set(launcher=TORCHRUN, accumulation=1).run()
    assert (code, output) == (2, "pretrain: Train the projector between the frozen base models on captions.\n")
    assert re.fullmatch(
        r"error: pretrain\.accumulation 1: .* set it to 2 .*pretrain\.batch_tokens as much\n", errors
    )
    assert_nobody_left(stage)


@pytest.mark.parametrize("launcher", ["", pytest.param(TORCHRUN, marks=pytest.mark.long)])
def test_a_process_that_was_told_half_of_a_launch_writes_nothing(stage, launcher):
    """As under SLURM with these four exported: each would be the whole training, in the same folders."""
    half = ("RANK=1", "WORLD_SIZE=2", "LOCAL_RANK=1", "MASTER_ADDR=localhost")
    command = ("env", *half, sys.executable, "-m", "pipelines.pretrain")
    code, output, errors = stage.set(launcher=launcher).run(*command)
    assert (code, output) == (2, "") and errors.count("\n") == 1
    assert errors.startswith(
        "error: RANK 1 of WORLD_SIZE 2, and no LOCAL_WORLD_SIZE, MASTER_PORT: start with torchrun"
    )
    assert not (stage.root / "reports").exists() and not (stage.root / "artifacts/pretrain").exists()


def test_a_picture_that_one_process_cannot_decode_ends_both_in_one_line(stage):
    pictures = stage.root / "artifacts/tokenize/pictures/pictures.bin"
    pictures.write_bytes(bytes(pictures.stat().st_size))
    code, _, errors = stage.set(launcher=TORCHRUN, tracking=True).run()
    assert code == 2 and re.fullmatch(r"error: \S+pictures: picture \d cannot be decoded: .*\n", errors)
    assert_nobody_left(stage)
    assert runs_in_mlflow(stage) == {"pretrain": "FAILED", "reproduction": "FAILED"}


def test_two_processes_read_the_features_that_one_keeps(stage, alone):
    code, output, errors = stage.set(launcher=TORCHRUN, feature_cache=True).run()
    assert code == 0, errors
    assert output.count("of them computed now") == 1
    assert_same_losses(stage, alone, rel=1e-4)  # the tower's products are of other groups of pictures


def test_a_process_that_does_not_see_the_feature_cache_ends_both_in_one_line(stage):
    with (stage.root / "src/minivlm/data/features.py").open("a") as stream:
        stream.write(ANOTHER_MACHINE)
    code, _, errors = stage.set(launcher=TORCHRUN, feature_cache=True).run()
    assert code == 2
    assert errors.strip().splitlines()[-1].endswith("one process writes it, and all have to see its folder")
    assert_nobody_left(stage)


ANOTHER_MACHINE = """
_open = FeatureStore.__init__


def _elsewhere(self, directory, *rest):
    _open(self, directory if os.environ["RANK"] == "0" else directory / "elsewhere", *rest)


FeatureStore.__init__ = _elsewhere
"""


@pytest.mark.long
def test_a_picture_of_a_validation_row_that_one_process_cannot_decode_ends_both(stage):
    """Under FSDP, whose forward pass waits for the other process."""
    (stage.root / "spoilt.py").write_text(SPOILT)
    stage.set(sharding="full")
    launcher = ["-m", "torch.distributed.run", *TORCHRUN.split()[1:]]
    code, _, errors = stage.run(sys.executable, *launcher, "spoilt.py")
    assert code == 1 and "error: picture 7 cannot be decoded" in errors
    assert_nobody_left(stage)


# Runs the stage; the second process cannot read its first validation batch.
SPOILT = """
import os
import pipelines.pretrain as stage
from minivlm.errors import UserError
from minivlm.training import feed

validation = feed.Feed.validation

def spoilt(self):
    for batch in validation(self):
        if os.environ["RANK"] == "1":
            raise UserError("picture 7 cannot be decoded")
        yield batch

feed.Feed.validation = spoilt
stage.app()
"""


def runs_in_mlflow(stage):
    """Stage or None → status of each run in the checkout's store."""
    return dict(stage.store("select value, status from runs join tags using (run_uuid) where key = 'stage'"))


def test_dvc_drives_them_and_one_of_them_tracks(stage, alone):
    stage.set(launcher=TORCHRUN, tracking=True)
    outs = ["artifacts/pretrain/model", "artifacts/pretrain/last.safetensors"]
    pretrain = {"cmd": "python -m pipelines.pretrain", "deps": ["artifacts/tokenize"], "outs": outs}
    with (stage.root / "dvc.yaml").open("w") as stream:
        YAML(typ="safe", pure=True).dump({"stages": {"pretrain": pretrain}}, stream)
    for command in ("init --no-scm --quiet", "config core.analytics false", "repro"):
        code, output, errors = stage.run("dvc", *command.split())
        assert code == 0, errors
    assert output.count("pretrain: trains") == 1 and "2 processes" in output
    assert_same_losses(stage, alone)
    assert runs_in_mlflow(stage) == {"pretrain": "FINISHED", "reproduction": "FINISHED"}
    assert "are up to date" in stage.run("dvc", "repro")[1]


def started(stage):
    """A stage of two processes that has taken its first step, and will not soon be done."""
    process = stage.set(launcher=TORCHRUN, epochs=10_000.0, validations=1, log_steps=10_000).start()
    wait_until(lambda: steps_told(stage), process)
    return process


def wait_until(holds, process, within=120.0):
    """A condition, not a time: on a busy machine all comes later."""
    end = time.monotonic() + within
    while not holds():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_a_signal_ends_all_after_the_state_is_saved(stage, number):
    process = started(stage)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert re.fullmatch(
        r"stopped: pretrain: after step \d+ of [\d,]+; its state is saved, run it again .*\n", errors
    )
    assert_nobody_left(stage)
    assert len(list(stage.root.glob(".state/pretrain/*/step-*"))) == 1


def test_a_signal_before_the_training_ends_all(stage):
    process = stage.set(launcher=TORCHRUN).start()
    wait_until(psutil.Process(process.pid).children, process)  # the launcher, which has no rank yet
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, "")
    assert_nobody_left(stage)


def test_processes_end_with_a_starter_that_is_killed(stage):
    process = started(stage)
    process.kill()
    process.communicate(timeout=60)
    assert_nobody_left(stage)


# Runs the stage until its state has been saved after five steps.
STOPPED = """
import os
import signal
import pipelines.pretrain as stage
from minivlm.training import states

save = states.StateFolder.save

def save_and_stop(self, state):
    save(self, state)
    if state.result.steps == 5:
        os.kill(os.getpid(), signal.SIGINT)

states.StateFolder.save = save_and_stop
stage.app()
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(1, 1, marks=pytest.mark.long), (1, 2), pytest.param(2, 1, marks=pytest.mark.long)],
)
def test_a_stopped_training_goes_on_with_another_number_of_processes(stage, alone, first, second):
    stage.set(save_minutes=0.0)
    (stage.root / "stopped.py").write_text(STOPPED)
    launcher = ["-m", "torch.distributed.run", *TORCHRUN.split()[1:]] if first == 2 else []
    code, output, errors = stage.run(sys.executable, *launcher, "stopped.py")
    assert code == (1 if launcher else 75) and "stopped: pretrain: after step 5 of 12" in errors
    assert "goes on" not in output
    states = stage.root / ".state/pretrain"
    assert sorted(path.name[:13] for path in states.glob("*/step-*")) == ["step-00000004", "step-00000005"]
    assert not (stage.root / "artifacts/pretrain").exists()

    code, output, errors = stage.set(launcher=TORCHRUN if second == 2 else "").run()
    assert (code, errors) == (0, "") and "goes on after step 5" in output
    assert list(states.iterdir()) == []
    assert_same_losses(stage, alone)
    if first == second == 1:
        for name in ("artifacts/pretrain", "reports/pretrain/loss.csv", "reports/pretrain/metrics.json"):
            assert sha256_tree(stage.root / name) == sha256_tree(alone.root / name)
