"""A model that a stage offers to the registry: what is told of it, once, before MLflow hears of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivlm.files import sha256_tree
from minivlm.tracking.champion import Score
from minivlm.tracking.pyfunc import requirements


@dataclass(frozen=True)
class Candidate:
    """A LLaVA directory that the stage `stage` has made, and what its version of the registered model `name` says.

    `question` and `max_new_tokens` are what it answers with where nothing else is asked; `example` is a picture as
    a data URI; `description` is markdown. Without a `score` it is registered and never becomes champion.
    """

    name: str
    stage: str
    directory: Path
    question: str
    max_new_tokens: int
    example: str
    description: str
    score: Score | None

    def told(self) -> dict[str, Any]:
        """What the journal holds of it, beside copies of its files and of the code.

        `digest` is what tells versions apart: the same files that answer another question are another version.
        """
        files = sha256_tree(self.directory)
        return {
            "name": self.name,
            "stage": self.stage,
            "files": files,
            "digest": _digest([files, self.question, self.max_new_tokens]),
            "question": self.question,
            "max_new_tokens": self.max_new_tokens,
            "example": self.example,
            "description": self.description,
            "score": list(self.score) if self.score else None,
            "requirements": requirements(),
        }


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
