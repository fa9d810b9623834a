"""base: tokenizer, vision tower and base language model, which both training stages start from."""

from collections.abc import Callable

from minivlm.stage import StageRun, stage_app


def run(stage: StageRun) -> Callable[[], None]:
    """Write artifacts/base/ and reports/base/metrics.json; what is returned removes the saved states."""
    from minivlm import hardware
    from minivlm.data.pairs import AcceptedRows
    from minivlm.data.texts import TextFile
    from minivlm.device import resolve_device
    from minivlm.files import atomic_directory, write_json
    from minivlm.paths import TRAIN_SPLITS
    from minivlm.training.base import train_base
    from minivlm.training.brought import find_parts
    from minivlm.training.cost_report import Spent, report_base
    from minivlm.training.device import seed_everything
    from minivlm.training.energy import measured_energy
    from minivlm.training.inputs import InputFiles
    from minivlm.training.keeping import Keep, StageClock
    from minivlm.training.logbook import take_up
    from minivlm.training.mishaps import memory_advice
    from minivlm.training.resume_key import resume_key
    from minivlm.training.states import remove_states

    params, paths = stage.params, stage.paths
    seed_everything(params.seed, params.threads)
    device = resolve_device(params.runtime.device)
    brought = find_parts(params.base, paths.root, place=params.runtime.hub, downloads=params.runtime.downloads)
    name = hardware.device_name(device)
    spent: dict[str, Spent] = {}
    follows_from = {"base": params.base.model_dump(mode="json"), "seed": params.seed, "threads": params.threads}
    texts = [TextFile(paths.root / file.path, file.sha256, file.limit) for file in params.base.texts]
    folders = [paths.artifacts("download"), paths.artifacts("validate")]
    inputs = InputFiles("base", [*folders, *(file.path for file in texts)])
    key = resume_key(follows_from | {"device": name}, folders)
    states = paths.state / "base"
    clock = StageClock(states / key / "seconds")
    take_up(states / key, stage.tracker, clock.earlier)
    shared = {
        "device": device,
        "validations": 1,
        "log_steps": 10,
        "price_per_hour": hardware.price_per_hour(name, params.prices),
        "currency": params.prices.currency,
        "on_log": lambda step, metrics, *time: stage.tracker.log_metrics(metrics, step, *time),
    }
    advice = "it takes fewer rows (download), smaller models (base), or a machine with more memory"
    with (
        measured_energy(device) as measured,
        atomic_directory(stage.artifacts) as folder,
        memory_advice("base", device, advice),
    ):
        metrics = train_base(
            {split: AcceptedRows(paths.table(split), paths.accepted(split)) for split in TRAIN_SPLITS},
            folder,
            params.base,
            seed=params.seed,
            shared=shared,
            texts=texts,
            brought=brought,
            on_spent=spent.__setitem__,
            keep=Keep(states / key, params.runtime.save_minutes, inputs, clock),
        )
        inputs.check()
    write_json(stage.reports / "metrics.json", metrics)
    stage.tracker.log_metrics({part: numbers(figures) for part, figures in metrics.items()})
    path = stage.reports / "cost.json"
    report_base(path, spent, measured, name, device, params.prices, stage.tracker, clock.earlier)
    return lambda: remove_states(states, key)


def numbers(figures: dict[str, float | str]) -> dict[str, float]:
    """What a tracker can plot: without the name of a source."""
    return {name: value for name, value in figures.items() if not isinstance(value, str)}


app = stage_app(
    "base", "Make the tokenizer, vision tower and language model, or bring those that exist.", run, resumes=True
)

if __name__ == "__main__":
    app()
