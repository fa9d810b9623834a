"""Arguments as they were typed, also under LC_ALL=C."""


def as_typed(argument: str) -> str:
    """An argument as UTF-8, which Python reads byte by byte under a C locale; what is none becomes U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
