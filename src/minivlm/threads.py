"""How long threads that compute together wait for each other with a core in their hands."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_SPINS = "1000"  # libgomp's own number where it knows of more threads than cores


def share_cores(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have threads on a CPU that wait for each other leave their cores soon; call it before torch is imported.

    OpenMP has them ask 300,000 times whether the others are there. Where another program has a core, they ask on
    the one that the last of them needs. A wait that the user has chosen stays. For training: what writes answers,
    whose parts are far shorter, loses more by it.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)
