"""The descriptions of runs, for who sees MLflow's page for the first time."""

from minivlm.tracking.changes import FIRST, NOTHING

_ABOUT = {
    "download": "Draws the pictures and their conversations, or takes them from files or a hub.",
    "validate": "Checks every row; rows at fault are left out, by id and with the reason.",
    "base": "Trains the tokenizer, the vision tower and the language model, or takes ready ones.",
    "tokenize": "Turns the rows into tokens and loss masks.",
    "pretrain": "First stage of training: the projection from vision tower to language model, all else frozen.",
    "sft": "Second stage of training: the projection and the language model, on descriptions and conversations.",
    "evaluate": "Captions and scores the held-out pictures with the models of both stages.",
}


def stage_note(stage: str) -> str:
    """What a stage does, in a line."""
    return _ABOUT[stage]


def reproduction_note(changed: str, previous: str) -> str:
    """What a reproduction is and what it changed against the one named `previous`; see `changes.since_last`."""
    if changed == FIRST:
        said = "the first one that was noted here"
    elif changed == NOTHING:
        said = f"the same parameters, code and data as *{previous}*"
    else:
        said = f"changed since *{previous}*: {changed.replace('|', '/')}"
    return f"One run of the pipeline; {said}. The runs of its stages are its child runs."
