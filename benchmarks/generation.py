"""How fast a model answers: time to the first token and tokens a second, with and without the key-value cache.

    python -m benchmarks.generation

Through the code of `minivlm caption` (pictures prepared, prompt encoded, greedy steps), with as many new tokens as
asked for, end or no end. Models: one of true size with random weights, and the trained one where there is one.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from benchmarks.setting import Setting

QUESTION = "请描述这张图片。"
RANDOM = "26m-random"


def measure(
    name: str,
    directory: Path,
    pictures: Sequence[Image.Image],
    *,
    device: str,
    tokens: int,
    repeats: int,
    batches: Sequence[int] = (1, 8),
) -> list[dict[str, Any]]:
    """A row for each batch size and with the cache on and off: medians over the repeats, after one to warm up.

    `first_token_seconds`: from the pictures to the first token of all captions; `tokens_per_second`: of the tokens
    after it, over the batch. `tokens` (at least 2) are generated for every picture.
    """
    from minivlm.generation.loading import load_model

    model, processor = load_model(directory, device)
    rows = []
    for batch in batches:
        shown = [pictures[i % len(pictures)] for i in range(batch)]
        for cache in (True, False):
            answers = [generate(model, processor, shown, tokens, cache) for _ in range(repeats + 1)][1:]
            rows.append(
                {
                    "model": name,
                    "parameters": sum(p.numel() for p in model.parameters()),
                    "batch": batch,
                    "cache": cache,
                    "first_token_seconds": statistics.median(answer.first for answer in answers),
                    "tokens_per_second": statistics.median(answer.later / answer.rest for answer in answers),
                }
            )
    return rows


@dataclass(frozen=True)
class Answer:
    """Seconds until the first tokens of a batch, and those of the rest; all new tokens, (B, tokens)."""

    first: float
    rest: float
    ids: torch.Tensor

    @property
    def later(self) -> int:
        """Tokens after the first ones."""
        return int(self.ids[:, 1:].numel())


def generate(model: Any, processor: Any, pictures: Sequence[Image.Image], tokens: int, cache: bool) -> Answer:
    """Caption pictures with exactly `tokens` tokens each, the most probable one at every step."""
    import torch

    from benchmarks.clock import now
    from minivlm.generation.prompts import build_prompt, embed, one_question, picture_features

    device = str(model.device)
    times: list[float] = []

    def look(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """A stopping criterion that never stops: transformers asks it after every token."""
        if not times:
            times.append(now(device))
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    start = now(device)
    features = picture_features(model, processor, pictures)
    prompt = build_prompt(processor, one_question(QUESTION), features.shape[1])
    embeddings, mask = embed(model, [prompt] * len(features), features)
    with torch.inference_mode():
        if cache:
            ids = model.generate(
                inputs_embeds=embeddings,
                attention_mask=mask,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                max_new_tokens=tokens,
                eos_token_id=[],  # no end: the length is given
                stopping_criteria=[look],
            )
        else:
            ids = _without_cache(model, embeddings, tokens, look)
    return Answer(times[0] - start, now(device) - times[0], ids)


def _without_cache(model: Any, embeddings: torch.Tensor, tokens: int, look: Callable[..., Any]) -> torch.Tensor:
    """The same tokens with everything computed anew for each: transformers' `generate` keeps its cache whatever it
    is told, once it is given embeddings."""
    import torch

    ids: list[torch.Tensor] = []
    while len(ids) < tokens:
        logits = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=1).logits  # (B, 1, vocabulary)
        ids.append(logits.argmax(-1))
        look(ids[-1], None)
        embeddings = torch.cat((embeddings, model.get_input_embeddings()(ids[-1])), dim=1)
    return torch.cat(ids, dim=1)


def write_random(folder: Path, base: Any) -> tuple[Path, Setting]:
    """A LLaVA directory of these sizes with random weights, and the setting that it and its pictures are from."""
    from benchmarks.setting import write_setting
    from minivlm.model.checkpoint import save

    setting = write_setting(folder, base, rows=8, longest={"pretrain": 640, "sft": 640})
    save(setting.model(), setting.base, folder / "model", seed=setting.seed)
    return folder / "model", setting


def open_pictures(setting: Setting) -> list[Image.Image]:
    """The pictures of a setting, decoded."""
    from PIL import Image

    store = setting.pictures()
    return [Image.open(io.BytesIO(store.bytes(i))).convert("RGB") for i in range(len(store))]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    given = _parser().parse_args(arguments)
    from benchmarks.record import destination, record, table
    from benchmarks.setting import profile
    from minivlm.device import resolve_device
    from minivlm.paths import Paths

    results = destination(given.directory, given.quick)
    device = resolve_device(given.device)
    tokens, repeats = (8, 1) if given.quick else (given.tokens, given.repeats)
    trained = given.model or Paths().model("sft")
    rows = []
    with tempfile.TemporaryDirectory(prefix="minivlm-generation-") as folder:
        directory, setting = write_random(Path(folder), profile()["base"])
        models = {RANDOM: directory}
        if (trained / "config.json").is_file():
            models["trained"] = trained
        else:
            print(f"{trained}: no model there; the random one alone is measured")
        for name, place in models.items():
            rows += measure(name, place, open_pictures(setting), device=device, tokens=tokens, repeats=repeats)
    table([_shown(row) for row in rows], f"Answers of {tokens} tokens")
    figures = {"models": rows, "tokens": tokens, "device": device}
    print(record("generation", figures, repeats=repeats, directory=results))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": row["model"],
        "batch": row["batch"],
        "cache": "on" if row["cache"] else "off",
        "first token, ms": 1000 * row["first_token_seconds"],
        "tokens/s": row["tokens_per_second"],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens of every answer")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats")
    parser.add_argument("--model", type=Path, help="a LLaVA directory; artifacts/sft/model by default")
    parser.add_argument("--quick", action="store_true", help="one repeat of 8 tokens: to see that it runs")
    parser.add_argument("--directory", type=Path, help="where generation.json goes: benchmarks/results by default")
    return parser


if __name__ == "__main__":
    from benchmarks.record import run

    run(main)
