"""One stage of vision-language training, `pretrain` or `sft`: load, check, freeze, train, save, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm import hardware
from minivlm.config import FreezePolicy, Prices
from minivlm.device import resolve_device
from minivlm.errors import TrainingError
from minivlm.files import atomic_path, write_json
from minivlm.training.device import loader_workers, seed_everything
from minivlm.training.result import DivergedError

if TYPE_CHECKING:
    import torch

    from minivlm.tracking import Run


@dataclass(frozen=True)
class Places:
    """Where a stage reads and writes. `start`: the model it goes on from; None puts one together from `base`."""

    base: Path
    start: Path | None
    tokens: Path
    pictures: Path
    artifacts: Path
    reports: Path
    state: Path


@dataclass(frozen=True)
class Machine:
    """What it computes on: `device` as in params.yaml, CPU threads, processes for pictures, prices."""

    device: str
    threads: int
    workers: int
    prices: Prices


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
    **optimization: Any,
) -> None:
    """Train on the rows of a token store; `optimization` goes to `fit` as it is.

    Writes artifacts/model (the weights that validated best), artifacts/last.safetensors (the trained parameters
    after the last step) and reports/: metrics.json, loss.csv, trained_parameters.json, cost.json. UserError when
    the model loaded is not the one saved; TrainingError when the loss is not finite, with the best weights until
    then kept in `places.state`.
    """
    from minivlm.data.batches import Batches, plan_batches
    from minivlm.data.pictures import Preparation
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.model import checkpoint
    from minivlm.model.fingerprint import check_fingerprint
    from minivlm.model.llava import assemble
    from minivlm.model.vision_language import VisionLanguageLoss
    from minivlm.training import report
    from minivlm.training.cost_report import report_stage
    from minivlm.training.energy import measured_energy
    from minivlm.training.loop import fit, mean_loss
    from minivlm.training.operations import OperationCounter
    from minivlm.training.optimizer import freeze as freeze_parameters
    from minivlm.training.optimizer import restore_state
    from minivlm.training.steps import plan_steps, regroup

    seed_everything(seed, machine.threads)
    device = resolve_device(machine.device)
    store, pictures = TokenStore(places.tokens), PictureStore(places.pictures)
    model = checkpoint.load(places.start) if places.start else assemble(places.base, seed=seed)
    check_fingerprint(model, places.start or places.base)
    trained = freeze_parameters(model, freeze)
    preparation = Preparation.read(places.base / "vision_tower")
    objective = VisionLanguageLoss(model, *checkpoint.normalization(places.base))

    def batches(plan: Any) -> Batches:
        return Batches(
            plan,
            store,
            pictures,
            preparation=preparation,
            image_token_id=model.config.image_token_id,
            batch_tokens=batch_tokens,
            workers=loader_workers(machine.workers, machine.threads, device, sum(map(len, plan))),
            pin_memory=device.startswith("cuda"),
        )

    rows, kept = store.training_rows(), store.validation_rows()
    steps = plan_steps(
        rows, store.lengths[rows], batch_tokens=batch_tokens, accumulation=accumulation, epochs=epochs, seed=seed
    )
    validation = batches([kept[batch] for batch in plan_batches(store.lengths[kept], batch_tokens, seed, 0)])
    counter = OperationCounter(model.config, freeze)
    name = hardware.device_name(device)
    print(
        f"{stage}: trains {sum(trained.values()):,} of {sum(p.numel() for p in model.parameters()):,} weights "
        f"(freeze: {freeze}) in {len(steps):,} steps over {len(rows):,} rows, on {name}",
        flush=True,
    )
    report.write_trained_parameters(places.reports / "trained_parameters.json", freeze, trained)
    tracker.log_artifact(places.reports / "trained_parameters.json", stage)
    try:
        with measured_energy(device) as measured:
            result = fit(
                objective,
                counter.watch(regroup(batches(steps.batches), steps)),
                total_steps=len(steps),
                device=device,
                validate=(lambda: mean_loss(objective, counter.watch_validation(validation)))
                if len(kept)
                else None,
                on_log=lambda step, metrics: tracker.log_metrics(metrics, step),
                label=stage,
                price_per_hour=hardware.price_per_hour(name, machine.prices),
                currency=machine.prices.currency,
                **optimization,
            )
    except DivergedError as error:
        raise _kept(error, places.state) from None
    save_state(places.artifacts / "last.safetensors", result.last_state)
    objective.to("cpu")
    restore_state(objective, result.best_state)
    checkpoint.save(model, places.base, places.artifacts / "model", seed=seed, data=pictures.sources)
    figures = report.figures(result, trained)
    write_json(places.reports / "metrics.json", figures)
    report.write_history(places.reports / "loss.csv", result)
    tracker.log_metrics(figures)
    path = places.reports / "cost.json"
    report_stage(stage, path, counter.note(result), name, machine.prices, measured.energy, tracker)


def save_state(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Trained parameters as a safetensors file, under the names they have in the LLaVA model."""
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file({name.removeprefix("model."): tensor for name, tensor in state.items()}, temporary)


def _kept(error: DivergedError, state: Path) -> TrainingError:
    """The error as the user sees it, after saving what was best before it."""
    if not error.best_state:
        return error
    path = state / "best.safetensors"
    save_state(path, error.best_state)
    return TrainingError(f"{error}; the weights that validated best, after step {error.best_step}, are in {path}")
