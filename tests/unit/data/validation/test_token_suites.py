"""Every expectation of the token stores can fail: a store for each that breaks it alone, and the stage with it."""

import json
import re
import shutil

import numpy as np
import pytest

from minivlm.data.rows import accepted_rows
from minivlm.data.store import TokenStore
from minivlm.data.tokenization import store_meta, write_stores
from minivlm.data.validation import token_facts
from minivlm.data.validation.engine import GreatExpectations
from minivlm.data.validation.picture_usage import Range
from minivlm.data.validation.store_gate import gate_stores
from minivlm.data.validation.token_checks import (
    Settings,
    StoreOrigin,
    check_stores,
    store_checks,
    token_checks,
)
from minivlm.errors import UserError
from tests.unit.data.toys import IMAGE_TOKENS, captions, conversation, picture, write_source

MAX_LENGTH, FRACTION = 128, 0.2
SPLITS = ("pretrain", "sft")
BOTH = conversation("比较。", "都有鸟。", image="<image>\n<image>\n")
LONG = (conversation("很长的问题" * 40, "是。"), picture(51))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, encoder):
    """Stores of captions, a row of text alone, one of two pictures, one left out; sft shows the same pictures."""
    text = (conversation("你好", "你好。", image=""), None)
    rows = {
        "pretrain": in_lists([*captions(40), text, (BOTH, [picture(3), picture(4)])]),
        "sft": [(conversation("有几只?", "三只。"), picture(number)) for number in range(40)] + [LONG],
        "heldout": captions(5, first=100),
    }
    return written(tmp_path_factory.mktemp("stores"), encoder, rows)


def in_lists(rows):
    """The rows of a file in which some row has several pictures."""
    return [(said, [data] if isinstance(data, bytes) else data) for said, data in rows]


def written(folder, encoder, rows):
    """The stores of rows by split, and what they were made of."""
    sources = {split: write_source(folder, split, some) for split, some in rows.items()}
    counts = write_stores(
        sources,
        folder / "tokenize",
        encoder=encoder,
        image_tokens=IMAGE_TOKENS,
        max_length=MAX_LENGTH,
        validation_fraction=FRACTION,
        max_bad_fraction=0.1,
    )
    origins = {split: (source.accepted, counts[split].rejected_rows) for split, source in sources.items()}
    return folder / "tokenize", origins


@pytest.fixture
def stores(whole, tmp_path):
    """A copy to be spoilt."""
    shutil.copytree(whole[0], tmp_path / "tokenize")
    return tmp_path / "tokenize"


@pytest.fixture
def meta(encoder):
    return store_meta(encoder, IMAGE_TOKENS, MAX_LENGTH)


def check(folder, origins, meta):
    made_of = {split: StoreOrigin(accepted_rows(path), left_out) for split, (path, left_out) in origins.items()}
    return check_stores(folder, made_of, Settings(meta, FRACTION, SPLITS), GreatExpectations())


def broken(verdicts):
    """(split, check) of what does not hold."""
    return [
        (split, result.check.name)
        for split, found in verdicts.items()
        for _, result in found.results
        if not result.success
    ]


def change(folder, name, edit):
    """Edit one array of a store in place."""
    array = np.load(folder / f"{name}.npy")
    np.save(folder / f"{name}.npy", edit(array))


def change_flat(folder, name, dtype, edit):
    values = np.fromfile(folder / name, dtype)
    edit(values)
    values.tofile(folder / name)


def change_meta(folder, **values):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | values))


def put(place, value):
    """An edit of one number."""

    def edit(array):
        array[place] = value
        return array

    return edit


def image_at(store):
    """Where the first image token of the first row stands."""
    return int(np.flatnonzero(store.tokens(0) == store.image_token_id)[0])


def move_supervision(folder):
    """Supervise an image token instead of the last token of the first row."""
    store = TokenStore(folder)
    image, last = image_at(store), int(store.lengths[0]) - 1
    assert store.mask(0)[last]

    def edit(mask):
        mask[image], mask[last] = 1, 0

    change_flat(folder, "mask.bin", np.uint8, edit)


def share_a_picture(folder):
    """Train on a row of a picture that sft's row of it is validated on."""
    row = int(TokenStore(folder).validation_rows()[0])
    change(folder, "validation", put(row, False))
    change_meta(folder, validation_rows=len(TokenStore(folder).validation_rows()))


def learn_nothing(folder):
    store = TokenStore(folder)
    change_flat(folder, "mask.bin", np.uint8, put(slice(0, int(store.lengths[0])), 0))
    change_meta(folder, supervised_tokens=int(store.supervised.sum() - store.supervised[0]))
    change(folder, "supervised", put(0, 0))


def validate_on_half(folder):
    """Mark pictures of training rows, in every split alike."""
    for split in SPLITS:
        change(folder.parent / split, "validation", put(slice(5, 38), True))
        change_meta(
            folder.parent / split, validation_rows=len(TokenStore(folder.parent / split).validation_rows())
        )


def train_on_nothing(folder):
    change(folder, "validation", lambda array: array | True)
    change_meta(folder, validation_rows=len(TokenStore(folder)))


def shorten(name):
    def edit(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-2])

    return edit


def edit(name, place, value):
    return lambda folder: change(folder, name, put(place, value))


def swap_rows(folder):
    change(folder, "rows", lambda rows: rows[[1, 0, *range(2, len(rows))]])


TABLES = {
    "files_are_whole": shorten("tokens.bin"),
    "offsets_ascend": lambda folder: change(folder, "offsets", put(3, 0)),
    "settings_agree": lambda folder: change_meta(folder, tokenizer_sha256="0" * 64),
    "counts_agree": lambda folder: change_meta(folder, tokens=7),
    "rows_ascend": swap_rows,
    "rows_were_accepted": edit("rows", -1, 400),
    "validation_is_plausible": validate_on_half,
    "rows_to_train_on": train_on_nothing,
}
ROWS = {
    "something_is_learned": learn_nothing,
    "supervised_as_counted": lambda folder: change_flat(
        folder, "mask.bin", np.uint8, put(int(TokenStore(folder).lengths[0]) - 1, 0)
    ),
    "image_tokens_fit": lambda folder: change_flat(
        folder, "tokens.bin", np.uint16, put(image_at(TokenStore(folder)), 0)
    ),
    "image_tokens_unsupervised": move_supervision,
    "ids_in_vocabulary": lambda folder: change_flat(folder, "tokens.bin", np.uint16, put(0, 60_000)),
    "pictures_are_stored": edit("pictures", 0, 99),
    "validation_apart": share_a_picture,
}


def test_the_stores_as_they_are_written_break_nothing(whole, meta):
    verdicts = check(*whole, meta)
    assert broken(verdicts) == [] and all(found.passed for found in verdicts.values())
    assert {split: found.rows for split, found in verdicts.items()} == {"pretrain": 42, "sft": 40, "heldout": 5}


def test_there_is_a_store_for_every_expectation():
    whole = [check.name for check in store_checks(4, validated=Range(0, 0), is_trained=True)]
    rows = [check.name for check in token_checks(max_length=9, vocabulary=9, image_tokens=4, pictures=1)]
    assert {*TABLES, "no_row_is_lost"} == set(whole)
    assert {*ROWS, "length_fits"} == set(rows)


@pytest.mark.parametrize("name", TABLES)
def test_a_store_that_breaks_one_expectation_fails_for_it(stores, whole, meta, name):
    TABLES[name](stores / "sft")
    found = broken(check(stores, whole[1], meta))
    # Where all rows are validated on, their number cannot be plausible either; and half of the pictures is too
    # much of every split. A file that cannot be read hides the rest.
    also = {
        "rows_to_train_on": [("sft", "validation_is_plausible"), ("sft", "rows_to_train_on")],
        "validation_is_plausible": [(split, "validation_is_plausible") for split in SPLITS],
    }
    told = [pair for pair in found if pair[1] != "validation_apart"]
    assert told == also.get(name, [("sft", name)])


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_breaks_one_expectation_is_named_for_it_alone(stores, whole, meta, name):
    split = "pretrain" if name == "pictures_are_stored" else "sft"
    ROWS[name](stores / split)
    verdicts = check(stores, whole[1], meta)
    split = {"validation_apart": "pretrain"}.get(name, split)
    assert broken(verdicts) == [(split, name)]
    assert not verdicts[split].passed and len(verdicts[split].rejected) >= 1


def test_a_row_over_the_length_is_named(stores, whole, meta):
    for split in whole[1]:
        change_meta(stores / split, max_length=40)
    verdicts = check(stores, whole[1], meta | {"max_length": 40})
    assert {name for _, name in broken(verdicts)} == {"length_fits"}
    lengths = TokenStore(stores / "pretrain").lengths
    assert list(verdicts["pretrain"].rejected) == np.flatnonzero(lengths > 40).tolist() != []
    assert verdicts["pretrain"].rejected[2] == [f"length_fits: {lengths[2]} tokens"]


def test_a_row_that_is_neither_stored_nor_left_out_is_missed(whole, meta):
    folder, origins = whole
    verdicts = check(folder, origins | {"sft": (origins["sft"][0], 0)}, meta)
    assert broken(verdicts) == [("sft", "no_row_is_lost")]
    assert verdicts["sft"].table_faults == ["rows_and_rejected: 40 stored or left out, and 41 were accepted"]


def test_pictures_that_a_row_left_out_keeps_in_training_are_not_expected_to_be_validated_on(
    tmp_path, encoder, meta
):
    asked = conversation("比较" * MAX_LENGTH, "都有鸟。", image="<image>\n" * 8)
    several = (asked, [picture(number) for number in range(8)])
    linked = in_lists([*captions(8), *captions(32, first=200), several])
    rows = {"pretrain": linked, "sft": in_lists([*captions(8), *captions(8), several])}
    folder, origins = written(tmp_path, encoder, rows)
    assert {split: left_out for split, (_, left_out) in origins.items()} == {"pretrain": 1, "sft": 1}
    assert len(TokenStore(folder / "sft").validation_rows()) == 0
    assert broken(check(folder, origins, meta)) == []
    unlinked = {split: (path, 0) for split, (path, _) in origins.items()}
    assert ("sft", "validation_is_plausible") in broken(check(folder, unlinked, meta))


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("rows.npy", None, "No such file or directory"),
        ("rows.npy", b"", "No data left in file"),
        ("rows.npy", b"no array", "rows.npy|pickle"),
        ("supervised.npy", np.zeros(40), r"float64 \(40,\) where int32 \(40,\) is expected"),
        ("validation.npy", np.zeros(3, bool), r"bool \(3,\) where bool \(40,\) is expected"),
        ("meta.json", b"{", "Expecting property name"),
        ("meta.json", b"[]", "list"),
        ("meta.json", b"{}", "rows"),
        ("meta.json", b'{"rows": 40}', "names no picture store"),
        ("mask.bin", b"1", "1 bytes where"),
    ],
)
def test_a_file_that_is_missing_damaged_or_of_another_type_is_told(stores, whole, meta, name, data, told):
    path = stores / "sft" / name
    path.unlink()
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif data is not None:
        np.save(path, data)
    verdicts = check(stores, whole[1], meta)
    assert ("sft", "files_are_whole") in broken(verdicts)
    (fault,) = verdicts["sft"].table_faults
    assert re.search(told, fault) and "\n" not in fault


def test_held_out_rows_are_not_validated_on(stores, whole, meta):
    change(stores / "heldout", "validation", put(0, True))
    change_meta(stores / "heldout", validation_rows=1)
    assert broken(check(stores, whole[1], meta)) == [("heldout", "validation_is_plausible")]


@pytest.mark.parametrize("tokens", [1, 50])
def test_rows_read_in_pieces_are_found_all_the_same(stores, whole, meta, monkeypatch, tokens):
    ROWS["ids_in_vocabulary"](stores / "sft")
    share_a_picture(stores / "sft")
    expected = check(stores, whole[1], meta)
    monkeypatch.setattr(token_facts, "PIECE_ROWS", 7)
    monkeypatch.setattr(token_facts, "_TOKENS", tokens)
    assert check(stores, whole[1], meta) == expected
    assert expected["sft"].rejected == {0: ["ids_in_vocabulary: id 60000"]}


def test_a_row_without_tokens_does_not_disturb_the_others(stores, whole, meta):
    store = TokenStore(stores / "sft")
    change(stores / "sft", "offsets", put(5, int(store.lengths[:4].sum())))  # row 4 gives its tokens to row 5
    rejected = check(stores, whole[1], meta)["sft"].rejected
    assert sorted(rejected) == [4, 5]
    assert [why.partition(":")[0] for why in rejected[4]] == [
        "length_fits",
        "supervised_as_counted",
        "image_tokens_fit",
    ]
    assert [why.partition(":")[0] for why in rejected[5]] == ["supervised_as_counted", "image_tokens_fit"]


def test_the_gate_reports_in_any_case_and_fails_in_one_line(stores, whole, meta, tmp_path):
    gate_stores(stores, whole[1], meta, validation_fraction=FRACTION, reports=tmp_path / "good")
    report = json.loads((tmp_path / "good/sft.json").read_text())
    assert report["passed"] and report["rows"] == 40 and report["rows_listed"] == []
    assert [entry["name"] for entry in report["expectations"]] == [
        *[check.name for check in store_checks(1, validated=Range(0, 0), is_trained=True)],
        *[check.name for check in token_checks(max_length=9, vocabulary=9, image_tokens=4, pictures=1)],
    ]
    assert all(entry["success"] for entry in report["expectations"])
    assert json.loads((tmp_path / "good/compositional.json").read_text())["present"] is False
    ROWS["ids_in_vocabulary"](stores / "sft")
    with pytest.raises(UserError) as error:
        gate_stores(stores, whole[1], meta, validation_fraction=FRACTION, reports=tmp_path / "bad")
    assert str(error.value) == (
        "the token store of sft breaks its contract: sft:0 (ids_in_vocabulary: id 60000) (see reports/tokenize); "
        "make it again: dvc repro -f tokenize"
    )
    assert not json.loads((tmp_path / "bad/sft.json").read_text())["passed"]
    assert "sft:0" in (tmp_path / "bad/data_docs/index.html").read_text(encoding="utf-8")
