"""download: the rows that all else is made of, drawn or copied from your own files, into artifacts/download/."""

from minivlm.stage import StageRun, stage_app


def run(stage: StageRun) -> None:
    """Fill artifacts/download/ from the source that the parameters name."""
    from minivlm.data.sources import PinnedFile, fetch_rows
    from minivlm.paths import SPLITS

    section = stage.params.download
    pinned = {split: getattr(section.local, split) for split in SPLITS}
    counts = fetch_rows(
        stage.artifacts,
        source=section.source,
        scenes=section.scenes.model_dump(),
        local={split: PinnedFile(file.path, file.sha256) for split, file in pinned.items() if file},
        limit=section.local.limit,
        seed=stage.params.seed,
        root=stage.paths.root,
        workers=stage.workers,
    )
    stage.tracker.log_metrics(counts)


app = stage_app("download", "Draw the training and held-out rows, or copy them from your Parquet files.", run)

if __name__ == "__main__":
    app()
