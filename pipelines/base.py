"""base: tokenizer, vision tower and base language model, which both training stages start from."""

from minivlm.stage import StageRun, stage_app


def run(stage: StageRun) -> None:
    """Write artifacts/base/ and reports/base/metrics.json."""
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

    params, paths = stage.params, stage.paths
    seed_everything(params.seed, params.threads)
    device = resolve_device(params.runtime.device)
    brought = find_parts(params.base, paths.root, place=params.runtime.hub, downloads=params.runtime.downloads)
    name = hardware.device_name(device)
    spent: dict[str, Spent] = {}
    shared = {
        "device": device,
        "validations": 1,
        "log_steps": 10,
        "price_per_hour": hardware.price_per_hour(name, params.prices),
        "currency": params.prices.currency,
        "on_log": lambda step, metrics: stage.tracker.log_metrics(metrics, step),
    }
    with measured_energy(device) as measured, atomic_directory(stage.artifacts) as folder:
        metrics = train_base(
            {split: AcceptedRows(paths.table(split), paths.accepted(split)) for split in TRAIN_SPLITS},
            folder,
            params.base,
            seed=params.seed,
            shared=shared,
            texts=[TextFile(paths.root / file.path, file.sha256, file.limit) for file in params.base.texts],
            brought=brought,
            on_spent=spent.__setitem__,
        )
    write_json(stage.reports / "metrics.json", metrics)
    stage.tracker.log_metrics({part: numbers(figures) for part, figures in metrics.items()})
    path = stage.reports / "cost.json"
    report_base(path, spent, measured, name, device, params.prices, stage.tracker)


def numbers(figures: dict[str, float | str]) -> dict[str, float]:
    """What a tracker can plot: without the name of a source."""
    return {name: value for name, value in figures.items() if not isinstance(value, str)}


app = stage_app("base", "Make the tokenizer, vision tower and language model, or bring those that exist.", run)

if __name__ == "__main__":
    app()
