"""params.yaml: what is wrong is said in one line that names file, key and the nearest valid key."""

import copy
import re
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from minivlm.config import FreezePolicy, load_params, parse_params
from minivlm.config.section import TRAINED
from minivlm.errors import UserError
from minivlm.paths import Paths

STAGES = ("download", "validate", "base", "tokenize", "pretrain", "sft", "evaluate")


@pytest.fixture
def values() -> Any:
    return YAML(typ="safe", pure=True).load(Paths().params)


def put(values: Any, key: str, value: Any) -> Any:
    changed = copy.deepcopy(values)
    *way, last = key.split(".")
    section = changed
    for part in way:
        section = section[part]
    section[last] = value
    return changed


def test_the_committed_parameters_are_valid():
    params = load_params(Paths().params)
    assert all(params.section(stage) for stage in STAGES)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("sft.learning_rat", "learning_rate"),
        ("base.vision_tower.hiden_size", "hidden_size"),
        ("download.scenes.train_picture", "train_pictures"),
        ("tokenise", "tokenize"),
        ("download.local.pretrian", "pretrain"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(values, key, near):
    with pytest.raises(UserError, match=f"params.yaml: unknown key '{key}' = 1; did you mean '{near}'"):
        parse_params(put(values, key, 1))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("sft.max_length", "'tokenize.max_length'"),
        ("validate.validation_fraction", "'base.validation_fraction' or 'tokenize.validation_fraction'"),
        ("pretrain.image_size", "'base.vision_tower.image_size'"),
        ("phrase", "'base.vision_tower.phrases'"),
        ("base.llm.vocabulary", "'base.tokenizer.vocabulary'"),
        ("download.sft", "'download.local.sft' or 'download.hub.sft'"),
        ("download.seed", "'seed' at the top of the file"),
        ("base.llm.threads", "'heads' here or 'threads' at the top of the file"),
        ("evaluate.patch_size", "'batch_size' here or 'base.vision_tower.patch_size'"),
        ("limit", "'download.local.limit', 'download.hub.limit' or 'base.texts[].limit'"),
    ],
)
def test_a_key_that_belongs_elsewhere_is_told_with_its_place(values, key, meant):
    with pytest.raises(UserError, match=f"unknown key '{key}' = 1; did you mean {re.escape(meant)}\\?$"):
        parse_params(put(values, key, 1))


def test_of_many_places_some_are_named(values):
    places = ", ".join(
        f"'download.local.{split}.sha256'" for split in ("pretrain", "sft", "heldout", "compositional")
    )
    with pytest.raises(UserError, match=f"did you mean {re.escape(places)} \\.\\.\\.\\?$"):
        parse_params(put(values, "download.scenes.sha256", 1))


@pytest.mark.parametrize("file", ["size", "epochs", "a.bin"])
def test_a_name_in_a_mapping_is_no_key(values, file):
    entry = {"size": 3, "sha256": "0" * 64, "sise": 3}
    place = {"repo": "a/b", "rows": "r.parquet", "files": {file: entry}}
    with pytest.raises(UserError, match=rf"'download\.hub\.sft\.files\.{file}\.sise' = 3; did you mean 'size'\?$"):
        parse_params(put(values, "download.hub", {"sft": place}))
    del entry["size"], entry["sise"]
    entry["owner"] = 1
    with pytest.raises(UserError, match=r"valid keys: size, sha256$"):
        parse_params(put(values, "download.hub", {"sft": place}))


@pytest.mark.parametrize(
    ("launcher", "reason"),
    [
        ("mpirun -n 2", "'mpirun -n 2' does not start with torchrun or accelerate launch"),
        ("accelerate test", "'accelerate test' does not start with"),
        ("torchrun --log-dir 'a", '"torchrun --log-dir \'a": No closing quotation'),
    ],
)
def test_an_unknown_launcher_is_one_line_with_key_and_value(values, launcher, reason):
    with pytest.raises(UserError, match=f"params.yaml: runtime.launcher: {re.escape(reason)}"):
        parse_params(put(values, "runtime.launcher", launcher))


@pytest.mark.parametrize(
    "launcher", ["", "torchrun --standalone --nproc-per-node 2", "accelerate launch --multi_gpu"]
)
def test_known_launchers_are_taken(values, launcher):
    assert parse_params(put(values, "runtime.launcher", launcher)).runtime.launcher == launcher


def test_an_unknown_key_like_no_other_lists_the_valid_ones(values):
    with pytest.raises(UserError, match=r"valid keys: .*freeze"):
        parse_params(put(values, "sft.zzzzz", 1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "twenty"),
        ("seed", -1),
        ("threads", 0),
        ("sft.learning_rate", 0),
        ("sft.learning_rate", "fast"),
        ("sft.freeze", "everything"),
        ("validate.max_bad_fraction", 1.5),
        ("tokenize.validation_fraction", 1),
        ("download.scenes.size", 8),
        ("download.local.limit", -3),
        ("download.source", "web"),
        ("evaluate", None),
    ],
)
def test_a_wrong_value_is_named_with_its_key(values, key, value):
    with pytest.raises(UserError) as caught:
        parse_params(put(values, key, value))
    assert f"params.yaml: {key} = {value!r}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(values):
    del values["sft"]["freeze"]
    with pytest.raises(UserError, match=r"sft\.freeze is missing"):
        parse_params(values)


def test_a_hash_that_is_none_is_rejected(values):
    with pytest.raises(UserError, match="sha256"):
        parse_params(put(values, "download.local.sft", {"path": "x.parquet", "sha256": "abc"}))


@pytest.mark.parametrize(
    ("key", "value", "form"),
    [
        ("runtime.device", "gpu", "auto, cpu, cuda or cuda:N"),
        ("prices.currency", "yuan", "three capital letters"),
        ("tracking.experiment", "a\nb", "text without control characters"),
        ("download.local.sft", {"path": "x.parquet", "sha256": "abc"}, "64 hex digits"),
        ("base.llm.pretrained", {"repo": "a b"}, "name or owner/name"),
        ("base.llm.pretrained", {"revision": "main"}, "40 hex digits"),
    ],
)
def test_a_text_of_another_form_is_told_the_form_in_words(values, key, value, form):
    with pytest.raises(
        UserError, match=f"params.yaml: {re.escape(key)}.* = '.*': it has to be {re.escape(form)}$"
    ):
        parse_params(put(values, key, value))


def test_1e_4_is_a_number(tmp_path):
    """YAML 1.1 reads it as a string; params.yaml is YAML 1.2."""
    text = Paths().params.read_text(encoding="utf-8")
    before, sft = text.split("\nsft:\n")
    changed = before + "\nsft:\n" + re.sub(r"learning_rate: \S+", "learning_rate: 1e-4", sft, count=1)
    assert changed != text
    (tmp_path / "params.yaml").write_text(changed, encoding="utf-8")
    assert load_params(tmp_path / "params.yaml").sft.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("seed: [1, 2", "line 1, column 12: expected ',' or ']'"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        (
            "seed: 1\nseed: 2\n",
            'line 2, column 1: found duplicate key "seed" with value "2" (original value: "1")',
        ),
        ("\tx: 1", "line 1, column 1: found character '\\t' that cannot start any token"),
        ("a: 2024-13-01", "month must be in 1..12"),
    ],
)
def test_what_is_not_yaml_is_said_in_one_line_with_its_place(tmp_path, text, fault):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_params(path)
    said = str(caught.value)
    assert said.startswith(f"params.yaml: not valid YAML: {fault}") and "\n" not in said and "yaml.dev" not in said


@pytest.mark.parametrize("content", [b"", b"- 1\n- 2\n", b"just text", b"\xff\xfe\x00"])
def test_what_is_no_mapping_is_a_user_error(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError):
        load_params(path)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(UserError, match="run from the repository root"):
        load_params(tmp_path / "params.yaml")


def test_patches_that_do_not_fill_the_picture_are_one_short_line(values):
    message = r"base\.vision_tower: image_size 100 is no multiple of patch_size 24"
    with pytest.raises(UserError, match=message) as error:
        parse_params(put(values, "base.vision_tower.image_size", 100))
    assert len(str(error.value)) < 120


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "20"),
        ("seed", True),
        ("sft.epochs", True),
        ("sft.epochs", float("inf")),
        ("sft.learning_rate", "1e-3"),
        ("tracking.enabled", "yes"),
        ("prices.gpu_hour.H100", -3),
        ("prices.cpu_hour", float("nan")),
        ("runtime.device", "gpu"),
    ],
)
def test_a_value_of_another_type_or_out_of_range_is_refused(values, key, value):
    with pytest.raises(UserError, match=re.escape(f"params.yaml: {key} = {value!r}: ")):
        parse_params(put(values, key, value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("base.vision_tower.heads", 3, "hidden_size 128 is no multiple of heads 3"),
        ("base.llm.heads", 5, "hidden_size 192 is no multiple of heads 5"),
        ("base.llm.key_value_heads", 4, "heads 6 is no multiple of key_value_heads 4"),
        ("base.llm.batch_tokens", 511, "batch_tokens 511 is less than max_position_embeddings 512"),
        ("base.vision_feature_layer", 99, "vision_feature_layer 99 is not in -5 to 4"),
        ("base.vision_feature_layer", -6, "-6 is not in -5 to 4"),
        ("validate.min_side", 5000, "min_side 5000 is more than max_side 4096"),
    ],
)
def test_values_that_do_not_go_together_are_one_line(values, key, value, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse_params(put(values, key, value))


@pytest.mark.parametrize("layer", [-5, 4])
def test_the_first_and_the_last_layer_of_the_tower_may_be_read(values, layer):
    assert parse_params(put(values, "base.vision_feature_layer", layer)).base.vision_feature_layer == layer


def test_a_renamed_key_is_told_by_the_key_that_is_there(values):
    values["sft"]["freez"] = values["sft"].pop("freeze")
    with pytest.raises(UserError, match=r"unknown key 'sft\.freez' = 'llm'; did you mean 'freeze'"):
        parse_params(values)


def test_a_directory_in_the_place_of_the_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="has to be a file"):
        load_params(tmp_path)


def test_an_unknown_key_of_a_file_in_a_list_names_the_nearest_one(values):
    text = {"path": "a", "sha256": "0" * 64, "limt": 3}
    with pytest.raises(UserError, match=r"unknown key 'base\.texts\.0\.limt' = 3; did you mean 'limit'"):
        parse_params(put(values, "base.texts", [text]))


def test_a_choice_misspelt_names_the_nearest_one(values):
    with pytest.raises(UserError, match=r"sft\.freeze = 'first_lsat': .*did you mean 'first_last'\?$"):
        parse_params(put(values, "sft.freeze", "first_lsat"))


HUB = {"repo": "owner/name", "config": {"image_size": 224, "patch_size": 16}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tokenize.max_length": 38},
            "tokenize.max_length 38 leaves no room for an answer: a picture has 16 tokens (vision_tower's "
            "image_size over patch_size, squared), and what stands around it 23 or more; set it to 39 at least",
        ),
        (
            {"base.vision_tower.source": "hub", "base.vision_tower.pretrained": HUB, "tokenize.max_length": 218},
            "tokenize.max_length 218 leaves no room for an answer: a picture has 196 tokens",
        ),
        (
            {"sft.batch_tokens": 319},
            "sft.batch_tokens 319 is less than tokenize.max_length 320, the longest that a row may be; set it to "
            "320 or more, or lower tokenize.max_length",
        ),
        ({"pretrain.batch_tokens": 100}, "pretrain.batch_tokens 100 is less than tokenize.max_length 320"),
        (
            {"tokenize.max_length": 513},
            "tokenize.max_length 513 is more than base.llm.max_position_embeddings 512; lower the one or raise",
        ),
        (
            {"evaluate.max_new_tokens": 496},
            "evaluate.max_new_tokens 496 beside a picture's 16 tokens and a question exceeds "
            "base.llm.max_position_embeddings 512",
        ),
        ({"sft.freeze": "first_last", "base.llm.layers": 1}, "sft.freeze first_last trains two layers, and"),
        ({"base.llm.heads": 64}, "base.llm: hidden_size 192 over heads 64 is odd"),
        ({"download.scenes.size": 64, "validate.min_side": 65}, "download.scenes.size 64 is not in validate.min"),
        ({"base.source": "hub"}, "base.vision_tower.pretrained is missing, and base.vision_tower.source is hub"),
        (
            {"base.llm.source": "local", "base.llm.pretrained": {"repo": "owner/name"}},
            "base.llm.pretrained.path is missing, and base.llm.source is local",
        ),
        ({"base.tokenizer.pretrained": {"path": "a"}}, "base.tokenizer.pretrained: with base.llm.source train"),
        ({"base.llm.text_length": 513}, "base.llm.text_length 513 is more than max_position_embeddings 512"),
        ({"base.llm.text_tasks": False}, "base.llm.text_tasks is false and base.texts is empty"),
    ],
)
def test_what_is_impossible_together_is_one_line_before_any_work(values, changes, message):
    for key, value in changes.items():
        values = put(values, key, value)
    with pytest.raises(UserError, match=f"^params.yaml: {re.escape(message)}") as caught:
        parse_params(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenize.max_length": 39},
        {"tokenize.max_length": 23, "base.tokenizer.longest_token": 99, "base.vision_tower.patch_size": 48},
        {"sft.batch_tokens": 320, "pretrain.batch_tokens": 320},
        {"tokenize.max_length": 512},
        {"evaluate.max_new_tokens": 495},
        {"sft.freeze": "first_last", "base.llm.layers": 2},
        {"sft.freeze": "projector+last_layer", "base.llm.layers": 1},
        {"base.vision_tower.source": "hub", "base.vision_tower.pretrained": {"repo": "a/b"}},  # sizes not known
    ],
)
def test_at_the_bound_they_go_together(values, changes):
    for key, value in changes.items():
        values = put(values, key, value)
    assert parse_params(values)


def test_every_section_has_ranges_that_a_slip_of_the_finger_meets(values):
    for key in (
        "base.llm.hidden_size",
        "base.llm.layers",
        "base.tokenizer.vocabulary",
        "threads",
        "sft.batch_tokens",
    ):
        with pytest.raises(UserError, match=re.escape(f"params.yaml: {key} = ")):
            parse_params(put(values, key, 10**12))


@pytest.mark.parametrize(
    "text",
    [
        "seed: 2001-13-01",  # ruamel: month must be in 1..12
        "seed: !!int x",
        "[" * 3000,
        "? {a: 1}\n: 2",
        "a: &a [*a]",
        "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nseed: &d [*c, *c, *c]",
        "seed: 0x" + "F" * 9000,
        '"a\\nb": 1',
        '"\\ud800": 1',
        "1: 2",
        "- seed",
    ],
)
def test_odd_yaml_is_one_short_line(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_params(path)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 600 and said.startswith("params.yaml: ")
    said.encode("utf-8")


def test_a_value_that_references_make_endless_is_shown_short(values):
    level = ["x"] * 9
    for _ in range(30):
        level = [level] * 9  # 9 ** 30 entries, were it written out
    with pytest.raises(UserError) as caught:
        parse_params(put(values, "seed", level))
    assert len(str(caught.value)) < 400


def test_a_file_of_any_size_is_not_read_whole(tmp_path):
    path = tmp_path / "params.yaml"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(UserError, match="larger than 262,144 bytes"):
        load_params(path)


def test_every_freeze_policy_says_what_it_trains():
    """Its name alone reads as what it freezes."""
    assert set(TRAINED) == set(get_args(FreezePolicy))
