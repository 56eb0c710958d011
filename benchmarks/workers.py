"""Workers against threads on this machine, and how many workers one writer keeps busy.

    python benchmarks/workers.py FOLDER [--images 300] [--rounds 3] [--json FILE]

First, `vladkit index` with `--workers` and with as many threads, by one codebook: whole processes
that take turns. Processor time is that of all processes together.

Then a simulation of many workers. The driver is the real one, `Collection.add`: it finds files,
gives out tasks, gets records, and commits them to a real file; all that takes the processor time
that it takes. Workers have a clock instead of a processor: a task ends when its worker is free,
plus `--latency`, plus `--seconds` for each image, times what that image took here against the mean.
Waiting for the disk is not counted, nor is a scheduler between (Dask's takes 1 ms for a task, and
runs beside), nor is learning: there is a codebook. Records are those of real images, by turns, and
are unpickled as they would be.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from vladkit import Collection
from vladkit.bench.machine import provenance
from vladkit.collection.worker import State, describe
from vladkit.images import is_image_name
from vladkit.store.rows import ImageRow

N_TEMPLATES = 32


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and processor time in s of a command and its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "vladkit", *command], check=True, capture_output=True)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def pairs(home: Path, n: int, rounds: int) -> list[list[str]]:
    """Rows of a table: medians of wall and processor time, and the ratios in pairs."""
    ways = {f"{n} threads": ["-j", str(n)], f"--workers {n}": ["--workers", str(n)]}
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for i in range(rounds):
        for way in list(ways)[:: 1 if i % 2 else -1]:
            output = home / "c.vlad"
            words = ["--codebook", str(home / "words.npz"), *ways[way]]
            seconds[way].append(timed(["index", str(home / "photos"), "-o", str(output), *words]))
            output.unlink()
    rows = []
    for way, found in seconds.items():
        medians = [f"{statistics.median(column):.1f} s" for column in zip(*found, strict=True)]
        rows.append([way, *medians])
    ratios = zip(*(zip(*seconds[way], strict=True) for way in ways), strict=True)
    columns = [
        [many / few for few, many in zip(threads, workers, strict=True)]
        for threads, workers in ratios
    ]
    rows.append(["ratio in pairs", *(f"{statistics.median(column):.2f}" for column in columns)])
    return rows


class Simulated:
    """Executor of workers that have a clock instead of a processor.

    `now` is the driver's time: the processor time that it takes, and the time that it waits.
    """

    def __init__(self, n_workers: int, share: dict[int, float], blobs: list[bytes], args: Any):
        self.n_workers = n_workers
        self.share, self.blobs = share, blobs
        self.seconds, self.latency = args.seconds, args.latency
        self.free = [0.0] * n_workers
        self.now = self.waited = self.work = 0.0
        self.cpu = time.process_time()

    def pass_time(self) -> None:
        """Let the time pass that the driver has worked."""
        cpu = time.process_time()
        self.now, self.cpu = self.now + cpu - self.cpu, cpu

    def submit(self, function: Any, token: str, state: Any, work: Any, threads: int) -> Any:
        """Give the task to the worker that is free first."""
        self.pass_time()
        worker = min(range(self.n_workers), key=self.free.__getitem__)
        begin = max(self.now, self.free[worker]) + self.latency
        which = [int(Path(file).stem) % len(self.blobs) for file, _ in work]
        takes = self.seconds * sum(self.share[i] for i in which)
        self.work += takes
        end = self.free[worker] = begin + takes
        return _Later(self, end, which, work)


class _Later(Future):
    def __init__(self, workers: Simulated, end: float, which: list[int], work: Any):
        super().__init__()
        self.workers, self.end, self.which, self.work = workers, end, which, work

    def result(self, timeout: float | None = None) -> Any:
        self.workers.pass_time()
        self.workers.waited += max(0.0, self.end - self.workers.now)
        self.workers.now = max(self.workers.now, self.end)
        records = [pickle.loads(self.workers.blobs[i]) for i in self.which]
        sizes = [(r.row.width, r.row.height, r.row.n_local) for r in records]
        return [
            replace(r, row=replace(row, width=w, height=h, n_local=n))
            for r, (_, row), (w, h, n) in zip(records, self.work, sizes, strict=True)
        ]


def templates(home: Path, files: list[Path]) -> tuple[dict[int, float], list[bytes]]:
    """Records of some images, pickled, and what each took against their mean."""
    seconds, blobs = [], []
    with Collection.create(home / "t.vlad", codebook=home / "words.npz") as collection:
        state = State.of(collection.index)
        work = [(str(file), ImageRow(1, file.name, 1, 1)) for file in files]
        describe("", state, work[:1], 1)
        for each in work:
            begin = time.process_time()
            (record,) = describe("", state, [each], 1) or ()
            if record.vector_D is not None:
                seconds.append(time.process_time() - begin)
                blobs.append(pickle.dumps(record))
    mean = statistics.mean(seconds)
    kb = statistics.mean(map(len, blobs)) / 1e3
    print(f"{mean * 1e3:.0f} ms of a core and {kb:.0f} KB for an image; state {_mb(state)} MB")
    return {i: each / mean for i, each in enumerate(seconds)}, blobs


def _mb(state: State) -> str:
    return f"{len(pickle.dumps(state)) / 1e6:.1f}"


def simulate(home: Path, files: list[Path], args: Any) -> list[list[str]]:
    """Rows of a table: workers, images a second, against linear, the driver's time and share."""
    share, blobs = templates(home, files[-N_TEMPLATES:])
    rows = []
    for n in args.simulate:
        folder = home / f"{n}"
        folder.mkdir()
        n_images = n * args.per_worker
        for i in range(n_images):
            (folder / f"{i:06}.jpg").touch()
        workers = Simulated(n, share, blobs, args)
        with Collection.create(home / f"{n}.vlad", codebook=home / "words.npz") as collection:
            indexed = collection.add(folder, executor=workers).indexed
        workers.pass_time()
        assert indexed == n_images
        busy = workers.now - workers.waited
        ideal = workers.work / n
        rows.append(
            [str(n), str(n_images), f"{n_images / workers.now:.0f}", f"{ideal / workers.now:.2f}",
             f"{busy / n_images * 1e3:.2f} ms", f"{busy / workers.now:.2f}"]
        )  # fmt: skip
        shutil.rmtree(folder)
        (home / f"{n}.vlad").unlink()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=300, help="of the folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="0 only simulates")
    parser.add_argument("--simulate", type=int, nargs="*", default=[1, 8, 64, 128])
    parser.add_argument("--per-worker", type=int, default=200, help="images in the simulation")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a worker for an image")
    parser.add_argument("--latency", type=float, default=0.01, help="in s, of a task")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        (home / "photos").mkdir()
        found = sorted(file for file in args.folder.rglob("*") if is_image_name(file))
        files = []
        for i, file in enumerate(found[: args.images]):
            files.append(home / "photos" / f"{i:04}{file.suffix}")
            files[-1].symlink_to(file.resolve())
        Collection.learn(home / "words.npz", home / "photos")
        tables: dict[str, Any] = {}
        if args.rounds:
            columns = [f"{len(files)} images", "wall", "processor"]
            rows = pairs(home, args.workers, args.rounds)
            tables["pairs"] = {"columns": columns, "rows": rows}
        columns = ["workers", "images", "images a second", "of linear", "driver, for an image",
                   "driver's share of a core"]  # fmt: skip
        tables["simulated"] = {"columns": columns, "rows": simulate(home, files, args)}
    for table in tables.values():
        for line in (table["columns"], *table["rows"]):
            print(" | ".join(line))
    if args.json:
        about = provenance("benchmarks/workers.py --json")
        run = {"provenance": about, "tables": tables}
        args.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
