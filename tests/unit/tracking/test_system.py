"""Samples of what the machine does, as curves of a stage's run."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from minivlm.errors import StoppedError
from minivlm.tracking import stage_run, system
from minivlm.tracking.system import Machine, SystemSampler
from tests.unit.tracking.toys import PARAMS, by_stage, stored, wait_for

CPU = "system/cpu_utilization_percentage"


@pytest.fixture
def quick(monkeypatch):
    """A sampler that hardly sleeps."""
    monkeypatch.setattr(system, "_FIRST", 0.02)


def test_a_sample_holds_what_processor_and_memory_do():
    machine = Machine()
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        pass
    sample = machine.sample()
    machine.close()
    assert {CPU, "system/system_memory_usage_megabytes", "system/process_memory_usage_megabytes"} <= set(sample)
    assert sample["system/process_cpu_percentage"] > 0
    assert 0 < sample["system/process_memory_usage_megabytes"] < sample["system/system_memory_usage_megabytes"]


def test_a_stage_has_the_curves_until_it_ends(paths, quick):
    with stage_run("sft", PARAMS, paths) as run:
        wait_for(lambda: run._last.get(CPU))
    ended = dict(run._last)
    time.sleep(0.1)
    assert run._last == ended
    client, _ = stored(paths)
    assert client.get_metric_history(by_stage(paths)["sft"].info.run_id, CPU)
    assert CPU not in by_stage(paths)["reproduction"].data.metrics


def test_a_training_that_goes_on_counts_on_from_its_first_beginning(paths, quick):
    with pytest.raises(StoppedError), stage_run("sft", PARAMS, paths, key="a", resumes=True) as run:
        run.begin()
        told = run.id
        raise StoppedError("sft: after step 1 of 2")
    earlier = f"{told.rpartition('-')[0]}-{time.time() - 1000:.0f}"
    with stage_run("sft", PARAMS, paths, key="b", resumes=True) as run:
        run.go_on(earlier)
        wait_for(lambda: run._last.get(CPU))
        assert 1000 <= run._last[CPU][3] < 1100


def test_a_run_that_an_earlier_version_has_noted_is_gone_on_with(paths):
    with stage_run("sft", PARAMS, paths, resumes=True) as run:
        run.go_on("a" * 32 + "-" + "b" * 16)
        assert run.id.startswith("a" * 32) and time.time() - run.begun < 60


def test_a_held_run_is_not_begun_by_a_sample(paths, quick):
    with stage_run("sft", PARAMS, paths, resumes=True) as run:
        time.sleep(0.2)
        assert not run._last
        run.begin()


def test_a_machine_that_cannot_be_asked_costs_its_curves_alone(monkeypatch):
    def broken(*_):
        raise OSError("no /proc")

    told = []
    monkeypatch.setattr(Machine, "sample", broken)
    sampler = SystemSampler(lambda metrics, seconds: told.append(metrics), time.time())
    sampler.stop()
    sampler.stop()
    monkeypatch.setattr(Machine, "__init__", broken)
    SystemSampler(lambda metrics, seconds: told.append(metrics), time.time()).stop()
    assert told == []


def test_a_long_run_is_sampled_ever_more_seldom():
    """A day makes some thousand points and not forty thousand; a short one has them every two seconds."""
    age, points = 0.0, 0
    while age < 86400:
        age += system.pause(age)
        points += 1
    assert points < 1500 and system.pause(60) == 2


VALUES = {"utilization_percentage": 75, "memory_usage_percentage": 50, "power_usage_watts": 150}


@pytest.mark.parametrize("silent", [None, *VALUES])
def test_a_gpu_that_does_not_tell_one_value_tells_the_others(monkeypatch, silent):
    """A MIG slice has no load of its own, a laptop's GPU no power."""

    class Nvml:
        class NVMLError(Exception):
            pass

        nvmlInit = nvmlShutdown = staticmethod(lambda: None)  # noqa: N815
        nvmlDeviceGetCount = staticmethod(lambda: 2)  # noqa: N815
        nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)  # noqa: N815

    def teller(name, value):
        def tell(device):
            if device == 1 and name == silent:
                raise Nvml.NVMLError("not supported")
            return value

        return staticmethod(tell)

    Nvml.nvmlDeviceGetUtilizationRates = teller("utilization_percentage", SimpleNamespace(gpu=75))
    Nvml.nvmlDeviceGetMemoryInfo = teller("memory_usage_percentage", SimpleNamespace(used=4e9, total=8e9))
    Nvml.nvmlDeviceGetPowerUsage = teller("power_usage_watts", 150_000)
    monkeypatch.setattr(system.importlib, "import_module", lambda name: Nvml)
    sample = Machine().sample()
    for device in (0, 1):
        found = {name: sample[key] for name in VALUES if (key := f"system/gpu_{device}_{name}") in sample}
        assert found == {name: value for name, value in VALUES.items() if device == 0 or name != silent}


def test_the_courier_is_no_part_of_the_stages_work():
    """Its process imports MLflow and talks to servers, while the stage trains."""
    code = "held = bytearray(200_000_000); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with_it, without = Machine().sample(), Machine(other.pid).sample()
        other.communicate(b"\n")
    name = "system/process_memory_usage_megabytes"
    assert with_it[name] - without[name] > 150
