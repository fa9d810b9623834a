"""The exceptions that a user reads as one line: what can be mended, and a training that was asked to stop."""


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one line.

    Commands print the message behind `error:` and exit with code 2; no traceback is shown.
    """


class TrainingError(UserError):
    """Training cannot go on (for example a loss that is not finite); earlier checkpoints stay."""


class StoppedError(Exception):
    """A training was asked to stop, by SIGTERM or Ctrl-C, and has saved what it goes on from.

    Commands print the message behind `stopped:` and exit with code 75: run the same again.
    """
