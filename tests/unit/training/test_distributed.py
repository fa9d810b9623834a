"""Who takes which micro-batch, which device, and what cannot be shared out."""

import pytest
import torch

from minivlm.errors import UserError
from minivlm.training.distributed import ALONE, Processes, Repeat, check_share, find_processes, own_device


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("number", [1, 2, 3, 7, 10])
def test_every_micro_batch_counts_once_and_all_compute_equally_many(size, number):
    step, counted, lengths = list(range(number)), [], set()
    for rank in range(size):
        processes = Processes(rank, size)
        weighted = list(processes.weighted(processes.share(step), number))
        lengths.add(len(weighted))
        own = [each for each in weighted if not isinstance(each, Repeat)]
        assert own == step[rank::size] == weighted[: len(own)]
        counted += own
    assert sorted(counted) == step and len(lengths) == 1


def test_a_repeat_counts_nothing():
    repeat = Repeat(torch.ones(3)).to("cpu")
    assert (repeat.count, repeat.samples, repeat.tokens, repeat.padded_tokens) == (0, 0, 0, 0)
    assert torch.equal(repeat.batch, torch.ones(3))


def test_alone_nothing_is_asked_of_others():
    assert ALONE.sum(1, 2.5) == [1, 2.5] and ALONE.from_main(lambda: "made") == "made" and ALONE.is_main
    with pytest.raises(UserError, match="mine"), ALONE.together():
        raise UserError("mine")


LAUNCH = {
    "RANK": "11", "WORLD_SIZE": "16", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "host",
    "MASTER_PORT": "29500",
}  # fmt: skip


@pytest.fixture
def environ(monkeypatch):
    """Set some of a launch's variables, and no other."""

    def environ(**values):
        for name in LAUNCH:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return environ


def test_processes_are_found_where_a_launcher_says_so(environ):
    environ()
    assert find_processes() is ALONE
    environ(WORLD_SIZE="16")  # as some clusters do for every program
    assert find_processes() is ALONE
    environ(RANK="0", WORLD_SIZE="1", MASTER_ADDR="host")  # one machine, numbered
    assert find_processes() is ALONE
    environ(**LAUNCH)
    assert find_processes() == Processes(rank=11, size=16, local_rank=3, local_size=8)


@pytest.mark.parametrize("left_out", ["LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_one_of_several_that_is_not_told_all_of_it_does_not_train_alone(environ, left_out):
    environ(**{name: value for name, value in LAUNCH.items() if name != left_out})
    with pytest.raises(UserError, match=f"RANK 11 of WORLD_SIZE 16, and no {left_out}: start with torchrun"):
        find_processes()


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device("auto", Processes(5, 8, 1, 2)) == own_device("cuda", Processes(5, 8, 1, 2)) == "cuda:1"
    assert own_device("cpu", Processes(5, 8, 1, 2)) == "cpu"
    assert own_device("cuda:1", ALONE) == "cuda:1"
    with pytest.raises(UserError, match=r"3 processes on a machine with 2 GPUs; .*runtime\.launcher"):
        own_device("auto", Processes(2, 3, 2, 3))
    with pytest.raises(UserError, match=r"runtime\.device 'cuda:0' is one GPU, for 2 processes; set it to auto"):
        own_device("cuda:0", Processes(0, 2, 0, 2))


def test_what_cannot_be_shared_out_is_said_before_anything_is_loaded():
    check_share(ALONE, "sft", 1, "none")
    check_share(Processes(1, 4), "sft", 4, "full")
    with pytest.raises(
        UserError, match=r"sft\.accumulation 3: .* set it to 4 or a multiple, and lower sft\.batch"
    ):
        check_share(Processes(1, 4), "sft", 3, "none")
    with pytest.raises(UserError, match=r"runtime\.sharding 'full' .* set runtime\.launcher, or sharding: none"):
        check_share(ALONE, "sft", 3, "full")


def test_a_way_of_sharing_that_accelerate_was_told_is_refused_with_the_rest(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"ACCELERATE_USE_FSDP is set, .* runtime\.sharding"):
        check_share(ALONE, "sft", 1, "none")
