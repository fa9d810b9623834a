"""Accepted rows → memory-mapped tokens, loss masks and pictures; length statistics; samples that show the mask."""

from minivlm.stage import StageRun, stage_app


def tokenize(stage: StageRun) -> None:
    """Encode every split that is there; rows that cannot be used are listed, too many of them fail the stage."""
    from minivlm.data.encoding import ChatEncoder, image_token_count
    from minivlm.data.store import TokenStore
    from minivlm.data.token_report import lengths_csv, samples_markdown, split_metrics
    from minivlm.data.tokenization import Source, write_stores
    from minivlm.files import atomic_directory, write_json, write_text
    from minivlm.paths import SPLITS

    section, paths = stage.params.tokenize, stage.paths
    optional = paths.table("compositional")
    sources = {
        split: Source(paths.table(split), paths.accepted(split))
        for split in SPLITS
        if split != "compositional" or optional.exists()
    }
    encoder = ChatEncoder(paths.base_part("tokenizer"))
    with atomic_directory(stage.artifacts) as folder:
        counts = write_stores(
            sources,
            folder,
            encoder=encoder,
            image_tokens=image_token_count(paths.base_part("vision_tower")),
            max_length=section.max_length,
            validation_fraction=section.validation_fraction,
            max_bad_fraction=section.max_bad_fraction,
            listing=stage.reports / "rejected.json",
        )

    stores = {split: TokenStore(paths.tokens(split)) for split in sources}
    metrics = {split: split_metrics(store, counts[split]) for split, store in stores.items()}
    write_json(stage.reports / "metrics.json", metrics)
    write_text(stage.reports / "lengths.csv", lengths_csv(stores))
    write_text(stage.reports / "samples.md", samples_markdown(stores, encoder))
    stage.tracker.log_metrics(metrics)
    for name in ("samples.md", "rejected.json"):
        stage.tracker.log_artifact(stage.reports / name, "tokenize")


app = stage_app("tokenize", __doc__ or "", tokenize)

if __name__ == "__main__":
    app()
