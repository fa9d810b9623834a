"""Where bf16 is computed in, by the processor's flags; processes for pictures; the device's name."""

import pytest

from minivlm import hardware
from minivlm.errors import UserError
from minivlm.training import device


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512_bf16 sse", True), ("fpu amx_bf16", True), ("fpu avx512f avx512_bf16x", False)],
)
def test_bf16_is_computed_where_the_processor_says_so(tmp_path, flags, expected):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nmodel name : avx512_bf16 amx_bf16\nflags : {flags}\n")
    assert device.cpu_computes_bf16(cpuinfo) is expected
    assert device.cpu_computes_bf16(tmp_path / "none") is False


@pytest.mark.parametrize(("able", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_only_where_it_is_fast(monkeypatch, able, expected):
    monkeypatch.setattr(device, "cpu_computes_bf16", lambda: able)
    assert device.resolve_precision("auto", "cpu") == expected
    assert device.resolve_precision("fp32", "cpu") == "fp32"
    assert device.resolve_precision("bf16", "cpu") == "bf16"


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device.resolve_device("auto") == "cpu"
    with pytest.raises(UserError, match="no CUDA device"):
        device.resolve_device("cuda")


def test_workers_get_the_cores_that_training_leaves(monkeypatch):
    monkeypatch.setattr(hardware, "cores", lambda: 8)
    assert device.loader_workers(8, 2, "cpu", 50_000) == 6
    assert device.loader_workers(3, 2, "cpu", 50_000) == 3
    assert device.loader_workers(8, 8, "cpu", 50_000) == 0
    assert device.loader_workers(8, 8, "cuda:0", 50_000) == 8


def test_few_rows_are_not_worth_a_worker():
    assert device.loader_workers(8, 1, "cuda:0", device.ROWS_WORTH_A_WORKER - 1) == 0
