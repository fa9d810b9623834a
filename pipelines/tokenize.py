"""Accepted rows → memory-mapped tokens, loss masks and pictures; length statistics; samples that show the mask."""

if __name__ == "tokenize":  # of `python pipelines/sft.py`: there it hides the standard library's module
    raise SystemExit("error: start a stage as a module, in the project's folder: python -m pipelines.<stage>")

from minivlm.stage import StageRun, stage_app


def tokenize(stage: StageRun) -> None:
    """Encode every split that is there; rows that cannot be used are listed, too many of them fail the stage.

    What is written is read back and held against its contract; nothing that breaks it stays.
    """
    from minivlm.data.encoding import ChatEncoder, image_token_count
    from minivlm.data.store import TokenStore
    from minivlm.data.token_report import lengths_csv, samples_markdown, split_metrics
    from minivlm.data.tokenization import Source, store_meta, write_stores
    from minivlm.data.validation.store_gate import gate_stores
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
    image_tokens = image_token_count(paths.base_part("vision_tower"))
    with atomic_directory(stage.artifacts) as folder:
        counts = write_stores(
            sources,
            folder,
            encoder=encoder,
            image_tokens=image_tokens,
            max_length=section.max_length,
            validation_fraction=section.validation_fraction,
            max_bad_fraction=section.max_bad_fraction,
            listing=stage.reports / "rejected.json",
        )
        gate_stores(
            folder,
            {split: (source.accepted, counts[split].rejected_rows) for split, source in sources.items()},
            store_meta(encoder, image_tokens, section.max_length),
            validation_fraction=section.validation_fraction,
            reports=stage.reports,
        )

    stores = {split: TokenStore(paths.tokens(split)) for split in sources}
    metrics = {split: split_metrics(store, counts[split]) for split, store in stores.items()}
    write_json(stage.reports / "metrics.json", metrics)
    write_text(stage.reports / "lengths.csv", lengths_csv(stores))
    write_text(stage.reports / "samples.md", samples_markdown(stores, encoder))
    stage.tracker.log_metrics(metrics)
    for name in ("samples.md", "rejected.json", *(f"{split}.json" for split in SPLITS)):
        stage.tracker.log_artifact(stage.reports / name, "tokenize")


app = stage_app("tokenize", __doc__ or "", tokenize)

if __name__ == "__main__":
    app()
