"""`Tasks`: images that the workers of an executor describe, a bounded number of them at a time.

Paths go out and records come back, some tens of KB for an image; no image and no descriptor is
sent. What makes the records, some MB, is sent once to each worker. A worker that ends takes what it
had in hand with it: that is given out again, and if it ends the next worker too, image by image,
so that an image that ends its worker is skipped by its name.
"""

from __future__ import annotations

import math
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Final, Self, TypeAlias

from vladkit.collection.index import Index
from vladkit.collection.processes import Processes
from vladkit.collection.recipe import Recipe
from vladkit.collection.records import BATCH, make_records
from vladkit.collection.worker import State, Work, describe
from vladkit.core.cores import usable_cores
from vladkit.errors import ParameterError, WorkerError
from vladkit.features.pool import Result
from vladkit.store.rows import Record

__all__ = ["Tasks", "check_executor"]

_TASK: Final = 8
"""Images of a task for each thread of a worker: about 1 s. Workers have none to do at the end for
half of that, on average; and a scheduler has 80 tasks a second for 64 workers."""

_ENDS: Final = "reading it ends the process that does it"

_Executor: TypeAlias = Any
"""Whatever has `submit`, as executors of concurrent.futures."""


def check_executor(executor: _Executor, recipe: Recipe) -> None:
    """Raise ParameterError unless an executor can be used for a collection of a recipe."""
    if not hasattr(executor, "submit"):
        raise ParameterError(
            f"executor={executor!r} has no submit: give an executor of concurrent.futures, a "
            "client of Dask's, or whatever has their submit"
        )
    if recipe.dimensions or recipe.vector_dimensions:
        raise ParameterError(
            "features of other programs are read from a file, not by workers: leave out executor "
            "(--workers, --cluster)"
        )


@dataclass(slots=True, eq=False)
class _Task:
    """Images that one worker describes, and the future of their records."""

    work: Work
    future: Any = None
    learned: dict[str, Any] = field(default_factory=dict)
    deaths: int = 0


@dataclass(slots=True, eq=False)
class _Batch:
    """Images that are committed together; of some the features are there already."""

    work: Work
    ready: dict[str, Result]
    tasks: list[_Task]


class Tasks:
    """Tasks of one run.

    Parameters
    ----------
    executor : object
        Whatever has `submit`; a client of Dask's, too.
    index : Index
        The open collection: its codebook has to be there when `batches` is consumed.
    """

    def __init__(self, executor: _Executor, index: Index) -> None:
        self._client = executor if hasattr(executor, "get_executor") else None
        self._executor = self._client.get_executor(pure=False) if self._client else executor
        self._index = index
        self._own: Processes | None = None
        self._pending: deque[_Batch] = deque()
        self._token, self._learned = "", {"": ""}  # nothing is learned like this
        self._state: Any = None
        self._n_to_send = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Cancel what is not begun."""
        for task in self._tasks():
            task.future.cancel()
        if self._own:
            self._own.stop()

    def batches(
        self, work: Iterable[tuple[str, Any]], spool: dict[str, Result], room: Callable[[], int]
    ) -> Iterator[Callable[[], list[Record]]]:
        """Functions that give the records of the next images, as the codebook makes them now.

        Parameters
        ----------
        work : iterable
            Files with their rows.
        spool : dict
            Features that were extracted already; they are taken out and encoded here.
        room : callable
            Most images that may be in hand before what was learned changes.
        """
        upcoming = iter(work)
        while True:
            with self._connected():
                while self._may_begin(room()) and (some := list(islice(upcoming, BATCH))):
                    ready = {file: spool.pop(file) for file, _ in some if file in spool}
                    rest = [each for each in some if each[0] not in ready]
                    size = min(BATCH, _TASK * self._threads)
                    tasks = [_Task(rest[i : i + size]) for i in range(0, len(rest), size)]
                    for task in tasks:
                        self._submit(task)
                    self._pending.append(_Batch(some, ready, tasks))
            if not self._pending:
                return
            yield partial(self._records, self._pending[0])
            self._pending.popleft()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Raise WorkerError for whatever the client raises once its scheduler is gone."""
        try:
            yield
        except Exception as error:
            # on its way to a scheduler that was started again it is "connecting"
            if getattr(self._client, "status", "running") == "running":
                raise
            raise WorkerError(
                "the scheduler of the cluster does not answer any more: start it again, and run "
                "again: what was committed stays"
            ) from error

    @property
    def _threads(self) -> int:
        return getattr(self._executor, "threads", 1)

    def _n_workers(self) -> int:
        if self._client is not None:  # some may have come or gone
            return sum(self._client.nthreads().values())
        for name in ("n_workers", "_max_workers"):
            if (n := getattr(self._executor, name, None)) is not None:
                return int(n)
        return usable_cores()

    def _may_begin(self, room: int) -> bool:
        """Whether another batch may be given out: two tasks for each worker and two batches."""
        n = len(self._pending)
        if n * BATCH >= room:
            return not n
        return n < 2 + math.ceil(2 * self._n_workers() * _TASK * self._threads / BATCH)

    def _tasks(self) -> Iterator[_Task]:
        return (task for batch in self._pending for task in batch.tasks)

    def _submit(self, task: _Task, *, with_state: bool = False) -> None:
        describer = self._index.describer
        if self._learned != describer.learned:
            self._learned, self._token = describer.learned, uuid.uuid4().hex
            self._ship(State.of(self._index))
        state = None
        if self._client is not None or with_state or self._n_to_send:
            state = self._state
            self._n_to_send = max(0, self._n_to_send - 1)
        task.learned = self._learned
        arguments = describe, self._token, state, task.work, self._threads
        try:
            task.future = self._executor.submit(*arguments)
        except BrokenExecutor:  # a pool of concurrent.futures cannot be used again
            self._executor = self._own = Processes(self._n_workers())
            task.future = self._executor.submit(*arguments)

    def _ship(self, state: State) -> None:
        self._state, self._n_to_send = state, self._n_workers()
        if self._client is not None:
            try:
                (self._state,) = self._client.scatter([state], broadcast=True, hash=False)
            except TimeoutError as error:
                raise WorkerError("the cluster has no workers: start some") from error

    def _records(self, batch: _Batch) -> list[Record]:
        by_file: dict[str, Record] = {}
        ready = [each for each in batch.work if each[0] in batch.ready]
        made = [(row, batch.ready[file]) for file, row in ready]
        here = make_records(self._index.describer, made, n_jobs=None)
        by_file |= zip((file for file, _ in ready), here, strict=True)
        for task in batch.tasks:
            with self._connected():
                by_file |= zip((file for file, _ in task.work), self._result(task), strict=True)
        return [by_file[file] for file, _ in batch.work]

    def _result(self, task: _Task) -> list[Record]:
        """Records of a task, however often it has to be given out."""
        while True:
            if task.learned != self._index.describer.learned:
                self._submit(task)
            try:
                records: list[Record] | None = task.future.result()
            except _deaths():
                if task.deaths == 1:
                    return self._one_by_one(task)
                self._begin_again()
                continue
            if records is not None:
                return records
            self._submit(task, with_state=True)

    def _begin_again(self) -> None:
        """Give out again what was lost with a worker: a pool loses all that is in hand."""
        self._learned = {"": ""}  # a cluster may have lost what was sent to it
        for task in self._tasks():
            if task.future.done() and _is_dead(task.future):
                task.deaths += 1
                self._submit(task)

    def _one_by_one(self, task: _Task) -> list[Record]:
        """Records of images each of which is in hand alone."""
        for other in self._tasks():
            with suppress(Exception, CancelledError):
                other.future.result()
        records = []
        self._alone([])
        for file, row in task.work:
            found = self._alone([(file, row)])
            if found is None:
                self._alone([])
                found = [Record(replace(row, skipped=_ENDS))]
            records += found
        for other in self._tasks():
            other.deaths = 0  # they were lost with this one
        return records

    def _alone(self, work: Work) -> list[Record] | None:
        """Records, or None if the worker ends; WorkerError if it does without any image."""
        task = _Task(work)
        try:
            self._submit(task, with_state=True)
            records: list[Record] | None = task.future.result()
            return records
        except _deaths() as error:
            self._learned = {"": ""}
            if not work:
                raise WorkerError(
                    f"workers end before they have an image in hand ({error}): is their memory "
                    "enough, and vladkit installed as it is here?"
                ) from error
            return None


def _deaths() -> tuple[type[BaseException], ...]:
    """Errors by which executors say that a worker has ended."""
    found: tuple[type[BaseException], ...] = (BrokenExecutor, CancelledError)
    if distributed := sys.modules.get("distributed"):
        found += (distributed.KilledWorker,)
    return found


def _is_dead(future: Any) -> bool:
    try:
        future.result()
    except _deaths():
        return True
    except Exception:
        return False
    return False
