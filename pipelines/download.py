"""download: the rows that all else is made of, drawn, copied or fetched, into artifacts/download/."""

from typing import TYPE_CHECKING

from minivlm.stage import StageRun, stage_app

if TYPE_CHECKING:
    from minivlm.config.data import Hub, Local
    from minivlm.data.sources import RowSource


def run(stage: StageRun) -> None:
    """Fill artifacts/download/ from the source that the parameters name."""
    from minivlm.data.scenes.build import build_scenes
    from minivlm.data.sources import convert_rows

    section = stage.params.download
    if section.source == "scenes":
        scenes = section.scenes.model_dump()
        counts = build_scenes(stage.artifacts, seed=stage.params.seed, workers=stage.workers, **scenes)
    else:
        local = section.source == "local"
        sources = _local(section.local, stage) if local else _hub(section.hub, stage)
        limit = section.local.limit if local else section.hub.limit
        fraction = section.heldout_fraction
        counts = convert_rows(stage.artifacts, sources, limit=limit, heldout_fraction=fraction)
    stage.tracker.log_metrics(counts)


def _local(section: "Local", stage: StageRun) -> "dict[str, RowSource]":
    """Your files, compared with their hashes."""
    from minivlm.data.local_files import PinnedRows, local_sources
    from minivlm.data.sources import check_splits
    from minivlm.paths import SPLITS

    named = {split: getattr(section, split) for split in SPLITS}
    files = {split: PinnedRows(**file.model_dump()) for split, file in named.items() if file}
    check_splits(files, stage.params.download.heldout_fraction, "download.local")
    return local_sources(files, stage.paths.root)


def _hub(section: "Hub", stage: StageRun) -> "dict[str, RowSource]":
    """Files of data set repositories, fetched by their pins."""
    from minivlm.data.sources import RowSource, check_splits
    from minivlm.errors import UserError
    from minivlm.hub import Pin, fetch
    from minivlm.paths import SPLITS

    named = {split: file for split in SPLITS if (file := getattr(section, split))}
    check_splits(named, stage.params.download.heldout_fraction, "download.hub")
    pins = []
    for split, file in named.items():
        for path in filter(None, (file.rows, file.images)):
            if file.revision and path not in file.files:
                raise UserError(f"download.hub.{split}: {path} has no size and sha256; run: minivlm pin")
        files = {path: (pinned.size, pinned.sha256) for path, pinned in file.files.items()}
        pins.append(Pin(f"download.hub.{split}", file.repo, "dataset", file.revision, files, file.modelscope))
    folders = fetch(pins, place=stage.params.runtime.hub, downloads=stage.params.runtime.downloads)
    return {
        split: RowSource(folder / file.rows, folder / file.images if file.images else None, file.repo)
        for (split, file), folder in zip(named.items(), folders, strict=True)
    }


app = stage_app("download", "Draw the training and held-out rows, or take them from your files or a hub.", run)

if __name__ == "__main__":
    app()
