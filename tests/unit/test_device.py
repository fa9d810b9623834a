"""What a device's name means here, and where bf16 is computed in, by the processor's flags."""

import pytest

from minivlm import device
from minivlm.errors import UserError


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
    for named in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match=f"^device '{named}': no CUDA device here; use auto or cpu$"):
            device.resolve_device(named)


def test_gpus_are_named_by_their_numbers(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    named = ("auto", "cpu", "cuda", "cuda:0", "cuda:1")
    assert [device.resolve_device(name) for name in named] == ["cuda:0", "cpu", "cuda:0", "cuda:0", "cuda:1"]
    with pytest.raises(UserError, match="there are 2 here, numbered from 0"):
        device.resolve_device("cuda:2")


@pytest.mark.parametrize("named", ["foo", "", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "auto\n", "meta"])
def test_what_names_no_device_is_one_line(named):
    with pytest.raises(UserError, match="is none of auto, cpu, cuda and cuda:N"):
        device.resolve_device(named)
