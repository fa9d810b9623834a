"""The state that a stopped training goes on from: one safetensors file, the same for any number of processes.

Tensors are named `parameters:<name>`, `best:<name>`, `optimizer:<state>:<name>` and `random:<device>`; everything
else is JSON in the file's metadata. Numbers keep all their bits: alone on the same machine, a resumed training
writes the bytes of one that was never stopped.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import atomic_path
from minivlm.training.result import FitResult, HistoryRow, LossWindow

if TYPE_CHECKING:
    import torch
    from torch import nn

    from minivlm.training.distributed import Processes
    from minivlm.training.operations import OperationCounter

FORMAT = 1
_ELSEWHERE = ("best_state", "last_state", "history", "train_loss")  # of a result: not saved as they are


@dataclass
class TrainingState:
    """All that the steps after `result.steps` depend on; tensors whole and on the CPU.

    `result.last_state`: the trained parameters now; `optimizer`: by name of the state and of the parameter.
    """

    result: FitResult
    window: LossWindow
    optimizer: dict[str, torch.Tensor]
    random: dict[str, Any]


def take_state(objective: nn.Module, optimizer: Any, result: FitResult, window: LossWindow) -> TrainingState:
    """The state as it is now. Of a sharded training all processes have to ask for it."""
    return TrainingState(
        result=replace(result, last_state=trained_state(objective), history=list(result.history)),
        window=window,
        optimizer=_optimizer_state(objective, optimizer),
        random=_random_state(objective),
    )


def put_back(state: TrainingState, objective: nn.Module, optimizer: Any) -> None:
    """Give parameters, optimizer and random generators what `state` holds.

    UserError when it was saved of other parameters than are trained.
    """
    import torch

    from minivlm.training.distributed_model import part_of
    from minivlm.training.optimizer import trained_parameters

    parameters = trained_parameters(objective)
    if parameters.keys() != state.result.last_state.keys():
        raise UserError("the saved state is one of other parameters; remove it to train from the start")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(part_of(state.result.last_state[name], parameter))
    names = {id(parameter): name for name, parameter in parameters.items()}
    for each in _parts(optimizer):
        packed = each.state_dict()
        ordered = [parameter for group in each.param_groups for parameter in group["params"]]
        packed["state"] = {
            number: {
                key.split(":")[0]: part_of(value, parameter) if value.shape == parameter.shape else value
                for key, value in state.optimizer.items()
                if key.partition(":")[2] == names[id(parameter)]
            }
            for number, parameter in enumerate(ordered)
        }
        each.load_state_dict(packed)
    _restore_random(state.random, objective)


def trained_state(objective: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the trained parameters, whole and on the CPU, by name; all processes have to ask for it."""
    from minivlm.training.distributed_model import whole
    from minivlm.training.optimizer import trained_parameters

    return {name: whole(p.detach()).to("cpu", copy=True) for name, p in trained_parameters(objective).items()}


def write_state(path: Path, state: TrainingState) -> None:
    """Write the state to `path` as it stands; whole or not at all: see `states`."""
    from safetensors.torch import save_file

    result = state.result
    tensors = {
        **{f"parameters:{name}": tensor for name, tensor in result.last_state.items()},
        **{f"best:{name}": tensor for name, tensor in result.best_state.items()},
        **{f"optimizer:{key}": tensor for key, tensor in state.optimizer.items()},
        **{f"random:{key}": value for key, value in state.random.items() if hasattr(value, "numpy")},
    }
    counted = {key: value for key, value in vars(result).items() if key not in _ELSEWHERE}
    facts = {
        "format": FORMAT,
        "result": counted | {"history": [asdict(row) for row in result.history]},
        "window": state.window.state(),
        "random": {key: value for key, value in state.random.items() if not hasattr(value, "numpy")},
    }
    save_file(_own(tensors), path, {"state": json.dumps(facts, allow_nan=False)})


def save_weights(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Trained parameters as a safetensors file, under the names they have in the LLaVA model."""
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file({name.removeprefix("model."): tensor for name, tensor in state.items()}, temporary)


class Counted:
    """Writes the operations of all processes into a result, with those from before it was resumed."""

    def __init__(self, counter: OperationCounter, processes: Processes, before: FitResult) -> None:
        self._counter, self.processes = counter, processes
        self._before = before.flops, before.validation_flops  # the result goes on counting from here

    def __call__(self, result: FitResult) -> None:
        now = self.processes.sum(self._counter.flops, self._counter.validation_flops)
        result.flops, result.validation_flops = (
            earlier + int(number) for earlier, number in zip(self._before, now, strict=True)
        )


def read_state(path: Path) -> TrainingState:
    """The state that `write_state` wrote; UserError for another file."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, dict[str, torch.Tensor]] = {"parameters": {}, "best": {}, "optimizer": {}, "random": {}}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["state"])
            for key in file.keys():  # noqa: SIM118  (no mapping)
                kind, _, name = key.partition(":")
                tensors[kind][name] = file.get_tensor(key)
        if facts["format"] != FORMAT:
            raise UserError(f"{path}: a state of format {facts['format']}; remove it to train from the start")
        history = [HistoryRow(**row) for row in facts["result"].pop("history")]
        result = FitResult(
            **facts["result"], history=history, last_state=tensors["parameters"], best_state=tensors["best"]
        )
        window = LossWindow.of_state(facts["window"])
        random_state = {**facts["random"], **tensors["random"]}
        return TrainingState(result, window, tensors["optimizer"], random_state)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: a damaged state ({reason}); remove it to train from the start") from None


def _own(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, each in memory of its own: one that two names share is written for each of them."""
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if place in seen else tensor.contiguous()
        seen.add(place)
    return own


def _parts(optimizer: Any) -> list[Any]:
    """The torch optimizers in what the loop has: Accelerate wraps one, MuonWithAdamW holds two."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return list(getattr(inner, "parts", [inner]))


def _optimizer_state(objective: nn.Module, optimizer: Any) -> dict[str, torch.Tensor]:
    from minivlm.training.distributed_model import whole
    from minivlm.training.optimizer import trained_parameters

    return {
        f"{key}:{name}": whole(value).to("cpu", copy=True)
        for part in _parts(optimizer)
        for name, parameter in trained_parameters(objective).items()
        for key, value in part.state.get(parameter, {}).items()
    }


def _random_state(objective: nn.Module) -> dict[str, Any]:
    """Python's, NumPy's and torch's generators, the last on the CPU and on the device."""
    import numpy as np
    import torch

    version, numbers, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    states: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "cpu": torch.get_rng_state(),
    }
    device = next(objective.parameters()).device
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _restore_random(states: dict[str, Any], objective: nn.Module) -> None:
    import numpy as np
    import torch

    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["cpu"])
    device = next(objective.parameters()).device
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
