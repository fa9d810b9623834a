"""What a stage would do, before it does it: `python -m pipelines.<stage> --dry-run`.

Parameters and what lies on the disk → a tree of plain values for JSON. Nothing is written, no network is touched,
no weight is made: models are built without storage (torch's meta device). Figures come from upstream artifacts
where those are of the present parameters, else from the parameters; each says which (`rows`, `rows_from`). What
cannot be known yet is null: with a bound (`steps_at_most`), or with the reason (`steps_why`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minivlm.config import Params
from minivlm.errors import UserError
from minivlm.paths import STAGES, Paths

if TYPE_CHECKING:
    from minivlm.planning.present import Present


def plan(stage: str, params: Params, paths: Paths) -> dict[str, Any]:
    """The plan of a stage, ready for JSON. UserError for a damaged upstream artifact, or no such stage."""
    from minivlm.planning.present import Present

    return plan_with(stage, params, Present(paths))


def plan_with(stage: str, params: Params, present: Present) -> dict[str, Any]:
    """The same, of artifacts that were looked at already."""
    from minivlm.planning import base, data, evaluation, training

    plans = {
        "download": data.download,
        "validate": data.validate,
        "base": base.base,
        "tokenize": data.tokenize,
        "pretrain": training.pretrain,
        "sft": training.sft,
        "evaluate": evaluation.evaluate,
    }
    if stage not in plans:
        raise UserError(f"no stage {stage!r}; there are: {', '.join(STAGES)}")
    return plans[stage](params, present)
