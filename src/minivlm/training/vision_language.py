"""One stage of vision-language training, `pretrain` or `sft`: load, check, freeze, train, save, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from minivlm import hardware
from minivlm.config.section import TRAINED
from minivlm.device import resolve_precision
from minivlm.files import write_json
from minivlm.training import report
from minivlm.training.cost_report import report_stage
from minivlm.training.device import seed_everything
from minivlm.training.distributed import Processes, check_share, find_processes, join, leave, own_device
from minivlm.training.energy import measured_energy
from minivlm.training.feed import Feed, loader
from minivlm.training.inputs import InputFiles
from minivlm.training.logbook import Logbook, nobody, sync_points, take_up
from minivlm.training.mishaps import kept_when_diverged, memory_advice, row_ids, smaller_batches
from minivlm.training.places import Machine, Places
from minivlm.training.result import FitResult
from minivlm.training.resume import Counted, save_weights
from minivlm.training.resume_key import resume_key
from minivlm.training.states import StateFolder, remove_states
from minivlm.training.stopping import StopSignals, never

if TYPE_CHECKING:
    from minivlm.config import FreezePolicy
    from minivlm.data.features import FeatureStore
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.model.vision_language import VisionLanguageLoss
    from minivlm.tracking import Run
    from minivlm.training.feature_cache import Filled
    from minivlm.training.resume import TrainingState


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
) -> Callable[[], None]:
    """Train on the rows of a token store; `optimization` goes to `fit` as it is.

    Writes artifacts/model (the weights that validated best), artifacts/last.safetensors (the trained parameters
    after the last step) and reports/: metrics.json, loss.csv, trained_parameters.json, cost.json. UserError when
    the model loaded is not the one saved, or an input changes meanwhile; TrainingError when memory does not
    suffice, or the loss is not finite, with the best weights until then kept in `places.state`; StoppedError after
    SIGTERM or Ctrl-C, when the state has been saved.

    Started by torchrun it is one of several processes, of which the first alone writes. A training that was
    stopped goes on from the state in `places.state` that belongs to the same inputs, parameters and code. What is
    returned removes that state, and those that earlier trainings left: until the run is over it is needed.
    """
    from minivlm.data.batches import loader_advice
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.model.frozen import frozen_in
    from minivlm.model.layers import compile_layers, decoder_layers
    from minivlm.training.loop import fit
    from minivlm.training.mean_loss import mean_loss
    from minivlm.training.operations import OperationCounter

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
    inputs = InputFiles(stage, places.inputs)
    key = processes.from_main(lambda: resume_key(parameters, places.inputs))
    states = StateFolder(places.state / key)
    resume = processes.from_main(states.newest)
    before = resume.result if resume else FitResult()
    tell: Callable[[int, dict[str, float]], None] = nobody
    if processes.is_main:
        take_up(states.path, tracker, before.seconds)
        tell = Logbook(states.path, tracker.log_metrics)

    store, pictures = TokenStore(places.tokens), PictureStore(places.pictures)
    store.check_tokenizer(places.base / "tokenizer")
    feed = Feed(store, processes, **plan)  # first: a row that does not fit is refused before hours are spent
    longest = int(store.meta.get("max_length", store.lengths.max()))
    objective, trained = _objective(places, freeze, seed)
    model = objective.model
    if compile:
        compile_layers(model)
    # Before anything goes to a GPU: the weights that it replaces then stay on this side.
    # FSDP wants all weights of one kind.
    with (
        frozen_in(model, precision if machine.sharding == "none" else "fp32"),
        memory_advice(stage, device, smaller_batches(stage, batch_tokens, accumulation, longest)),
        loader_advice(),
    ):
        features, filled = _features(places, machine, store, pictures, objective, precision, device, processes)
        load = loader(
            store, pictures, places.base / "vision_tower", processes, image_token_id=model.config.image_token_id,
            batch_tokens=batch_tokens, device=device, threads=machine.threads, workers=machine.workers,
            features=features,
        )  # fmt: skip
        feed.read_with(load)
        counter = OperationCounter(model.config, freeze)
        counted = Counted(counter, processes, before)
        devices = processes.size if device.startswith("cuda") else processes.size // processes.local_size
        if processes.is_main:
            weights = sum(p.numel() for p in model.parameters())
            print(
                f"{stage}: trains {sum(trained.values()):,} of {weights:,} weights ({TRAINED[freeze]}) in "
                f"{len(feed.steps):,} steps over {len(feed.rows):,} rows, on {name}"
                + (f", {processes.size} processes" if processes.size > 1 else "")
                + (f"; goes on after step {before.steps:,}, from {states.path}" if before.steps else ""),
                flush=True,
            )
            report.write_trained_parameters(places.reports / "trained_parameters.json", freeze, trained)
            tracker.log_artifact(places.reports / "trained_parameters.json", stage)

        rows_of = partial(row_ids, feed.steps, store, stage)
        signals = None if machine.save_minutes is None else StopSignals()
        stop = signals or never

        def validate() -> float:
            return mean_loss(objective, counter.watch_validation(feed.validation()), processes, stop)

        def save(state: TrainingState) -> None:
            counted(state.result)
            with processes.together():
                if processes.is_main:
                    inputs.check()
                    sync_points(states.path)
                    states.save(state)

        with (
            kept_when_diverged(places.state, rows_of, is_main=processes.is_main),
            signals or nullcontext(),
            measured_energy(device) as measured,
        ):
            result = fit(
                objective,
                counter.watch(feed.after(before.steps)),
                total_steps=len(feed.steps),
                device=device,
                validate=validate if feed.validates else None,
                on_log=tell,
                label=stage,
                price_per_hour=hardware.price_per_hour(name, machine.prices),
                devices=devices,
                currency=machine.prices.currency,
                processes=processes,
                sharded=decoder_layers(model) if machine.sharding == "full" else None,
                resume=resume,
                save_every=None if machine.save_minutes is None else 60 * machine.save_minutes,
                on_save=save,
                stop=stop,
                **optimization,
            )
        if stop():  # too late for the training to see
            raise KeyboardInterrupt
    counted(result)
    leave(processes)
    if not processes.is_main:
        return lambda: None
    inputs.check()
    if machine.sharding == "full":
        objective, _ = _objective(places, freeze, seed)  # of the one trained this process has only a part
    _write_results(places, tracker, objective, result, trained, seed, pictures.sources)
    path, energy = places.reports / "cost.json", measured.energy
    report_stage(stage, path, result, name, machine.prices, energy, tracker, devices, filled)
    return lambda: remove_states(places.state, key)


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
    advice = "set runtime.feature_cache to false: each step then computes those of its own pictures"
    advised = memory_advice("features of the pictures", device, advice)
    with processes.together():  # one that does not see the folder fails when it opens what the first one made
        completed = processes.from_main(
            advised(
                lambda: open_features(
                    folder, places.base / "vision_tower", store, pictures, objective,
                    precision=precision, device=device, workers=machine.workers,
                )
            )
        )  # fmt: skip
    return completed


def _objective(places: Places, freeze: FreezePolicy, seed: int) -> tuple[VisionLanguageLoss, dict[str, int]]:
    """The model that the stage starts from, checked, as an objective; name and size of what it trains."""
    from minivlm.data.pictures import Preparation
    from minivlm.model import checkpoint
    from minivlm.model.fingerprint import check_files, check_fingerprint
    from minivlm.model.llava import assemble
    from minivlm.model.vision_language import VisionLanguageLoss
    from minivlm.training.optimizer import freeze as freeze_parameters

    check_files(places.start or places.base)
    model = checkpoint.load(places.start) if places.start else assemble(places.base, seed=seed)
    check_fingerprint(model, places.start or places.base)
    trained = freeze_parameters(model, freeze)
    preparation = Preparation.read(places.base / "vision_tower")
    return VisionLanguageLoss(model, *checkpoint.normalization(places.base), preparation), trained
