"""A micro-batch computes without asking the device for a number, which would have the CPU wait for it."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.training.optimizer import freeze
from tests.unit.model.tiny import MEAN, SIZE, STD, Batch, collate, rows, write_base

# Each of these makes a number or a shape out of what the device holds; the last one a tensor out of a number.
WAITING = {"nonzero", "masked_select", "masked_scatter_backward", "_local_scalar_dense", "unique", "lift_fresh"}
PREPARATION = (SIZE, SIZE, 3)


class Seen(TorchDispatchMode):
    """Names of the operations that are computed."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return assemble(write_base(tmp_path_factory.mktemp("waiting") / "base"), seed=1)


def batch_of(some, device="cpu"):
    """A batch whose places are found beforehand, and whose pictures are half the tower's size."""
    made = collate(some).to(device)
    places = made.image_places
    small = made.pixels[..., ::2, ::2].contiguous()

    class Ready(Batch):
        image_places = places

    values = vars(made) | {"pixels": small}
    return Ready(**values)


@pytest.mark.parametrize("policy", ["projector", "llm"])
@pytest.mark.parametrize("pictures", [True, False])
def test_no_operation_of_a_micro_batch_makes_a_number_of_what_the_device_holds(model, policy, pictures):
    freeze(model, policy)
    objective = VisionLanguageLoss(model, MEAN, STD, PREPARATION).train()
    batch = batch_of([row for row in rows(9, seed=3) if bool(row.pictures) is pictures])
    objective(batch)  # the resize keeps its weights from the first time on
    with Seen() as seen:
        objective(batch).backward()
    assert "mm" in seen.names and not seen.names & WAITING


@pytest.mark.gpu
@pytest.mark.parametrize("policy", ["projector", "llm"])
def test_a_micro_batch_on_a_gpu_never_waits(model, policy):
    freeze(model, policy)
    objective = VisionLanguageLoss(model, MEAN, STD, PREPARATION).train().cuda()
    batch = batch_of(rows(9, seed=3), "cuda")

    @contextlib.contextmanager
    def checked(mode):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    try:
        for mode in ("default", "error"):  # the first time kernels are loaded and the resize's weights are made
            with checked(mode), torch.autocast("cuda", torch.bfloat16):
                objective(batch).backward()
    finally:
        model.cpu()
