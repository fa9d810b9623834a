"""Rows to stores: what is kept, what is refused by name, and what never changes."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from minivlm.config import load_params
from minivlm.data.chat import CHAT_TEMPLATE, SPECIAL_TOKENS, ChatTemplate
from minivlm.data.encoding import ChatEncoder, image_token_count
from minivlm.data.store import PictureStore, TokenStore
from minivlm.data.store_writer import TokenWriter
from minivlm.data.token_report import marked_text
from minivlm.data.tokenization import validation_rows, write_stores
from minivlm.errors import UserError
from minivlm.paths import SPLITS, Paths, project_root
from minivlm.stage import StageRun
from pipelines.tokenize import tokenize
from tests.original_mask import original_mask
from tests.unit.data.toys import (
    IMAGE_TOKENS,
    captions,
    conversation,
    picture,
    tree,
    write_source,
    write_tokenizer,
)

START, END, IMAGE = 1, 2, 3
render = ChatTemplate(CHAT_TEMPLATE, name="own", special=SPECIAL_TOKENS).render


def write(folder, encoder, max_length=256, fraction=0.2, **rows):
    """Write the stores of these splits; the folder that holds them."""
    sources = {split: write_source(folder, split, some) for split, some in rows.items()}
    write_stores(
        sources,
        folder / "tokenize",
        encoder=encoder,
        image_tokens=IMAGE_TOKENS,
        max_length=max_length,
        validation_fraction=fraction,
    )
    return folder / "tokenize"


def write_heldout(folder, encoder, *rows, max_length=256):
    """The token store of some rows of a split that is not trained on."""
    return TokenStore(write(folder, encoder, max_length, heldout=list(rows)) / "heldout")


def transformers_ids(tokenizer_directory, text):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_directory / "tokenizer.json"))
    return tokenizer(text.replace("<image>", "<image>" * IMAGE_TOKENS), add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "texts", [("请描述这张图片。", "一只鹰。"), ("几只?", "两只。", "颜色?", "\n\n白 ☂ a_b  "), ("", "")]
)
def test_tokens_are_those_of_the_rendered_string(tmp_path, encoder, tokenizer_directory, texts):
    row = conversation(*texts)
    store = write_heldout(tmp_path, encoder, (row, picture(0)))
    text = render(json.loads(row))
    header = "<|im_start|>assistant\n"  # an answer is encoded by itself, as it is generated
    parts = [part for i, each in enumerate(text.split(header)) for part in ([header, each] if i else [each])]
    expected = [number for part in parts for number in transformers_ids(tokenizer_directory, part)]
    assert store.tokens(0).tolist() == expected
    of_header = transformers_ids(tokenizer_directory, "<|im_start|>assistant")
    assert store.mask(0).tolist() == original_mask(store.tokens(0).tolist(), of_header, encoder.end_token_id)


def test_supervised_tokens_are_the_answers_with_their_ends(tmp_path, encoder):
    store = write_heldout(tmp_path, encoder, (conversation("几只?", "两只。", "颜色?", "白。"), picture(0)))
    ids, mask = store.tokens(0), store.mask(0)
    assert encoder.decode(ids[mask].tolist()) == "两只。<|im_end|>\n白。<|im_end|>\n"
    assert store.supervised.tolist() == [mask.sum()]


def test_typed_control_tokens_stay_text(tmp_path, encoder):
    typed = "<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
    store = write_heldout(tmp_path, encoder, (conversation(typed, f"是{typed}吗"), picture(0)))
    ids, mask = store.tokens(0), store.mask(0)
    assert [np.count_nonzero(ids == token) for token in (0, START, END, IMAGE)] == [0, 2, 2, IMAGE_TOKENS]
    assert encoder.decode(ids[mask].tolist()) == f"是{typed}吗<|im_end|>\n"
    assert not mask[: np.flatnonzero(ids == START)[1]].any()


def test_a_long_row_is_cut_and_its_cut_answer_supervised_to_the_end(tmp_path, encoder):
    row = (conversation("请描述。", "有两只红色的帆船。" * 20), picture(0))
    whole = write_heldout(tmp_path / "whole", encoder, row, max_length=1000)
    cut = write_heldout(tmp_path / "cut", encoder, row, max_length=60)
    assert len(whole.tokens(0)) > 60 == len(cut.tokens(0))
    assert np.array_equal(cut.tokens(0), whole.tokens(0)[:60])
    assert cut.mask(0)[-1] and END not in cut.tokens(0)[cut.mask(0)]


def test_a_picture_is_never_cut(tmp_path, encoder):
    late = conversation("很长的问题" * 5, "是。", image="")[:-1]
    late += ', {"role": "user", "content": "那么<image>"}, {"role": "assistant", "content": "鸟。"}]'
    rows = [(conversation("好?", "好。"), picture(0)), (late, picture(1))]
    full = write_heldout(tmp_path / "full", encoder, *rows, max_length=1000).tokens(1)
    last = int(np.flatnonzero(full == IMAGE)[-1])
    write_heldout(tmp_path / "fits", encoder, *rows, max_length=last + 1)
    for length in (last, last - 2, last - IMAGE_TOKENS):
        with pytest.raises(
            UserError, match=r"^image tokens would be cut off: heldout:1 \(.*max_length = "
        ) as caught:
            write_heldout(tmp_path / str(length), encoder, *rows, max_length=length)
        assert "heldout:0" not in str(caught.value)


def test_rows_without_a_supervised_token_are_named(tmp_path, encoder):
    only_question = json.dumps([{"role": "user", "content": "<image>"}])
    long_question = conversation("很长的问题" * 40, "是。")
    rows = [*captions(3), (only_question, picture(50)), *captions(1, first=60), (long_question, picture(51))]
    with pytest.raises(UserError, match=r"^no supervised token: sft:3, sft:5 \(") as caught:
        write(tmp_path, encoder, max_length=128, sft=rows)
    assert "\n" not in str(caught.value)


def test_many_rows_at_fault_are_counted(tmp_path, encoder):
    rows = [(json.dumps([{"role": "user", "content": "<image>"}]), picture(i)) for i in range(13)]
    with pytest.raises(UserError, match="heldout:9 and 3 more"):
        write_heldout(tmp_path, encoder, *rows)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (conversation("好?", "好。", image=""), picture(0)),
        (conversation("好?", "好。"), None),
        (conversation("好?", "好<image>。"), picture(0)),
    ],
    ids=["no mark", "no picture", "mark in an answer"],
)
def test_each_picture_needs_its_mark(tmp_path, encoder, text, content):
    with pytest.raises(UserError, match="not one <image> for each picture: heldout:1 "):
        write_heldout(tmp_path, encoder, (conversation("好?", "好。"), picture(0)), (text, content))


def test_several_pictures_of_a_row_keep_their_order(tmp_path, encoder):
    text = conversation("比较。", "都有鸟。", image="<image>\n<image>\n")
    folder = write(tmp_path, encoder, heldout=[(text, [picture(5), picture(4)]), (text, [picture(4), picture(4)])])
    store, pictures = TokenStore(folder / "heldout"), PictureStore(folder / "heldout_pictures")
    assert [store.pictures(i).tolist() for i in range(2)] == [[0, 1], [1, 1]]
    assert [pictures.bytes(i) for i in range(len(pictures))] == [picture(5), picture(4)]
    assert np.count_nonzero(store.tokens(0) == IMAGE) == 2 * IMAGE_TOKENS


def test_only_accepted_rows_are_stored_across_record_batches(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr("minivlm.data.rows._BATCH_ROWS", 4)
    accepted = [0, 3, 4, 11, 18]
    source = write_source(tmp_path, "heldout", captions(19), accepted)
    options = {"image_tokens": IMAGE_TOKENS, "max_length": 256, "validation_fraction": 0.2}
    write_stores({"heldout": source}, tmp_path / "tokenize", encoder=encoder, **options)
    store = TokenStore(tmp_path / "tokenize/heldout")
    assert store.row_numbers.tolist() == accepted
    pictures = PictureStore(tmp_path / "tokenize/heldout_pictures")
    assert [pictures.bytes(int(store.pictures(i)[0])) for i in range(5)] == [picture(row) for row in accepted]


@pytest.mark.parametrize(
    ("accepted", "message"), [([0, 3], "row 3 was accepted"), ([1, 0], "do not ascend"), ([1, 1], "do not ascend")]
)
def test_accepted_rows_of_another_file_are_refused(tmp_path, encoder, accepted, message):
    source = write_source(tmp_path, "heldout", captions(3), accepted)
    with pytest.raises(UserError, match=message):
        write_stores(
            {"heldout": source},
            tmp_path / "tokenize",
            encoder=encoder,
            image_tokens=4,
            max_length=99,
            validation_fraction=0.1,
        )


def test_the_validation_split_shares_no_picture_with_training(tmp_path, encoder):
    again = [(conversation("有几只?", "三只。"), picture(i % 200)) for i in range(300)]
    folder = write(tmp_path, encoder, pretrain=captions(200), sft=again, heldout=captions(5, first=900))
    kept, trained = set(), set()
    for split in ("pretrain", "sft"):
        store = TokenStore(folder / split)
        for rows, found in ((store.validation_rows(), kept), (store.training_rows(), trained)):
            found.update(int(number) for i in rows for number in store.pictures(i))
        assert len(store.validation_rows()) + len(store.training_rows()) == len(store)
    assert not kept & trained and len(kept | trained) == 200
    assert 20 <= len(kept) <= 60  # a fifth of 200, give or take
    hashes = PictureStore(folder / "pictures").hashes
    assert kept == {i for i in range(200) if int(hashes[i].tobytes().hex()[:8], 16) / 2**32 < 0.2}
    assert len(TokenStore(folder / "heldout").validation_rows()) == 0


def test_small_data_keeps_one_picture_for_validation():
    places = {"pretrain": np.array([0.005, 0.9, 0.07]), "sft": np.array([0.9, 0.07, 0.07, 0.99])}
    kept = validation_rows(places, 1e-6)
    assert kept["pretrain"].tolist() == [True, False, True]
    assert kept["sft"].tolist() == [False, True, True, False]


def test_a_split_without_training_rows_is_an_error(tmp_path, encoder):
    rows = [(conversation(f"第{i}问?", "好。"), picture(0)) for i in range(4)]
    with pytest.raises(UserError, match="sft: all 4 rows would be kept for validation"):
        write(tmp_path, encoder, sft=rows)


def test_heldout_rows_change_no_byte_that_training_reads(tmp_path, encoder):
    one = write(tmp_path / "one", encoder, pretrain=captions(30), heldout=captions(3, first=100))
    other = write(tmp_path / "other", encoder, pretrain=captions(30), heldout=captions(9, first=200))
    for name in ("pretrain", "pictures"):
        assert tree(one / name) == tree(other / name)
    assert tree(one / "heldout") != tree(other / "heldout")


@pytest.mark.parametrize("missing", ["<image>", "<|im_end|>"])
def test_a_tokenizer_without_the_templates_tokens_is_refused(tmp_path, missing):
    special = tuple(token for token in SPECIAL_TOKENS if token != missing)
    with pytest.raises(UserError, match=f"no token '{missing}'".replace("|", r"\|")):
        ChatEncoder(write_tokenizer(tmp_path, special))


def test_a_tokenizer_whose_control_tokens_can_be_typed_is_refused(tmp_path):
    file = write_tokenizer(tmp_path) / "tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"][2]["special"] = False
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="not marked special"):
        ChatEncoder(tmp_path)


def test_an_answer_is_encoded_as_it_is_generated_where_the_newline_before_it_would_merge(tmp_path):
    merging = ChatEncoder(write_tokenizer(tmp_path, regex=False))
    question, answer = {"role": "user", "content": "几?"}, {"role": "assistant", "content": "一"}
    whole = transformers_ids(tmp_path, render([question, answer]))
    [row] = merging.encode_rows([[question, answer]], IMAGE_TOKENS)
    prompt = transformers_ids(tmp_path, render([question], add_generation_prompt=True))
    assert row.ids.tolist() != whole, "nothing merges: the test is worth nothing"
    assert row.ids[: len(prompt)].tolist() == prompt and not row.mask[: len(prompt)].any()
    assert merging.decode(row.ids[row.mask].tolist()) == "一<|im_end|>\n"


def test_image_tokens_follow_from_the_vision_towers_config(tmp_path):
    (tmp_path / "config.json").write_text('{"image_size": 96, "patch_size": 16}')
    assert image_token_count(tmp_path) == 36
    (tmp_path / "config.json").write_text('{"image_size": 100, "patch_size": 16}')
    with pytest.raises(UserError, match="no multiple"):
        image_token_count(tmp_path)
    with pytest.raises(UserError, match="dvc repro base"):
        image_token_count(tmp_path / "absent")


def test_marked_text_shows_what_is_supervised(tmp_path, encoder):
    store = write_heldout(tmp_path, encoder, (conversation("<b>几*只*?", "两只。<|im_end|>"), picture(0)))
    assert marked_text(store.tokens(0), store.mask(0), encoder) == (
        "`<|im_start|>`user⏎`<image>×4`⏎&lt;b&gt;几\\*只\\*?`<|im_end|>`⏎"
        "`<|im_start|>`assistant⏎<b>两只。&lt;|im\\_end|&gt;`<|im_end|>`⏎</b>"
    )


def run_stage(root, tokenizer_directory, splits=SPLITS):
    for number, split in enumerate(splits):
        write_source(root, split, captions(40 if number < 2 else 5, first=100 * number * (number > 1)))
    base = root / "artifacts/base"
    base.mkdir(parents=True)
    (base / "tokenizer").symlink_to(tokenizer_directory)
    (base / "vision_tower").mkdir()
    (base / "vision_tower/config.json").write_text('{"image_size": 16, "patch_size": 8}')
    params = load_params(project_root() / "params.yaml")
    logged = {}
    tracker = SimpleNamespace(log_metrics=logged.update, log_artifact=lambda path, folder="": None)
    tokenize(StageRun("tokenize", params, Paths(root), tracker))
    assert logged == json.loads((root / "reports/tokenize/metrics.json").read_text())
    return logged


def test_the_stage_writes_stores_and_reports_of_every_split(tmp_path, tokenizer_directory):
    metrics = run_stage(tmp_path, tokenizer_directory)
    assert list(metrics) == list(SPLITS)
    store = TokenStore(tmp_path / "artifacts/tokenize/sft")
    assert metrics["sft"]["rows"] == 40 and metrics["sft"]["tokens"] == store.lengths.sum()
    assert metrics["sft"]["length"]["max"] == store.lengths.max() and metrics["sft"]["truncated_rows"] == 0
    lines = (tmp_path / "reports/tokenize/lengths.csv").read_text().splitlines()
    assert lines[0] == "split,length,rows"
    assert sum(int(line.split(",")[2]) for line in lines[1:] if line.startswith("sft,")) == 40
    assert metrics["sft"]["rejected_rows"] == 0
    rejected = json.loads((tmp_path / "reports/tokenize/rejected.json").read_text())["rejected"]
    assert rejected == {split: {"count": 0, "rows": []} for split in SPLITS}
    samples = (tmp_path / "reports/tokenize/samples.md").read_text()
    assert "`<image>×4`" in samples and "<b>有两只红色的帆船。`<|im_end|>`⏎</b>" in samples


def test_a_store_that_breaks_its_contract_ends_the_stage_in_one_line_and_does_not_stay(
    tmp_path, tokenizer_directory, monkeypatch
):
    class Miscounting(TokenWriter):
        def close(self, validation, meta):
            self.supervised[3] += 1
            super().close(validation, meta)

    monkeypatch.setattr("minivlm.data.tokenization.TokenWriter", Miscounting)
    with pytest.raises(
        UserError, match=r"^the token store of pretrain breaks its contract: pretrain:3 "
    ) as caught:
        run_stage(tmp_path, tokenizer_directory)
    assert "supervised_as_counted" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "artifacts/tokenize").exists()
    report = json.loads((tmp_path / "reports/tokenize/pretrain.json").read_text())
    assert report["rows_listed"][0]["id"] == "pretrain:3" and not report["passed"]


def test_the_stages_reports_say_what_its_stores_were_held_against(tmp_path, tokenizer_directory):
    run_stage(tmp_path, tokenizer_directory, SPLITS[:3])
    for split in SPLITS:
        report = json.loads((tmp_path / f"reports/tokenize/{split}.json").read_text())
        assert report["passed"] and report["present"] == (split != "compositional")
    assert (tmp_path / "reports/tokenize/data_docs/index.html").is_file()


def test_the_same_rows_give_the_same_bytes_and_compositional_may_be_absent(tmp_path, tokenizer_directory):
    for name in ("one", "other"):
        metrics = run_stage(tmp_path / name, tokenizer_directory, SPLITS[:3])
        assert list(metrics) == list(SPLITS[:3])
    for root in ("one", "other"):
        shutil.rmtree(tmp_path / root / "reports/tokenize/data_docs")  # they name the time of the check
    for name in ("artifacts/tokenize", "reports/tokenize"):
        assert tree(tmp_path / "one" / name) == tree(tmp_path / "other" / name) != {}


def test_the_scene_column_changes_no_byte(tmp_path, encoder):
    rows = captions(6)
    one = write(tmp_path / "one", encoder, heldout=rows)
    source = write_source(tmp_path / "other", "heldout", rows)
    table = pq.read_table(source.table)
    pq.write_table(table.append_column("scene", [["{}"] * 6]), source.table)
    options = {"image_tokens": IMAGE_TOKENS, "max_length": 256, "validation_fraction": 0.2}
    write_stores({"heldout": source}, tmp_path / "other/tokenize", encoder=encoder, **options)
    assert tree(one) == tree(tmp_path / "other/tokenize")
