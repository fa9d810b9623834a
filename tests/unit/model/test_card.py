"""The model card: what a hub reads, what a person must know, the same bytes for the same facts."""

from ruamel.yaml import YAML

from minivlm.files import read_json
from minivlm.model.card import LICENCES, Card, parameters_by_part, render, trained_card, write_card
from minivlm.model.llava import assemble
from tests.contract.imports import ROOT

CARD = Card(
    title="A title: with a colon",
    summary="What it is.",
    parameters={"vision tower": 1000, "projector": 24, "language model": 1234567},
    image_tokens=196,
    image_token="<image>",
    base_models=("openai/clip-vit-base-patch16",),
    data=("the drawn world of minivlm", "jingyaogong/minimind-v_dataset"),
)


def test_the_front_matter_is_yaml_that_hubs_read():
    _, front, _ = render(CARD).split("---\n", 2)
    values = YAML(typ="safe").load(front)
    assert values["pipeline_tag"] == "image-text-to-text" and values["library_name"] == "transformers"
    assert values["base_model"] == ["openai/clip-vit-base-patch16"] and values["language"] == ["zh"]
    assert values["datasets"] == ["jingyaogong/minimind-v_dataset"], "the drawn world is no repository of a hub"


def test_the_library_of_the_hub_reads_the_front_matter():
    from huggingface_hub import ModelCard

    data = ModelCard(render(CARD)).data
    assert data.pipeline_tag == "image-text-to-text" and data.license == "apache-2.0"
    assert data.language == ["zh"] and data.base_model == ["openai/clip-vit-base-patch16"]


def test_sizes_sources_and_their_terms_are_in_it():
    text = render(CARD)
    assert "| language model | 1,234,567 |" in text and "A picture is 196 tokens, written `<image>`." in text
    for name in (*CARD.base_models, *CARD.data):
        assert f"| {name} | {LICENCES[name]} |" in text


def test_what_is_typed_is_said_only_where_it_matters():
    assert "is the picture" not in render(CARD)
    typed = render(Card(**{**CARD.__dict__, "image_token": "@", "typed_image_token": True}))
    assert "## `@` is the picture" in typed and "a@b.c" in typed


def test_the_same_facts_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_card(tmp_path / name, CARD)
    assert (tmp_path / "one" / "README.md").read_bytes() == (tmp_path / "two" / "README.md").read_bytes()


def test_its_loading_code_runs(tmp_path, monkeypatch):
    from tests.unit.evaluation.toys import picture, write_llava

    directory = write_llava(tmp_path / "model")
    picture(0).save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    code = render(CARD).split("```python\n")[1].split("```")[0].replace("DIRECTORY", str(directory))
    exec(compile(code, "card", "exec"), {})  # as a reader would


def test_parameters_by_part_count_the_trained_map_alone(base):
    from minivlm.model.llava import assemble

    model = assemble(base, seed=0)
    counted = parameters_by_part(model)
    config = read_json(base / "llm" / "config.json")
    assert counted["projector"] == 24 * config["hidden_size"]
    assert sum(counted.values()) == sum(each.numel() for each in model.parameters()) - config["hidden_size"] ** 2


def test_every_source_of_the_card_is_in_the_table_of_licences():
    table = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for name in LICENCES:
        assert name in table, name
    assert "openai/clip-vit-base-patch16" in notice and "jingyaogong" in notice


def trained(model, base_models=(), data=()):
    _, front, text = render(trained_card(model, base_models, data)).split("---\n", 2)
    return YAML(typ="safe").load(front), text


def test_a_trained_model_is_the_program_s_own_only_where_all_was_drawn_and_made_here(base):
    model = assemble(base, seed=0)
    front, text = trained(model)
    assert front["license"] == "apache-2.0" and "| the drawn world of minivlm |" in text
    assert front["metrics"] == ["bleu", "chrf"] and "drawn pictures alone" in text
    for others in ({"data": ["files of your own"]}, {"base_models": ["a vision tower of your own"]}):
        front, text = trained(model, **others)
        assert front["license"] == "other" and ("drawn world" in text) == ("data" not in others)
        assert "drawn pictures alone" not in text
        assert all(f"| {name} | " in text for names in others.values() for name in names)
    front, _ = trained(model, ["openai/clip-vit-base-patch16"], ["jingyaogong/minimind-v_dataset"])
    assert front["base_model"] == ["openai/clip-vit-base-patch16"]
    assert front["datasets"] == ["jingyaogong/minimind-v_dataset"] and front["license"] == "other"
