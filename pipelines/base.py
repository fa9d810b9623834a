"""base: tokenizer, vision tower and base language model, which both training stages start from."""

from minivlm.stage import StageRun, stage_app


def run(stage: StageRun) -> None:
    """Write artifacts/base/ and reports/base/metrics.json."""
    from minivlm import hardware
    from minivlm.data.pairs import rows_of
    from minivlm.files import atomic_directory, write_json
    from minivlm.paths import TRAIN_SPLITS
    from minivlm.training.base import train_base
    from minivlm.training.device import resolve_device, seed_everything

    params, paths = stage.params, stage.paths
    seed_everything(params.seed, params.threads)
    device = resolve_device(params.runtime.device)
    rows = {split: list(rows_of([(paths.table(split), paths.accepted(split))])) for split in TRAIN_SPLITS}
    shared = {
        "device": device,
        "validations": 1,
        "log_steps": 10,
        "price_per_hour": hardware.price_per_hour(hardware.device_name(device), params.prices),
        "currency": params.prices.currency,
        "on_log": lambda step, metrics: stage.tracker.log_metrics(metrics, step),
    }
    with atomic_directory(stage.artifacts) as folder:
        metrics = train_base(rows, folder, params.base, seed=params.seed, shared=shared)
    write_json(stage.reports / "metrics.json", metrics)
    stage.tracker.log_metrics(metrics)


app = stage_app("base", "Train a tokenizer, a small CLIP and a small Llama on the training rows.", run)

if __name__ == "__main__":
    app()
