"""The one exception for what a user can mend: bad input, bad parameters, missing files."""


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one line.

    Commands print the message behind `error:` and exit with code 2; no traceback is shown.
    """


class TrainingError(UserError):
    """Training cannot go on (for example a loss that is not finite); earlier checkpoints stay."""
