"""The evaluate stage on tiny random models: all files, the same bytes each time, everything logged."""

import json
import shutil

import pytest

from minivlm.config import load_params
from minivlm.errors import UserError
from minivlm.evaluation.outputs import FILES
from minivlm.files import read_json
from minivlm.generation.captions import caption_pictures
from minivlm.generation.loading import load_model
from minivlm.paths import Paths
from minivlm.stage import StageRun
from minivlm.tracking import NullRun
from pipelines.evaluate import run
from tests.unit.evaluation.toys import conversation, picture, picture_bytes, write_llava, write_table

ANSWERS = ["两只红色的帆船。", "草地上有三朵黄花。", "夕阳下的大海。", "一只鸟在天上飞。"]


class Recorder(NullRun):
    """Keeps what a stage logs."""

    def __init__(self):
        super().__init__()
        self.metrics, self.artifacts, self.images, self.table = {}, [], [], {}

    def log_metrics(self, metrics, step=None):
        self.metrics |= metrics

    def log_artifact(self, path, folder=""):
        self.artifacts.append(path.name)

    def log_model(self, candidate):
        self.artifacts.append(candidate.directory.name)

    def log_image(self, image, name):
        self.images.append(name)

    def log_table(self, columns, file):
        self.table = columns


@pytest.fixture(scope="module")
def ready(tmp_path_factory, llava_directory):
    """A checkout in which everything before evaluate has run: four pictures, five rows, one of them rejected."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = Paths(tmp_path_factory.mktemp("checkout"))
    rows = [(conversation("请详细描述这张图片。", text), picture_bytes(i)) for i, text in enumerate(ANSWERS)]
    write_table(paths.table("heldout"), [*rows, (conversation("?", "坏"), picture_bytes(9))])
    paths.accepted("heldout").parent.mkdir(parents=True)
    pq.write_table(pa.table({"row": pa.array(range(4), pa.int64())}), paths.accepted("heldout"))
    shutil.copytree(llava_directory, paths.model("pretrain"))
    write_llava(paths.model("sft"), seed=1)
    (paths.data / "eval_images").mkdir(parents=True)
    questions = {"pretrain": "请用一句话描述这张图片。", "sft": "请详细描述这张图片。"}
    entries = []
    for i, title in enumerate(["日落", "云", "鸟"]):
        picture(20 + i, 48).save(paths.data / "eval_images" / f"{i}.png")
        asked = questions if i != 1 else {**questions, "sft": "有几只？"}
        entries.append({"file": f"{i}.png", "title": title, "question": asked})
    paths.questions.write_text(json.dumps(entries), encoding="utf-8")
    return paths


def evaluate(paths) -> Recorder:
    params = load_params(Paths().params)
    section = params.evaluate.model_copy(update={"max_new_tokens": 8})
    tracker = Recorder()
    run(StageRun("evaluate", params.model_copy(update={"evaluate": section}), paths, tracker))
    return tracker


def outputs(paths) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in paths.reports("evaluate").iterdir()}


def test_the_stage_writes_its_files_and_the_same_bytes_again(ready):
    evaluate(ready)
    first = outputs(ready)
    assert set(first) == set(FILES)
    shutil.rmtree(ready.reports("evaluate"))
    evaluate(ready)
    assert outputs(ready) == first


def test_figures_follow_the_contract_and_rejected_rows_are_not_scored(ready):
    evaluate(ready)
    metrics = json.loads((ready.reports("evaluate") / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics) == ["pretrain", "sft"]
    for stage in metrics.values():
        assert list(stage) == ["heldout"], "a split without a file is left out"
        assert stage["heldout"]["pictures"] == stage["heldout"]["gap_rows"] == 4
        for name in ("cider", "bleu", "chrf", "image_gap"):
            assert name in stage["heldout"] and f"shuffled_{name}" in stage["heldout"]
    assert metrics["pretrain"]["heldout"]["loss"] != metrics["sft"]["heldout"]["loss"], "each has its own model"


def test_figures_pictures_and_captions_are_logged(ready):
    tracker = evaluate(ready)
    assert "sft.heldout.image_gap" in tracker.metrics
    assert tracker.images == ["pictures/0", "pictures/1", "pictures/2"]
    assert {len(cells) for cells in tracker.table.values()} == {3}
    columns = ["title", "picture", "sft caption", "pretrain caption"]
    assert list(tracker.table) == columns, "MLflow's page opens the table with the first caption"
    assert {"metrics.json", "captions.md", "index.html"} <= set(tracker.artifacts)


def test_the_model_is_offered_last_when_all_that_may_fail_is_done(ready):
    assert evaluate(ready).artifacts[-2:] == ["index.html", "model"]


def test_each_picture_is_asked_its_own_question(ready):
    tracker = evaluate(ready)
    loaded = load_model(ready.model("sft"))
    for i, question in enumerate(["请详细描述这张图片。", "有几只？", "请详细描述这张图片。"]):
        alone = caption_pictures(*loaded, [picture(20 + i, 48)], question, batch_size=1, max_new_tokens=8)
        assert tracker.table["sft caption"][i] == alone[0]


def test_the_report_shows_the_captions_of_both_stages(ready):
    tracker = evaluate(ready)
    page = (ready.reports("evaluate").parent / "index.html").read_text(encoding="utf-8")
    assert page.count('<figure><img src="data:image/png;base64,') == 3
    assert "CIDEr-D" in page
    table = (ready.reports("evaluate") / "captions.md").read_text(encoding="utf-8")
    assert len(table.splitlines()) == 2 + 3
    assert tracker.table["title"] == ["日落", "云", "鸟"]


def test_every_held_out_picture_is_kept_with_what_the_models_said(ready):
    evaluate(ready)
    kept = read_json(ready.artifacts("evaluate") / "predictions.json")
    assert [each["picture"] for each in kept] == [f"heldout:{i}" for i in range(4)]
    assert all(set(each) == {"picture", "sha256", "pretrain", "sft"} for each in kept)
    model, processor = load_model(ready.model("sft"))
    asked = load_params(Paths().params).evaluate.question_sft
    pictures = [picture(i) for i in range(4)]
    said = caption_pictures(model, processor, pictures, asked, batch_size=4, max_new_tokens=8)
    assert [each["sft"] for each in kept] == said


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("table", "heldout.parquet: not found; run the download stage first"),
        ("accepted", "heldout.parquet: not found; run the validate stage first"),
    ],
)
def test_without_the_held_out_split_the_stage_stops(ready, tmp_path, file, message):
    shutil.copytree(ready.root, tmp_path / "copy")
    paths = Paths(tmp_path / "copy")
    getattr(paths, file)("heldout").unlink()
    with pytest.raises(UserError, match=message):
        evaluate(paths)


def test_a_damaged_evaluation_picture_is_one_clear_line(ready, tmp_path):
    shutil.copytree(ready.root, tmp_path / "copy")
    paths = Paths(tmp_path / "copy")
    damaged = paths.data / "eval_images" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(UserError, match=r"1\.png: "):
        evaluate(paths)
