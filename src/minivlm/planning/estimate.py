"""What a run will take, before anything is spent: `minivlm estimate`.

Parameters (a profile merged in memory) → for every stage hours, money, memory and disk, each with a range and with
where the range comes from; JSON-ready. Training stages are timed by a short probe on this machine, or calculated
for a named device (`paper`). Other stages count only where a benchmark or an earlier run measured them.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.config.training import Training
from minivlm.device import resolve_device, resolve_precision
from minivlm.errors import UserError
from minivlm.planning import plan_with
from minivlm.planning.assumptions import Asked, expected_lengths, fewer_rows, stated_rows
from minivlm.planning.bounds import row_over_budget
from minivlm.planning.elsewhere import Seconds, other_stage
from minivlm.planning.feature_cache import features_disk, kept_bytes, pictures_of_rows, pictures_present
from minivlm.planning.models import image_tokens, llava_config, llm_config, tower_config
from minivlm.planning.present import Present
from minivlm.planning.ranges import Factor, rate, with_factors
from minivlm.planning.room import room, totals
from minivlm.planning.rows import store_meta
from minivlm.planning.training import memory_on
from minivlm.planning.work import Lengths, Work, work_assumed, work_of_store

TRAININGS = ("pretrain", "sft")
DRIFT = Factor("time", 0.9, 1.25, "a minute stands for the whole run (clocks, other work on the machine): assumed")
CACHED = Factor(
    "feature cache",
    0.75,
    1.5,
    "steps are probed with the tower, whose rate is not the rest's; filling took up to 1.5 times as long as at "
    "their rate (benchmarks/results/features.json)",
)


def estimate(params: Params, present: Present, asked: Asked) -> dict[str, Any]:
    """The estimate. UserError for a device that no peak is known of, and for what is stated and cannot be."""
    if asked.paper:
        from minivlm.training.peaks import BOARDS

        if asked.device not in BOARDS:
            raise UserError(f"no peak is known of {asked.device!r}; known are: {', '.join(BOARDS)}")
        name, precision = asked.device, "bf16"
        price = params.prices.gpu_hour.get(name)
        # Nothing runs here: the GPU that params.yaml asks for need not be in this machine.
        params = params.model_copy(update={"runtime": params.runtime.model_copy(update={"device": "cpu"})})
    else:
        device = resolve_device(params.runtime.device)
        name = hardware.device_name(device)
        precision = resolve_precision(params.pretrain.precision, device)
        price = hardware.price_per_hour(name, params.prices)
    stages = {stage: _stage(stage, params, present, asked, price) for stage in asked.stages}
    return {
        "how": "paper: operations / (peak x assumed MFU)" if asked.paper else "probe: real steps on this machine",
        "device": name,
        "precision": precision,
        "currency": params.prices.currency,
        "price_per_hour": price,
        "stages": stages,
        "total": totals(stages),
    }


def _stage(stage: str, params: Params, present: Present, asked: Asked, price: float | None) -> dict[str, Any]:
    planned = plan_with(stage, params, present)
    entry: dict[str, Any] = {}
    if stage in TRAININGS:
        found = _training(stage, params, present, asked)
        if asked.paper:
            from minivlm.training.peaks import BOARDS

            planned |= memory_on(stage, params, present, BOARDS[asked.device].memory)
    else:
        # On paper a device is named, and what was measured here says nothing of it.
        found = Seconds.unknown("not calculated on paper") if asked.paper else other_stage(stage, params, present)
    entry |= found.details
    if found.value is None:
        entry |= {"seconds": None, "hours": None, "money": None, "why": found.why}
    else:
        entry["seconds"], entry["hours"] = found.value.fields(), found.value.times(1 / 3600).fields()
        entry["money"] = None if price is None else found.value.times(price / 3600).fields()
        entry["uncertainty"] = [factor.fields() for factor in found.factors]
    return entry | room(planned)


def _training(stage: str, params: Params, present: Present, asked: Asked) -> Seconds:
    """The seconds of a training stage, as cost.json will have them: without loading, decoding ahead, saving."""
    from minivlm.training.operations import OperationCounter

    section: Training = getattr(params, stage)
    tower, llm = tower_config(params, present), llm_config(params, present)
    if tower.config is None or llm.config is None:
        return Seconds.unknown(tower.source if tower.config is None else llm.source)
    meta = store_meta(stage, present)
    token = None if meta is None else int(meta["image_token_id"])
    config = llava_config(tower.config, llm.config, params.base.vision_feature_layer, token)
    counter = OperationCounter(config, section.freeze)
    patches = image_tokens(tower).value or 0
    cached = params.runtime.feature_cache
    known = None
    if meta is not None and stage not in asked.rows and stage not in asked.tokens:
        from minivlm.data.store import TokenStore

        known = TokenStore(present.paths.tokens(stage))
        work = work_of_store(known, section, params.seed, counter, present.name(known.directory), cached)
        lengths = Lengths(work.tokens / work.samples, 0, 0, work.source)
    else:
        rows, source = stated_rows(stage, params, present, asked)
        if rows is None:
            return Seconds.unknown(f"rows unknown: {source}; state them: --rows {stage}=N")
        lengths = expected_lengths(stage, asked, patches, params.tokenize.max_length, section.batch_tokens)
        fraction = params.tokenize.validation_fraction
        longest = params.tokenize.max_length
        work = work_assumed(
            rows,
            lengths,
            patches,
            longest,
            fraction,
            section,
            params.seed,
            counter,
            f"{source}; {lengths.source}",
            cached,
        )
    details = _details(work, section, lengths)
    note = "" if work.exact else row_over_budget(stage, params.tokenize.max_length, section.batch_tokens)
    details |= {"note": note} if note else {}
    if cached:
        precision = (
            "bf16" if asked.paper else resolve_precision(section.precision, resolve_device(params.runtime.device))
        )
        width = tower.config.hidden_size
        if known is None:
            rows_of = {name: stated_rows(name, params, present, asked)[0] for name in TRAININGS}
            held, kept = pictures_of_rows(rows_of | {stage: work.pictures}), 0
        else:
            held, kept = pictures_present(present), kept_bytes(params, precision, present)
        assert held is not None
        details["features"] = {
            **features_disk(held, patches, width, precision, present, kept),
            "filled_pictures": work.pictures,
            "fill_flops": work.fill_flops,
        }
    factors = []
    if not work.exact:
        if stage not in asked.rows and (few := fewer_rows(params)) is not None:
            factors.append(few)
        ends = f"rows of {lengths.low:.0f} to {lengths.high:.0f} tokens on average"
        factors.append(Factor("lengths", work.low, work.high, ends))
    if asked.paper:
        from minivlm.training.projection import LAUNCH_SECONDS, projection

        there = projection(
            work.flops + work.validation_flops + work.fill_flops, work.batches, params.prices, asked.device
        )
        low, high = there["seconds_low"] / there["seconds"], there["seconds_high"] / there["seconds"]
        said = (
            f"MFU {there['mfu_low']:g} to {there['mfu_high']:g}, {there['assumed_mfu']:g} expected "
            f"({there['mfu_from'].partition(':')[0]}); a micro-batch takes "
            f"{1000 * LAUNCH_SECONDS['_low']:g} to {1000 * LAUNCH_SECONDS['_high']:g} ms at least, "
            f"{1000 * LAUNCH_SECONDS['']:g} expected"
        )
        factors.append(Factor("MFU and launches", low, high, said))
        details["peak_flops_per_second"], details["peak_source"] = (
            there["peak_flops_per_second"],
            there["peak_source"],
        )
        if cached:
            rate_there = there["peak_flops_per_second"] * there["assumed_mfu"]
            details["features"]["fill_seconds"] = work.fill_flops / rate_there
        return Seconds(with_factors(there["seconds"], factors), factors, details=details)
    return _probed(stage, params, present, asked, work, config, known, lengths, factors, details)


def _probed(
    stage: str, params: Params, present: Present, asked: Asked, work: Work, config: Any, known: Any,
    lengths: Lengths, factors: list[Factor], details: dict[str, Any],
) -> Seconds:  # fmt: skip
    """Seconds from timed steps: seconds an operation x operations, of training and of validation."""
    from minivlm.data.pictures import Preparation
    from minivlm.data.store import PictureStore
    from minivlm.planning.probe import MOST, Rows, draw_rows, probe

    section: Training = getattr(params, stage)
    device = resolve_device(params.runtime.device)
    vision = config.vision_config
    with TemporaryDirectory(prefix="minivlm-estimate-") as folder:
        if known is not None:
            rows = Rows(
                known,
                PictureStore(present.paths.tokens("pictures")),
                Preparation.read(present.paths.base_part("vision_tower")),
                known.image_token_id,
            )
            details["probe_rows"] = work.source
        else:
            scenes = params.download.scenes
            size = scenes.size if params.download.source == "scenes" else vision.image_size
            rows = draw_rows(
                Path(folder), mean=lengths.mean, longest=params.tokenize.max_length,
                batch_tokens=section.batch_tokens, batches=min(MOST, 64) * section.accumulation,
                image_tokens=(vision.image_size // vision.patch_size) ** 2,
                vocabulary=config.text_config.vocab_size,
                size=size, side=vision.image_size, quality=scenes.jpeg_quality, seed=params.seed,
            )  # fmt: skip
            details["probe_rows"] = f"drawn: random words, drawn pictures of {size} x {size} as JPEG (assumed)"
        timed = probe(
            config, section, rows, precision=resolve_precision(section.precision, device), device=device,
            threads=params.threads, workers=params.runtime.workers or hardware.cores(), samples=work.samples,
            seed=params.seed, seconds=asked.seconds,
        )  # fmt: skip
    training, validation = rate(timed.steps), rate(timed.validation)
    filling = training.expected * work.fill_flops
    seconds = training.expected * work.flops + validation.expected * work.validation_flops + filling
    spread = Factor(
        "step times",
        training.low / training.expected,
        training.high / training.expected,
        f"95 % of resamples of {len(timed.steps)} timed steps",
    )
    factors += [spread, DRIFT, *([CACHED] if params.runtime.feature_cache else [])]
    if "features" in details:
        details["features"]["fill_seconds"] = filling
    rows_per_step = work.samples / work.steps
    per_step = sum(seconds for seconds, _ in timed.steps) / len(timed.steps)
    details |= {
        "probe_steps": len(timed.steps),
        "probe_seconds_per_step": per_step,
        "samples_per_second": rows_per_step / (training.expected * work.flops / work.steps),
        "flops_per_second": 1 / training.expected,
        "probe_peak_memory_bytes": timed.memory,
    }
    return Seconds(with_factors(seconds, factors), factors, details=details)


def _details(work: Work, section: Training, lengths: Lengths) -> dict[str, Any]:
    """What is computed, and whether that is exact."""
    return {
        "rows": work.rows,
        "epochs": section.epochs,
        "tokens_per_row": lengths.mean,
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
