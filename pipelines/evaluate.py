"""evaluate: caption and score with both stages' models; the table, the figures, the page that shows them."""

import importlib

from minivlm.stage import StageRun, stage_app


def run(stage: StageRun) -> None:
    """Write artifacts/evaluate/, reports/evaluate/ (minivlm.evaluation.outputs.FILES), and the page of it all."""
    import torch

    from minivlm.data.rows import accepted_rows
    from minivlm.evaluation.heldout import read_heldout
    from minivlm.evaluation.model_run import Settings, run_model
    from minivlm.evaluation.outputs import log_outputs, write_outputs, write_predictions
    from minivlm.evaluation.questions import read_questions
    from minivlm.evaluation.registration import candidate
    from minivlm.files import atomic_directory

    torch.set_num_threads(stage.params.threads)
    section, paths = stage.params.evaluate, stage.paths
    splits = [
        read_heldout(paths.table(split), split, section.max_pictures, accepted_rows(paths.accepted(split)))
        for split in ("heldout", "compositional")
        if split == "heldout" or paths.table(split).exists()
    ]
    shown = read_questions(paths.questions, paths.data / "eval_images")
    settings = Settings(
        batch_size=section.batch_size,
        max_new_tokens=section.max_new_tokens,
        gap_pictures=section.gap_pictures,
        seed=stage.params.seed,
        device=stage.params.runtime.device,
        precision=section.precision,
    )
    questions = {"pretrain": section.question_pretrain, "sft": section.question_sft}
    runs = {
        name: run_model(name, paths.model(name), question, splits, shown, settings, print, look=name == "sft")
        for name, question in questions.items()
    }
    # The reports are kept in git; this alone is missing from a fresh clone, so that evaluate runs there.
    with atomic_directory(stage.artifacts) as folder:
        write_predictions(folder / "predictions.json", runs, splits)
    write_outputs(stage.reports, runs, splits, shown)
    log_outputs(stage.tracker, stage.reports, runs, shown)
    # By name: the page changes no output, so what it imports is no dependency of the stage in dvc.yaml.
    report = importlib.import_module("minivlm.evaluation.report")
    page = report.write_report(paths, running=stage.name)
    stage.tracker.log_artifact(page, "report")
    if name := stage.params.tracking.registered_model:
        question = questions["sft"]
        stage.tracker.log_model(candidate(name, "sft", paths.model("sft"), question, runs["sft"], splits, shown))
    print(f"report: {page} (open it in a browser); `make ui` compares the runs")


app = stage_app("evaluate", "Caption the evaluation pictures and score the held-out splits with both models.", run)

if __name__ == "__main__":
    app()
