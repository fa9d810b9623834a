"""Time of a training stage: its operations, and what one takes by a probe of this machine or on paper.

Operations are counted from the token store where that is of the present parameters, else from rows and lengths
that are assumed or stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.config.training import Training
from minivlm.device import resolve_device, resolve_precision
from minivlm.paths import TRAIN_SPLITS
from minivlm.planning.assumptions import Asked, expected_lengths, fewer_rows, stated_rows
from minivlm.planning.bounds import row_over_budget
from minivlm.planning.elsewhere import Seconds
from minivlm.planning.feature_cache import features_disk, kept_bytes, pictures_of_rows, pictures_present
from minivlm.planning.models import image_tokens, llava_config, llm_config, tower_config
from minivlm.planning.present import Present
from minivlm.planning.ranges import Factor, Range, rate, with_factors
from minivlm.planning.rows import store_meta
from minivlm.planning.work import Lengths, Work, work_assumed, work_of_store

if TYPE_CHECKING:
    from minivlm.data.store import TokenStore
    from minivlm.planning.probe import Rows

DRIFT = Factor("time", 0.9, 1.25, "a minute stands for the whole run (clocks, other work on the machine): assumed")
CACHED = Factor(
    "feature cache", 0.95, 1.25, "the probe's steps read features from memory, not from the disk: assumed"
)


@dataclass(frozen=True)
class _Case:
    """A stage that is estimated; `config` of its LLaVA model, `patches` of a picture."""

    stage: str
    params: Params
    present: Present
    asked: Asked
    config: Any
    patches: int

    @property
    def section(self) -> Training:
        found: Training = getattr(self.params, self.stage)
        return found

    @property
    def device(self) -> str:
        return resolve_device(self.params.runtime.device)

    @property
    def precision(self) -> str:
        return "bf16" if self.asked.paper else resolve_precision(self.section.precision, self.device)


@dataclass(frozen=True)
class _Counted:
    """What a stage computes, the lengths of its rows, and its token store where that is what was counted."""

    work: Work
    lengths: Lengths
    store: TokenStore | None


def training_seconds(stage: str, params: Params, present: Present, asked: Asked) -> Seconds:
    """The seconds of a training stage, as cost.json will have them: without loading, decoding ahead, saving."""
    tower, llm = tower_config(params, present), llm_config(params, present)
    if tower.config is None or llm.config is None:
        return Seconds.unknown(tower.source if tower.config is None else llm.source)
    meta = store_meta(stage, present)
    token = None if meta is None else int(meta["image_token_id"])
    config = llava_config(tower.config, llm.config, params.base.vision_feature_layer, token)
    case = _Case(stage, params, present, asked, config, image_tokens(tower).value or 0)
    counted = _counted(case, has_store=meta is not None)
    if isinstance(counted, str):
        return Seconds.unknown(counted)
    details = _details(case, counted)
    if params.runtime.feature_cache:
        details["features"] = _features(case, counted)
    factors = _of_the_rows(case, counted)
    return _on_paper(case, counted, factors, details) if asked.paper else _probed(case, counted, factors, details)


def _counted(case: _Case, has_store: bool) -> _Counted | str:
    """What the stage computes, or why that is not known."""
    from minivlm.training.operations import OperationCounter

    stage, params, asked, section = case.stage, case.params, case.asked, case.section
    counter, cached = OperationCounter(case.config, section.freeze), params.runtime.feature_cache
    if has_store and stage not in asked.rows and stage not in asked.tokens:
        from minivlm.data.store import TokenStore

        store = TokenStore(case.present.paths.tokens(stage))
        work = work_of_store(store, section, params.seed, counter, case.present.name(store.directory), cached)
        return _Counted(work, Lengths(work.tokens / work.samples, 0, 0, work.source), store)
    rows, source = stated_rows(stage, params, case.present, asked)
    if rows is None:
        return f"rows unknown: {source}; state them: --rows {stage}=N"
    longest, fraction = params.tokenize.max_length, params.tokenize.validation_fraction
    lengths = expected_lengths(stage, asked, case.patches, longest, section.batch_tokens)
    said = f"{source}; {lengths.source}"
    work = work_assumed(
        rows, lengths, case.patches, longest, fraction, section, params.seed, counter, said, cached
    )
    return _Counted(work, lengths, None)


def _details(case: _Case, counted: _Counted) -> dict[str, Any]:
    """What is computed, and whether that is exact."""
    work, section = counted.work, case.section
    found = {
        "rows": work.rows,
        "epochs": section.epochs,
        "tokens_per_row": counted.lengths.mean,
        "steps": work.steps,
        "samples": work.samples,
        "tokens": work.tokens,
        "padded_tokens": work.padded_tokens,
        "padding_share": 1 - work.tokens / work.padded_tokens,
        "flops": work.flops,
        "validation_flops": work.validation_flops,
        "exact": work.exact,
        "counted_from": work.source,
    }
    note = row_over_budget(case.stage, case.params.tokenize.max_length, section.batch_tokens)
    return found | ({"note": note} if note and not work.exact else {})


def _features(case: _Case, counted: _Counted) -> dict[str, Any]:
    """Disk of the feature cache, and what the pass that fills it computes."""
    work, width = counted.work, case.config.vision_config.hidden_size
    if counted.store is None:
        rows = {name: stated_rows(name, case.params, case.present, case.asked)[0] for name in TRAIN_SPLITS}
        held, kept = pictures_of_rows(rows | {case.stage: work.pictures}), 0
        assert held is not None  # this stage's are known
    else:
        held, kept = pictures_present(case.present), kept_bytes(case.params, case.precision, case.present)
    return {
        **features_disk(held, case.patches, width, case.precision, case.present, kept),
        "filled_pictures": work.pictures,
        "fill_flops": work.fill_flops,
    }


def _of_the_rows(case: _Case, counted: _Counted) -> list[Factor]:
    """How far rows and lengths are uncertain."""
    work, lengths, factors = counted.work, counted.lengths, list[Factor]()
    if work.exact:
        return factors
    if case.stage not in case.asked.rows and (few := fewer_rows(case.params)) is not None:
        factors.append(few)
    ends = f"rows of {lengths.low:.0f} to {lengths.high:.0f} tokens on average"
    return [*factors, Factor("lengths", work.low, work.high, ends)]


def _on_paper(case: _Case, counted: _Counted, factors: list[Factor], details: dict[str, Any]) -> Seconds:
    """Seconds from operations, a device's peak and an assumed share of it."""
    from minivlm.training.projection import LAUNCH_SECONDS, projection

    work = counted.work
    flops = work.flops + work.validation_flops + work.fill_flops
    there = projection(flops, work.batches, case.params.prices, case.asked.device)
    low, high = there["seconds_low"] / there["seconds"], there["seconds_high"] / there["seconds"]
    said = (
        f"MFU {there['mfu_low']:g} to {there['mfu_high']:g}, {there['assumed_mfu']:g} expected "
        f"({there['mfu_from'].partition(':')[0]}); a micro-batch takes "
        f"{1000 * LAUNCH_SECONDS['_low']:g} to {1000 * LAUNCH_SECONDS['_high']:g} ms at least, "
        f"{1000 * LAUNCH_SECONDS['']:g} expected"
    )
    factors = [*factors, Factor("MFU and launches", low, high, said)]
    details |= {name: there[name] for name in ("peak_flops_per_second", "peak_source")}
    if "features" in details:
        reached = there["peak_flops_per_second"] * there["assumed_mfu"]
        details["features"]["fill_seconds"] = work.fill_flops / reached
    return Seconds(with_factors(there["seconds"], factors), factors, details=details)


def _probed(case: _Case, counted: _Counted, factors: list[Factor], details: dict[str, Any]) -> Seconds:
    """Seconds from timed steps: seconds an operation x operations, of training and of validation."""
    from minivlm.planning.probe import Conditions, probe

    work, params = counted.work, case.params
    workers = params.runtime.workers or hardware.cores()
    with TemporaryDirectory(prefix="minivlm-estimate-") as folder:
        rows, details["probe_rows"] = _probe_rows(case, counted, Path(folder))
        timed = probe(
            case.config, case.section, rows, Conditions(case.device, case.precision, params.threads, workers),
            samples=work.samples, filled=work.pictures, seed=params.seed, seconds=case.asked.seconds,
        )  # fmt: skip
    training, validation = rate(timed.steps), rate(timed.validation)
    filling = rate(timed.filling).times(work.pictures) if timed.filling else Range(0, 0, 0)
    seconds = training.expected * work.flops + validation.expected * work.validation_flops + filling.expected
    said = f"95 % of resamples of {len(timed.steps)} timed steps"
    spread = Factor("step times", training.low / training.expected, training.high / training.expected, said)
    factors = [*factors, spread, DRIFT]
    if "features" in details:
        details["features"] |= {"fill_seconds": filling.expected, "probe_groups": len(timed.filling)}
        low, high = ((seconds + end - filling.expected) / seconds for end in (filling.low, filling.high))
        factors += [Factor("filling", low, high, f"{len(timed.filling)} timed groups of pictures"), CACHED]
    details |= {
        "probe_steps": len(timed.steps),
        "probe_seconds_per_step": sum(seconds for seconds, _ in timed.steps) / len(timed.steps),
        "samples_per_second": work.samples / (training.expected * work.flops),
        "flops_per_second": 1 / training.expected,
        "probe_peak_memory_bytes": timed.memory,
    }
    return Seconds(with_factors(seconds, factors), factors, details=details)


def _probe_rows(case: _Case, counted: _Counted, folder: Path) -> tuple[Rows, str]:
    """What the probe trains on: the stage's own rows, or drawn ones in a folder; and which."""
    from minivlm.data.pictures import Preparation
    from minivlm.data.store import PictureStore
    from minivlm.planning.drawn_rows import draw_rows
    from minivlm.planning.probe import MOST, Rows

    params, section, vision, paths = case.params, case.section, case.config.vision_config, case.present.paths
    if (store := counted.store) is not None:
        pictures = PictureStore(paths.tokens("pictures"))
        preparation = Preparation.read(paths.base_part("vision_tower"))
        return Rows(store, pictures, preparation, store.image_token_id), counted.work.source
    scenes = params.download.scenes
    size = scenes.size if params.download.source == "scenes" else vision.image_size
    rows = draw_rows(
        folder, mean=counted.lengths.mean, longest=params.tokenize.max_length,
        batch_tokens=section.batch_tokens, batches=min(MOST, 64) * section.accumulation,
        image_tokens=(vision.image_size // vision.patch_size) ** 2, vocabulary=case.config.text_config.vocab_size,
        size=size, side=vision.image_size, quality=scenes.jpeg_quality, seed=params.seed,
    )  # fmt: skip
    return rows, f"drawn: random words, drawn pictures of {size} x {size} as JPEG (assumed)"
