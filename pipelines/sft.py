"""sft: the second stage. Go on from the pretrain model and train projector and language model on conversations."""

from minivlm.stage import StageRun, stage_app


def run(stage: StageRun) -> None:
    """Write artifacts/sft/ and reports/sft/."""
    from minivlm.training.vision_language import Machine, Places, train_vision_language

    paths, runtime = stage.paths, stage.params.runtime
    train_vision_language(
        "sft",
        places=Places(
            base=paths.artifacts("base"),
            start=paths.model("pretrain"),
            tokens=paths.tokens("sft"),
            pictures=paths.tokens("pictures"),
            artifacts=stage.artifacts,
            reports=stage.reports,
            state=paths.state / "sft",
            features=paths.state / "features" if runtime.feature_cache else None,
        ),
        machine=Machine(
            runtime.device,
            stage.params.threads,
            stage.workers,
            stage.params.prices,
            runtime.sharding,
            runtime.save_minutes,
        ),
        tracker=stage.tracker,
        seed=stage.params.seed,
        **stage.params.sft.model_dump(),
    )


app = stage_app(
    "sft", "Train the projector and the language model on descriptions and conversations.", run, launches=True
)

if __name__ == "__main__":
    app()
