"""Journals that were left: of stages that are gone and whose couriers are, or could not reach MLflow.

They are delivered in the order in which they were begun, each to where its run was meant to go. One process does
it at a time; a journal that somebody still writes to, or delivers, is left alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from minivlm.locks import exclusive
from minivlm.tracking.delivery import Delivery, one_line
from minivlm.tracking.journal import FORMAT, Journal, JournalReader, OpenRuns, read_header
from minivlm.tracking.store import uri_of


@dataclass
class Left:
    """What became of the journals in `folder`, by their stages' names."""

    folder: Path
    delivered: list[str] = field(default_factory=list)
    points: int = 0  # of metrics, that were sent
    waiting: list[str] = field(default_factory=list)
    living: int = 0
    reason: str = ""  # why the first of those that wait does

    def news(self) -> str:
        """One line about what was delivered or waits; "" when there was nothing."""
        said = []
        if self.delivered:
            what = f"{_journals(len(self.delivered))} ({', '.join(self.delivered)}), {self.points:,} metrics"
            said.append(f"delivered to MLflow what was left: {what}")
        if self.waiting:
            what = f"{_journals(len(self.waiting))} ({', '.join(self.waiting)})"
            said.append(f"still waiting for MLflow: {what} in {self.folder}: {self.reason}")
        return "; ".join(said)

    def line(self) -> str:
        """The same, or that there was nothing, and what is left alone."""
        living = f"{_journals(self.living)} of a stage that runs, left alone" if self.living else ""
        return "; ".join(filter(None, (self.news(), living))) or "no journal waits for MLflow"


def _journals(number: int) -> str:
    return "1 journal" if number == 1 else f"{number} journals"


def deliver_left(folder: Path, home: Path, experiment: str, *, wait: bool = False, to: str = "") -> Left:
    """Deliver every journal in `folder` that was left, to its own store or to the one at `to`.

    When another process is doing that, `wait` for it or leave it to it. `experiment` is that of journals that name
    none.
    """
    left = Left(folder)
    if not any(folder.glob("*.jsonl")):
        return left
    try:
        with exclusive(home / ".backlog.lock", wait):
            _deliver_all(left, home, experiment, to)
    except BlockingIOError:
        pass
    return left


def _deliver_all(left: Left, home: Path, experiment: str, to: str) -> None:
    away = dict[str, str]()  # stores that do not answer, and what was said
    for path in _in_order(left.folder):
        journal = Journal.seize(path)
        if journal is None:
            left.living += path.exists()
            continue
        header = journal.header()
        uri = to or uri_of(header.get("server", ""), home)
        delivery = Delivery(journal, home, header.get("experiment") or experiment, uri)
        try:
            if header.get("format", FORMAT) != FORMAT:
                reason = f"{path.name} was written by another version of minivlm"
            elif not (reason := away.get(uri, "")):
                reason = _deliver(journal, delivery)
                if not delivery.is_connected:
                    away[uri] = reason
        except OSError as error:  # of the journal itself, say a full disk
            reason = one_line(error)
        journal.close()
        left.points += delivery.points
        left.reason = left.reason or reason
        if reason or delivery.is_connected:  # else it was killed before it had said anything
            (left.waiting if reason else left.delivered).append(str(header.get("stage", path.stem)))


def _in_order(folder: Path) -> list[Path]:
    """The journals, the one that was begun first at the head."""
    begun = {path: (read_header(path).get("created", 0.0), path.name) for path in folder.glob("*.jsonl")}
    return sorted(begun, key=lambda path: begun[path])


def _deliver(journal: Journal, delivery: Delivery) -> str:
    """Deliver what a journal holds and remove it; why it could not be done, in one line, or ""."""
    reader, runs = JournalReader(journal.path), OpenRuns()
    last_written = os.stat(journal.path).st_mtime_ns // 1_000_000
    for operation in reader.read():
        delivery.take(operation)
        runs.see(operation)
    delivery.skip(reader.delivered)
    reader.close()
    for operation in journal.end_runs(runs, last_written):
        delivery.take(operation)
    if not delivery.flush(now=True):
        return delivery.failure
    journal.discard()
    return ""
