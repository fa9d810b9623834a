"""A saved model in an interpreter that cannot import this project: transformers alone, the same numbers."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from minivlm.data.encoding import ChatEncoder
from minivlm.data.pictures import Preparation, decode
from minivlm.generation.captions import caption_pictures
from minivlm.generation.loading import load_model
from minivlm.model import checkpoint
from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from tests.families import FAMILIES, write_base

pytestmark = pytest.mark.slow
QUESTION, NEW_TOKENS = "请描述这张图片。", 8
ALONE = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "minivlm":
            raise ImportError("this project is not here")

sys.meta_path.insert(0, Blocked())
try:
    import minivlm
except ImportError:
    pass
else:
    raise SystemExit("the project can be imported")

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

results = {}
for name, (directory, picture, question, count) in json.loads(sys.argv[1]).items():
    model = AutoModelForImageTextToText.from_pretrained(directory).eval()
    processor = AutoProcessor.from_pretrained(directory)
    parts = [{"type": "image"}, {"type": "text", "text": question}]
    prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    inputs = processor(images=[Image.open(picture)], text=[prompt], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    parts[0]["image"] = picture
    pipe = pipeline("image-text-to-text", model=directory)
    messages = [{"role": "user", "content": parts}]
    said = pipe(text=messages, max_new_tokens=count, return_full_text=False)
    results[name] = {
        "ids": inputs["input_ids"][0].tolist(), "logits": logits.tolist(), "text": said[0]["generated_text"],
        "eos": model.generation_config.eos_token_id, "sample": model.generation_config.do_sample,
    }
assert not [name for name in sys.modules if name.split(".")[0] == "minivlm"]
print(json.dumps(results))
"""


def expected_of(directory, base, picture):
    """(ids of the prompt, logits) as training computes them, and the caption as evaluation writes it."""
    model = checkpoint.load(directory)
    encoder = ChatEncoder(directory)
    turns = [{"role": "user", "content": f"<image>\n{QUESTION}"}, {"role": "assistant", "content": "是。"}]
    [row] = encoder.encode_rows([turns], model.config.image_seq_length)
    ids = torch.from_numpy(row.ids[: int(np.argmax(row.mask))])[None]
    pixels = torch.from_numpy(decode(picture.read_bytes(), Preparation.read(base / "vision_tower")))[None]
    objective = VisionLanguageLoss(model, *checkpoint.normalization(base)).eval()
    with torch.no_grad():
        embeddings = objective.embed(
            ids, pixels, torch.tensor([0]), (ids[0] == model.config.image_token_id).nonzero()[:, 0]
        )
        hidden_states = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden_states)[0]
    loaded = load_model(directory)
    [said] = caption_pictures(
        *loaded, [Image.open(picture).convert("RGB")], QUESTION, batch_size=1, max_new_tokens=NEW_TOKENS
    )
    return ids[0].tolist(), logits, said


def test_transformers_alone_gives_the_logits_of_training_and_the_captions_of_evaluation(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (23, 31, 3), dtype=np.uint8)
    picture = tmp_path / "picture.png"
    Image.fromarray(noise).save(picture)
    jobs, expected = {}, {}
    for name, family in FAMILIES.items():
        base = write_base(family, tmp_path / name, layer=-2)
        model = assemble(base, seed=1)
        with torch.no_grad():  # as after a training
            model.model.multi_modal_projector.linear_1.weight.mul_(1.5)
        directory = tmp_path / name / "model"
        checkpoint.save(model, base, directory, seed=0)
        jobs[name] = (str(directory), str(picture), QUESTION, NEW_TOKENS)
        expected[name] = expected_of(directory, base, picture)
    run = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, json.dumps(jobs)], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    for name, (ids, logits, said) in expected.items():
        result = found[name]
        assert result["ids"] == ids, name
        torch.testing.assert_close(torch.tensor(result["logits"]), logits, rtol=1e-5, atol=1e-5, msg=name)
        assert result["text"].strip() == said, name
        assert result["eos"] is not None and not result["sample"]
