"""Energy from meters that are made up: what is read, what is refused, and what is never invented."""

import sys
import time
from types import SimpleNamespace

import pytest

from minivlm.training import energy, meters
from minivlm.training.energy import Energy, measured_energy
from minivlm.training.meters import UnavailableError, nvml_meter, rapl_meter

LARGEST = 1000  # microjoules that a package of these tests counts to


@pytest.fixture
def powercap(tmp_path):
    """Two packages, a part of one, and the whole board: only packages count, or the cores would count twice."""
    for name, kind in [("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1"), ("intel-rapl:0:0", "core"),
                       ("intel-rapl:2", "psys"), ("intel-rapl-mmio:0", "package-0")]:  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{kind}\n")
        (tmp_path / name / "max_energy_range_uj").write_text(f"{LARGEST}\n")
        (tmp_path / name / "energy_uj").write_text("500\n")
    return tmp_path


def turn(powercap, package, count):
    (powercap / f"intel-rapl:{package}" / "energy_uj").write_text(f"{count}\n")


def test_rapl_adds_the_packages(powercap):
    meter = rapl_meter(powercap)
    meter.read()
    turn(powercap, 0, 600)
    turn(powercap, 1, 530)
    turn(powercap, "0:0", 590)
    meter.read()
    assert meter.joules == pytest.approx(130e-6)


def test_a_counter_that_starts_again_goes_on(powercap):
    meter = rapl_meter(powercap)
    meter.read()
    for count in (900, 100, 950, 20):  # twice over the end
        turn(powercap, 0, count)
        meter.read()
    around = 400 + (LARGEST - 900 + 100 + 1) + 850 + (LARGEST - 950 + 20 + 1)
    assert meter.joules == pytest.approx(around * 1e-6)


def test_a_counter_is_read_often_enough_to_see_it_start_again():
    """262 kJ is the range of common packages; 500 W more than one draws."""
    assert 3 * meters.RAPL_SECONDS < 65_000 / 500


def test_the_body_is_measured(powercap):
    with measured_energy("cpu", powercap=powercap) as measured:
        turn(powercap, 0, 800)
    assert measured.energy.joules == pytest.approx(300e-6)
    assert "RAPL" in measured.energy.source
    fields = measured.energy.fields()
    assert fields["mean_watts"] == pytest.approx(300e-6 / measured.seconds)
    assert fields["seconds"] == measured.seconds > 0
    assert "why" not in fields


def test_readings_are_taken_while_the_body_runs(powercap, monkeypatch):
    monkeypatch.setattr(meters.RaplMeter, "seconds", 0.005)
    seen = []
    with measured_energy("cpu", powercap=powercap) as measured:
        read = measured._meter.read
        monkeypatch.setattr(measured._meter, "read", lambda: (read(), seen.append(1)))
        deadline = time.monotonic() + 5
        while len(seen) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert len(seen) >= 3
    assert measured.energy.joules == 0


def test_without_a_meter_there_is_a_reason_and_no_figure(tmp_path):
    with measured_energy("cpu", powercap=tmp_path / "none") as measured:
        pass
    assert measured.energy.joules is None
    assert "has no RAPL package" in measured.energy.why
    assert measured.energy.fields() == {
        "joules": None, "watt_hours": None, "mean_watts": None, "seconds": None, "source": None,
        "why": measured.energy.why,
    }  # fmt: skip


def test_a_meter_for_root_alone_is_said_to_be(powercap, monkeypatch):
    path = powercap / "intel-rapl:1" / "energy_uj"
    original = type(path).read_text

    def read_text(self, **options):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return original(self, **options)

    monkeypatch.setattr(type(path), "read_text", read_text)
    with measured_energy("cpu", powercap=powercap) as measured:
        pass
    assert measured.energy == Energy(None, None, f"the processor's energy meter is closed to this user: {path}")


def test_a_meter_that_stops_answering_leaves_no_figure(powercap):
    with measured_energy("cpu", powercap=powercap) as measured:
        turn(powercap, 0, 700)
        (powercap / "intel-rapl:1" / "energy_uj").write_text("what?")
    assert measured.energy.joules is None
    assert "cannot be read" in measured.energy.why


def test_an_error_of_the_body_comes_through_and_is_measured(powercap):
    with pytest.raises(ZeroDivisionError), measured_energy("cpu", powercap=powercap) as measured:
        turn(powercap, 0, 501)
        raise ZeroDivisionError
    assert measured.energy.joules == pytest.approx(1e-6)
    assert measured.seconds > 0


class Nvml:
    """What of pynvml is used, over two boards: `millijoules` None has no counters, `milliwatts` None no power."""

    class NVMLError(Exception):
        pass

    def __init__(self, millijoules=(1000, 2000), milliwatts=(100_000, 50_000)):
        self.millijoules, self.milliwatts, self.open = millijoules, milliwatts, 0

    def nvmlInit(self):  # noqa: N802
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        return ["GPU-a", "GPU-b"].index(uuid)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return self._of(self.millijoules, handle)

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        return self._of(self.milliwatts, handle)

    def _of(self, values, handle):
        if values is None:
            raise self.NVMLError("Not Supported")
        return values[handle]


@pytest.fixture
def boards(monkeypatch):
    """Put a made-up pynvml in its place, and CUDA devices with the boards' UUIDs."""
    import torch

    properties = [SimpleNamespace(uuid="a"), SimpleNamespace(uuid="b")]
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)

    def put(nvml):
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return nvml

    return put


def test_counters_of_all_boards_are_added(boards):
    nvml = boards(Nvml())
    meter = nvml_meter([0, 1])
    nvml.millijoules = (4000, 2500)
    meter.read()
    assert meter.joules == pytest.approx(3.5)
    assert meter.source == "NVML: total energy counter of 2 GPU boards"
    meter.close()
    assert nvml.open == 0


def test_without_counters_power_is_integrated(boards):
    nvml, times = boards(Nvml(millijoules=None)), iter([0.0, 2.0, 3.0])
    meter = nvml_meter([0, 1], clock=lambda: next(times))
    nvml.milliwatts = (200_000, 50_000)
    meter.read()  # from 150 to 250 W in 2 s
    meter.read()  # 250 W for 1 s
    assert meter.joules == pytest.approx(400 + 250)
    assert "integrated" in meter.source


def test_a_board_without_either_has_no_figure(boards):
    nvml = boards(Nvml(millijoules=None, milliwatts=None))
    with pytest.raises(UnavailableError, match="Not Supported"):
        nvml_meter([0])
    assert nvml.open == 0
    with measured_energy("cuda:0") as measured:
        pass
    assert measured.energy.joules is None
    assert "Not Supported" in measured.energy.why


def test_a_gpu_is_measured_by_its_own_board(boards):
    nvml = boards(Nvml())
    with measured_energy("cuda:1") as measured:
        nvml.millijoules = (9000, 2600)
    assert measured.energy.joules == pytest.approx(0.6)


def test_without_the_package_the_reason_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with measured_energy("cuda:0") as measured:
        pass
    assert "nvidia-ml-py is not installed" in measured.energy.why


def test_each_local_rank_has_a_board(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert energy.devices_in_use("cuda:1") == [1]
    assert energy.devices_in_use("cuda") == [0]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert energy.devices_in_use("cuda:0") == [0, 1]


@pytest.mark.gpu
def test_a_real_board_uses_energy():
    import torch

    with measured_energy("cuda:0") as measured:
        matrix = torch.ones(4096, 4096, device="cuda:0")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            matrix @ matrix
            torch.cuda.synchronize()
    if measured.energy.joules is None:
        assert measured.energy.why
    else:
        assert 10 < measured.energy.joules / measured.seconds < 2000
