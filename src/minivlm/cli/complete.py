"""What the shell completes: names of profiles, stages and parameters. Each takes what is typed so far."""

from collections.abc import Iterable

from minivlm.paths import STAGES, TRAIN_SPLITS, Paths


def profiles(incomplete: str) -> list[str]:
    """Files of profiles/, without .yaml."""
    return _beginning(incomplete, sorted(path.stem for path in Paths().profiles.glob("*.yaml")))


def stages(incomplete: str) -> list[str]:
    """The seven stages."""
    return _beginning(incomplete, STAGES)


def stated(incomplete: str) -> list[str]:
    """A stage that trains, and what a number is put behind."""
    return _beginning(incomplete, [f"{stage}=" for stage in TRAIN_SPLITS])


def pinned_sections(incomplete: str) -> list[str]:
    """Sections that name files."""
    return _beginning(incomplete, ("download", "base"))


def parameters(incomplete: str) -> list[str]:
    """One part of a dotted key at a time; a section that is the only one left comes with its keys.

    `s`: seed, sft; `sf`: sft, sft.epochs, sft.learning_rate and so on, so that the shell adds no space behind sft.
    """
    from minivlm.config.explain import parameters as known

    def at(depth: int) -> list[str]:
        return list(dict.fromkeys(".".join(key.split(".")[:depth]) for key in known() if not {"*", "["} & {*key}))

    depth = incomplete.count(".") + 1
    found = _beginning(incomplete, at(depth))
    return found + (_beginning(f"{found[0]}.", at(depth + 1)) if len(found) == 1 else [])


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
