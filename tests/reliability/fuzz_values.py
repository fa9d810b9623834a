"""Values that Hypothesis makes: of parameters, and of lines of rows with the pictures that they name."""

from __future__ import annotations

from typing import Any, NamedTuple

import hypothesis
from hypothesis import strategies as st


class Times(NamedTuple):
    """A change of a number by a factor; of anything else none."""

    factor: float

    def of(self, value: Any) -> Any:
        """The value after it, of the same type."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
        return type(value)(value * self.factor) if is_number else value


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from((0, 1, 2**31, 2**63, 2**64, 10**18, 10**400)),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ("", "auto", "hub", "local", "train", "projector", "llm", "../x", "/etc/passwd", "0" * 64, "\x00")
    ),
    st.binary(max_size=4),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(max_size=8), st.integers(), st.none()), inner, max_size=4),
    ),
    max_leaves=8,
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)
NAMES = (
    *("0.jpg", "00.jpg", "a/0.jpg", "../0.jpg", "/etc/passwd", "C:\\x.jpg", "\\\\host\\x", "..", ".", "", " "),
    *(
        "link.jpg",
        "dangling.jpg",
        "pipe.jpg",
        "folder",
        "a/../../x",
        "x\0.jpg",
        "\ud800.jpg",
        "é.jpg",
        "e\u0301.jpg",
    ),
    *("x" * 300, "0.jpg,00.jpg", ",,", "con", "0.jpg ", "./0.jpg"),
)
_TURN = st.one_of(
    _JSON,
    st.fixed_dictionaries(
        {
            "role": st.one_of(st.sampled_from(("user", "assistant", "system", "tool")), _JSON),
            "content": st.one_of(st.sampled_from(("<image>\n问？", "答。", "<image><image>", "")), _JSON),
        }
    ),
)
ROW = st.one_of(
    _JSON,
    st.fixed_dictionaries(
        {
            "conversations": st.one_of(st.lists(_TURN, max_size=4), _JSON),
            "image": st.one_of(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=20), _JSON),
        }
    ),
)
ROWS = st.lists(ROW, min_size=1, max_size=6)


def changes(keys: list[tuple[str, ...]]) -> st.SearchStrategy[list[tuple[tuple[str, ...], Any]]]:
    """One to three places among `keys` with another value, mostly one near to what belongs there."""
    times = st.sampled_from((0.25, 0.5, 2, 3, 10)).map(Times)
    near = st.one_of(times, times, times, st.integers(-2, 2000), st.floats(0, 2), SCALARS, VALUES)
    return st.lists(st.tuples(st.sampled_from(keys), near), min_size=1, max_size=3)


def examples(strategy: st.SearchStrategy[Any], count: int, seed: int) -> list[Any]:
    """`count` values of a strategy, the same for the same seed."""
    found: list[Any] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.generate,),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return [found[place % len(found)] for place in range(count)] if found else []
