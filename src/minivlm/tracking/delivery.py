"""From the journal to MLflow, in order; a server that does not answer loses nothing.

Operations wait in a queue until MLflow has taken them. After a failure the next try comes after a pause that
doubles; the journal has everything. What MLflow refuses for good (say, a parameter with a second value) is
reported and noted, so that it does not hold up what follows.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path

from minivlm.tracking.journal import Journal, JournalReader, LostFileError, Operation
from minivlm.tracking.sender import BATCH, MissingRunError, Sender
from minivlm.tracking.store import connect, without_secrets

_FIRST_PAUSE, _LONGEST_PAUSE = 15.0, 600.0  # seconds
_QUICK = 1.0  # seconds: what fails sooner is tried again at once, since a server closes idle connections
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "MAX_LENGTH_EXCEEDED")
_NO_MODELS = ("ENDPOINT_NOT_FOUND", "NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED", "PERMISSION_DENIED")


class Delivery:
    """Sends operations to MLflow and notes in the journal what became of them."""

    def __init__(self, journal: Journal, home: Path, experiment: str, uri: str) -> None:
        """`uri` names the store, and `home` is the folder of the local one."""
        self.journal = journal
        self.failure = ""  # why something waits, in one line
        self.is_connected = False
        self.points = 0  # of metrics, that were sent
        self._place = home, experiment, uri
        self._created: float = journal.header().get("created", 0.0)
        self._sender: Sender | None = None
        self._pending: deque[Operation] = deque()
        self._taken = self._delivered = 0
        self._retry_at, self._pause = 0.0, _FIRST_PAUSE

    def take(self, operation: Operation) -> None:
        """Queue an operation of the journal; `flush` sends it."""
        self._pending.append(operation)
        self._taken = operation["seq"]

    def flush(self, now: bool = False) -> bool:
        """Send what waits; True when nothing waits any more. After a failure it pauses, unless `now`."""
        while self._pending and (now or time.monotonic() >= self._retry_at):
            began = time.monotonic()
            try:
                self._send_pending()
            except Exception as error:  # any failure of tracking must leave the training alone
                is_quick = not self.failure and time.monotonic() - began < _QUICK
                self.failure, self._sender = one_line(error), None  # to find out quickly whether it is there again
                if is_quick:
                    continue
                self._retry_at = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                break
        return not self._pending

    def skip(self, delivered: int) -> None:
        """Of what was taken, do not send again what is in MLflow up to operation `delivered`."""
        self._delivered = delivered

    @property
    def retry_seconds(self) -> float | None:
        """Seconds until the next try is due; None when nothing waits."""
        return max(0.0, self._retry_at - time.monotonic()) if self._pending else None

    def _send_pending(self) -> None:
        home, experiment, uri = self._place
        has_started_over = False
        if self._sender is None:
            self.is_connected = False
            client, experiment_id = connect(home, experiment, uri)
            self._sender = Sender(client, experiment_id, home, self._created)
            self.is_connected = True
        while self._pending:
            group = self._next_group()
            try:
                self._send(self._sender, group)
            except MissingRunError:  # it was begun in another store, or in one that was made anew since
                if not has_started_over:
                    has_started_over = True
                    self._start_over()
                    continue
                self._reject(group[0], "its run was never begun")
            if len(group) == 1:
                self._pending.popleft()
            else:
                sent = {operation["seq"] for operation in group}
                self._pending = deque(each for each in self._pending if each["seq"] not in sent)
            last = self._pending[0]["seq"] - 1 if self._pending else self._taken
            if last > self._delivered:
                self.journal.delivered(last)
        self.failure, self._pause = "", _FIRST_PAUSE

    def _next_group(self) -> list[Operation]:
        """The first operation or, of metrics, as many of the same run as one batch takes: those of a stage and of
        its reproduction are told in turn."""
        first = self._pending[0]
        if first["op"] != "metrics" or first["seq"] <= self._delivered:
            return [first]
        group: list[Operation] = []
        size = 0
        for operation in self._pending:
            if operation["op"] != "metrics":
                break
            if operation["run"] != first["run"]:
                continue
            size += len(operation["metrics"])
            if group and size > BATCH:
                break
            group.append(operation)
        return group

    def _send(self, sender: Sender, group: list[Operation]) -> None:
        """Send operations that one call takes; those that MLflow refuses are noted, each by itself."""
        operation = group[0]
        if operation["seq"] <= self._delivered:
            if operation["op"] == "run":
                sender.check_begun(operation["run"])
            return
        if operation["op"] == "metrics":
            operation = operation | {"metrics": [point for each in group for point in each["metrics"]]}
        try:
            sender.send(operation)
            self.points += len(operation.get("metrics", ()))
            return
        except Exception as error:
            if not _is_refusal(operation, error):
                raise
            reason = one_line(error)
        if sender.is_deleted(operation["run"]):
            print("warning: a run was deleted in MLflow: the rest of it is left out", file=sys.stderr)
        elif len(operation.get("metrics", ())) > 1:
            for each in group:
                for point in each["metrics"]:
                    self._send(sender, [each | {"metrics": [point]}])
        else:
            self._reject(operation, reason)

    def _start_over(self) -> None:
        """Wait with everything that was taken, from the journal's first line on."""
        reader = JournalReader(self.journal.path)
        operations = [operation for operation in reader.read() if operation["seq"] <= self._taken]
        reader.close()
        self._delivered = 0
        self._pending.clear()
        for operation in operations:
            self.take(operation)

    def _reject(self, operation: Operation, reason: str) -> None:
        print(f"warning: MLflow refuses {operation['op']}: {reason}", file=sys.stderr)
        self.journal.rejected(operation["seq"], reason)


def _is_refusal(operation: Operation, error: Exception) -> bool:
    """Whether MLflow will never take the operation. A store without a registry, or one that keeps it for others,
    takes no model, whatever it calls that; the run goes on without."""
    code = getattr(error, "error_code", "")
    refusals = _REFUSALS + _NO_MODELS * (operation["op"] == "model")
    return code in refusals or isinstance(error, LostFileError)


def one_line(error: Exception) -> str:
    """What went wrong, in at most 200 characters; MLflow tells the server's address with its password."""
    text = without_secrets(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "…"
