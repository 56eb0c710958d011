"""A progress bar on stderr with rate and time left; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vladkit.collection.collection import Progress

__all__ = ["progress_bar"]

_TITLES = {
    "sample": "learning",
    "index": "indexing",
    "queries": "queries",
    "check": "checking",
    "adapt": "adapting",
    "duplicates": "comparing",
    "pairs": "pairing",
    "match": "matching",
    "join": "joining",
    "whiten": "whitening",
    "fetch": "fetching",
    "thumbnails": "images",
}


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress | None]:
    """What to hand to `Collection.add` as `progress`."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
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
    )
    tasks: dict[str, object] = {}

    def update(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = bars.add_task(_TITLES.get(step, step), total=total)
        bars.update(tasks[step], completed=done, total=total)  # type: ignore[arg-type]

    with bars:
        yield update
