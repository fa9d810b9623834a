"""pretrain: the first stage. Put LLaVA together from the base models and train its projector on captions."""

from minivlm.stage import StageRun, stage_app


def run(stage: StageRun) -> None:
    """Write artifacts/pretrain/ and reports/pretrain/."""
    from minivlm.training.vision_language import Machine, Places, train_vision_language

    paths, runtime = stage.paths, stage.params.runtime
    train_vision_language(
        "pretrain",
        places=Places(
            base=paths.artifacts("base"),
            start=None,
            tokens=paths.tokens("pretrain"),
            pictures=paths.tokens("pictures"),
            artifacts=stage.artifacts,
            reports=stage.reports,
            state=paths.state / "pretrain",
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
        **stage.params.pretrain.model_dump(),
    )


app = stage_app("pretrain", "Train the projector between the frozen base models on captions.", run, launches=True)

if __name__ == "__main__":
    app()
