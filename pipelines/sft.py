"""sft: the second stage. Go on from the pretrain model and train projector and language model on conversations."""

from collections.abc import Callable

from minivlm.stage import StageRun, stage_app


def run(stage: StageRun) -> Callable[[], None]:
    """Write artifacts/sft/ and reports/sft/; what is returned removes the saved states."""
    from minivlm.training.places import Machine, Places
    from minivlm.training.vision_language import train_vision_language

    params, runtime = stage.params, stage.params.runtime
    return train_vision_language(
        "sft",
        places=Places.of(stage.paths, "sft", "pretrain", runtime.feature_cache),
        machine=Machine(
            runtime.device, params.threads, stage.workers, params.prices, runtime.sharding, runtime.save_minutes
        ),
        tracker=stage.tracker,
        seed=params.seed,
        **params.sft.model_dump(),
    )


app = stage_app(
    "sft",
    "Train the projector and the language model on descriptions and conversations.",
    run,
    launches=True,
    resumes=True,
)

if __name__ == "__main__":
    app()
