"""Progress on stderr: a bar on a terminal; elsewhere a line a minute, if it takes that long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from vladkit.cli.output import say

if TYPE_CHECKING:
    from vladkit.collection.collection import Progress

__all__ = ["progress_bar"]

_TITLES: Final = {
    "try apart": "trying again",
    "sample": "learning",
    "learn": "learning again",
    "index": "indexing",
    "again": "indexing again",
    "dates": "reading dates",
    "queries": "queries",
    "check": "checking",
    "adapt": "adapting",
    "duplicates": "comparing",
    "apply": "linking or moving",
    "pairs": "pairing",
    "match": "matching",
    "localize": "locating",
    "frames": "frames",
    "join": "joining",
    "whiten": "whitening",
    "fetch": "fetching",
    "thumbnails": "images",
    "merge": "merging",
    "export": "exporting",
}

_EVERY: Final = 60.0
"""Seconds between two lines in a log: a run of hours fills a screen or two."""


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """The callable to hand to `Collection.add` as `progress`; it shows nothing before a call."""
    view = _Bars() if sys.stderr.isatty() else _Lines()
    try:
        yield view.update
    finally:
        view.stop()


class _Bars:
    """A bar for each step, with rate and time left; they go away in the end."""

    def __init__(self) -> None:
        self._update: Callable[[str, int, int], None] | None = None
        self.stop: Callable[[], None] = lambda: None

    def update(self, step: str, done: int, total: int) -> None:
        if self._update is None:
            self._start()
            assert self._update is not None
        self._update(step, done, total)

    def _start(self) -> None:
        """Import rich, which a command that needs no bar does without."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            ProgressColumn,
            Task,
            TaskID,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")

        bars = Bars(
            TextColumn("{task.description:9}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # it would print answers on stderr
        )
        tasks: dict[str, TaskID] = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(_TITLES.get(step, step), total=total)
            bars.update(tasks[step], completed=done, total=total)

        bars.start()
        self._update, self.stop = update, bars.stop


class _Lines:
    """A line a minute, and one at the end of a step that took longer than that."""

    def __init__(self) -> None:
        self._step = ""
        self._done = self._total = 0
        self._begin = self._said = 0.0

    def update(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if step != self._step or done < self._done:
            self.stop()
            self._step, self._begin, self._said = step, now, now
        self._done, self._total = done, total
        if now - self._said >= _EVERY and done < total:
            self._said = now
            rate = done / (now - self._begin)
            left = f", {_clock((total - done) / rate)} left" if rate else ""
            say(f"{self._title}: {done}/{total}, {rate:.1f}/s{left}")

    def stop(self) -> None:
        took = time.monotonic() - self._begin
        if self._step and took >= _EVERY:
            say(f"{self._title}: {self._done}/{self._total} in {_clock(took)}")
        self._step = ""

    @property
    def _title(self) -> str:
        return _TITLES.get(self._step, self._step)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
