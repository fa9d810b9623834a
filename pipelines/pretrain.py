"""pretrain: the first stage. Put LLaVA together from the base models and train its projector on captions."""

from collections.abc import Callable

from minivlm.stage import StageRun, stage_app


def run(stage: StageRun) -> Callable[[], None]:
    """Write artifacts/pretrain/ and reports/pretrain/; what is returned removes the saved states."""
    from minivlm.training.places import Machine, Places
    from minivlm.training.vision_language import train_vision_language

    params, runtime = stage.params, stage.params.runtime
    return train_vision_language(
        "pretrain",
        places=Places.of(stage.paths, "pretrain", None, runtime.feature_cache),
        machine=Machine(
            runtime.device, params.threads, stage.workers, params.prices, runtime.sharding, runtime.save_minutes
        ),
        tracker=stage.tracker,
        seed=params.seed,
        **params.pretrain.model_dump(),
    )


app = stage_app(
    "pretrain", "Train the projector between the frozen base models on captions.", run, launches=True, resumes=True
)

if __name__ == "__main__":
    app()
