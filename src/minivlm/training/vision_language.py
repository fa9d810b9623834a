"""One stage of vision-language training, `pretrain` or `sft`: load, check, freeze, train, save, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm import hardware
from minivlm.device import resolve_precision
from minivlm.errors import TrainingError
from minivlm.files import atomic_path, write_json
from minivlm.training import report
from minivlm.training.cost_report import report_stage
from minivlm.training.device import seed_everything
from minivlm.training.distributed import Processes, check_share, find_processes, join, leave, own_device
from minivlm.training.energy import measured_energy
from minivlm.training.feed import Feed, loader
from minivlm.training.places import Machine, Places
from minivlm.training.result import DivergedError, FitResult
from minivlm.training.resume import Counted, load_state, remove_states, save_counted
from minivlm.training.resume_key import resume_key

if TYPE_CHECKING:
    import torch

    from minivlm.config import FreezePolicy
    from minivlm.data.features import FeatureStore
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.model.vision_language import VisionLanguageLoss
    from minivlm.tracking import Run
    from minivlm.training.feature_cache import Filled


def train_vision_language(
    stage: str,
    *,
    places: Places,
    machine: Machine,
    tracker: Run,
    seed: int,
    freeze: FreezePolicy,
    epochs: float,
    batch_tokens: int,
    accumulation: int,
    compile: bool,
    **optimization: Any,
) -> None:
    """Train on the rows of a token store; `optimization` goes to `fit` as it is.

    Writes artifacts/model (the weights that validated best), artifacts/last.safetensors (the trained parameters
    after the last step) and reports/: metrics.json, loss.csv, trained_parameters.json, cost.json. UserError when
    the model loaded is not the one saved; TrainingError when the loss is not finite, with the best weights until
    then kept in `places.state`.

    Started by torchrun it is one of several processes, of which the first alone writes. A training that was
    stopped goes on from the state in `places.state` that belongs to the same inputs, parameters and code; one that
    ends removes it, and what earlier ones left there.
    """
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.model.layers import compile_layers, decoder_layers
    from minivlm.training.loop import fit, mean_loss
    from minivlm.training.operations import OperationCounter

    started = time.time()
    seed_everything(seed, machine.threads)
    processes = find_processes()
    check_share(processes, stage, accumulation, machine.sharding)
    device = own_device(machine.device, processes)
    join(processes, device)
    plan: dict[str, Any] = dict(batch_tokens=batch_tokens, accumulation=accumulation, epochs=epochs, seed=seed)
    parameters = plan | {"threads": machine.threads, "freeze": freeze, "compile": compile, **optimization}
    parameters["features"] = places.features is not None
    # Both decide bits, and what the time costs: on another device a training begins anew.
    precision = resolve_precision(optimization["precision"], device)
    name = hardware.device_name(device)
    parameters |= {"resolved_precision": precision, "device": name}
    key = processes.from_main(lambda: resume_key(parameters, places.inputs))
    file = places.state / key / "state.safetensors"
    resume = processes.from_main(lambda: load_state(file))

    store, pictures = TokenStore(places.tokens), PictureStore(places.pictures)
    objective, trained = _objective(places, freeze, seed)
    model = objective.model
    if compile:
        compile_layers(model)
    # Before anything goes to a GPU: the weights that it replaces then stay on this side.
    with _low_precision(model, precision, machine.sharding):
        features, filled = _features(places, machine, store, pictures, objective, precision, device, processes)
        load = loader(
            store, pictures, places.base / "vision_tower", processes, image_token_id=model.config.image_token_id,
            batch_tokens=batch_tokens, device=device, threads=machine.threads, workers=machine.workers,
            features=features,
        )  # fmt: skip
        feed = Feed(store, load, processes, **plan)
        counter = OperationCounter(model.config, freeze)
        counted = Counted(counter, processes, resume.result if resume else FitResult())

        devices = processes.size if device.startswith("cuda") else processes.size // processes.local_size
        price = hardware.price_per_hour(name, machine.prices)
        done = resume.result.steps if resume else 0
        if processes.is_main:
            weights = sum(p.numel() for p in model.parameters())
            print(
                f"{stage}: trains {sum(trained.values()):,} of {weights:,} weights (freeze: {freeze}) in "
                f"{len(feed.steps):,} steps over {len(feed.rows):,} rows, on {name}"
                + (f", {processes.size} processes" if processes.size > 1 else "")
                + (f"; goes on after step {done:,}, from {file}" if done else ""),
                flush=True,
            )
            report.write_trained_parameters(places.reports / "trained_parameters.json", freeze, trained)
            tracker.log_artifact(places.reports / "trained_parameters.json", stage)
            for row in resume.result.history if resume else ():
                tracker.log_metrics(row.curve(), row.step)

        def validate() -> float:
            return mean_loss(objective, counter.watch_validation(feed.validation()), processes)

        try:
            with measured_energy(device) as measured:
                result = fit(
                    objective,
                    counter.watch(feed.after(done)),
                    total_steps=len(feed.steps),
                    device=device,
                    validate=validate if feed.validates else None,
                    on_log=lambda step, metrics: tracker.log_metrics(metrics, step),
                    label=stage,
                    price_per_hour=price,
                    devices=devices,
                    currency=machine.prices.currency,
                    processes=processes,
                    sharded=decoder_layers(model) if machine.sharding == "full" else None,
                    resume=resume,
                    save_every=None if machine.save_minutes is None else 60 * machine.save_minutes,
                    on_save=lambda state: save_counted(file, state, counted),
                    **optimization,
                )
        except DivergedError as error:
            raise (_kept(error, places.state) if processes.is_main else error) from None
    counted(result)
    leave(processes)
    if not processes.is_main:
        return
    if machine.sharding == "full":
        objective, _ = _objective(places, freeze, seed)  # of the one trained this process has only a part
    _write_results(places, tracker, objective, result, trained, seed, pictures.sources)
    path, energy = places.reports / "cost.json", measured.energy
    report_stage(stage, path, result, name, machine.prices, energy, tracker, devices, filled)
    remove_states(places.state, key, started)


def _write_results(
    places: Places,
    tracker: Run,
    objective: VisionLanguageLoss,
    result: FitResult,
    trained: dict[str, int],
    seed: int,
    sources: Sequence[str],
) -> None:
    """Models and reports, as `train_vision_language` describes them; `objective` is left with the best weights."""
    from minivlm.model import checkpoint
    from minivlm.training.optimizer import restore_state

    save_weights(places.artifacts / "last.safetensors", result.last_state)
    objective.to("cpu")
    restore_state(objective, result.best_state)
    checkpoint.save(objective.model, places.base, places.artifacts / "model", seed=seed, data=sources)
    figures = report.figures(result, trained)
    write_json(places.reports / "metrics.json", figures)
    report.write_history(places.reports / "loss.csv", result)
    tracker.log_metrics(figures)


def _features(
    places: Places,
    machine: Machine,
    store: TokenStore,
    pictures: PictureStore,
    objective: VisionLanguageLoss,
    precision: str,
    device: str,
    processes: Processes,
) -> tuple[FeatureStore | None, Filled | None]:
    """The tower's features of the stage's pictures, where they are kept, and what completing them took."""
    from minivlm.training.feature_cache import open_features

    folder = places.features
    if folder is None:
        return None, None
    objective.to(device)
    with processes.together():  # one that does not see the folder fails when it opens what the first one made
        completed = processes.from_main(
            lambda: open_features(
                folder, places.base / "vision_tower", store, pictures, objective,
                precision=precision, device=device, workers=machine.workers,
            )
        )  # fmt: skip
    return completed


def _objective(places: Places, freeze: FreezePolicy, seed: int) -> tuple[VisionLanguageLoss, dict[str, int]]:
    """The model that the stage starts from, checked, as an objective; name and size of what it trains."""
    from minivlm.data.pictures import Preparation
    from minivlm.model import checkpoint
    from minivlm.model.fingerprint import check_fingerprint
    from minivlm.model.llava import assemble
    from minivlm.model.vision_language import VisionLanguageLoss
    from minivlm.training.optimizer import freeze as freeze_parameters

    model = checkpoint.load(places.start) if places.start else assemble(places.base, seed=seed)
    check_fingerprint(model, places.start or places.base)
    trained = freeze_parameters(model, freeze)
    preparation = Preparation.read(places.base / "vision_tower")
    return VisionLanguageLoss(model, *checkpoint.normalization(places.base), preparation), trained


def _low_precision(model: Any, precision: str, sharding: str) -> AbstractContextManager[None]:
    """Frozen weights in the precision that they are multiplied in; FSDP wants all of one kind."""
    import torch

    from minivlm.model.frozen import frozen_in

    return frozen_in(model, torch.bfloat16) if precision == "bf16" and sharding == "none" else nullcontext()


def save_weights(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Trained parameters as a safetensors file, under the names they have in the LLaVA model."""
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file({name.removeprefix("model."): tensor for name, tensor in state.items()}, temporary)


def _kept(error: DivergedError, state: Path) -> TrainingError:
    """The error as the user sees it, after saving what was best before it."""
    if not error.best_state:
        return error
    path = state / "best.safetensors"
    save_weights(path, error.best_state)
    return TrainingError(f"{error}; the weights that validated best, after step {error.best_step}, are in {path}")
