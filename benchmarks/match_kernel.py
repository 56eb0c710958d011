"""Time and equality of ASMK's scores, against the program of Jenicek and Tolias, on one core.

    python benchmarks/match_kernel.py folder-of-images...
    python benchmarks/match_kernel.py photos --words 1024 --rounds 1
    python benchmarks/match_kernel.py photos --json > docs/results/asmk.json  # then docs/figures.py

The peer (https://github.com/jenicek/asmk, MIT) takes part where ``import asmk`` finds it, and yaml.
Both have the same codebook, descriptors and, for equal scores, words: faiss and we add up distances
in other orders, so that of two words that are equally near but for rounding one may choose the
other; `other words` says how often. Descriptors have SIFT's length, 512, because the peer adds 1e-6
to lengths before it divides by them. Words are rounded to whole numbers, because the residual of a
descriptor that is a word but for rounding is noise. No codes are rotated, as it does not. Codes
that are numbers, 0.8 MB an image, are compared with the first 500 images.

CPU times of one thread, the least of the rounds. Each query is an image of the database.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vladkit import ASMK, Codes, Ragged
from vladkit.bench.machine import provenance
from vladkit.bench.run import environment_for
from vladkit.features import Sift
from vladkit.images import is_image_name
from vladkit.kernels import selective


@contextmanager
def lists(codes: Codes, *, listed: bool) -> Iterator[None]:
    """Rows listed by word at once, as they are after 16 queries; or never."""
    codes._lists, before = None, selective._MANY_QUERIES
    selective._MANY_QUERIES = 0 if listed else 2**60
    try:
        yield
    finally:
        selective._MANY_QUERIES = before


def cpu_ms(run: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begin = time.thread_time()
        run()
        times.append(time.thread_time() - begin)
    return 1e3 * min(times)


def read(folders: list[Path], most: int) -> tuple[Ragged, list[np.ndarray]]:
    """Descriptors of images, RootSIFT of length 512, and their angles."""
    sift = Sift()
    files = [f for folder in folders for f in sorted(folder.rglob("*")) if is_image_name(f.name)]
    local, angle = [], []
    for file in files[:most]:
        try:
            features = sift.read(file)
        except OSError as error:
            print(f"{file}: {error}", file=sys.stderr)
            continue
        local.append(512 * sift.metric(features.descriptor_lf))
        angle.append(features.angle_l)
    return Ragged.from_list(local), angle


class Peer:
    """The peer's kernel and inverted lists, with words that were found here."""

    def __init__(self, asmk: ASMK, batch: Ragged) -> None:
        from asmk.codebook import Codebook
        from asmk.index import initialize_index
        from asmk.inverted_file import IVF
        from asmk.kernel import ASMKKernel

        self.asmk, self.batch = asmk, batch
        self.codebook = Codebook(initialize_index(None), size=len(asmk.centroids_))
        self.codebook.index(asmk.centroids_.astype(np.float32))
        self.kernel = ASMKKernel(self.codebook, binary=asmk.binary)
        parts = [self.aggregate(i, 1) for i in range(len(batch))]
        image_N = np.repeat(range(len(batch)), [len(word_s) for _, word_s in parts])
        self.lists = IVF.initialize_empty(codebook_size=len(asmk.centroids_), use_idf=False)
        self.lists.add(np.vstack([c for c, _ in parts]), np.hstack([w for _, w in parts]), image_N)

    def aggregate(self, i: int, n_assign: int) -> tuple[Any, Any]:
        """Codes and words of an image."""
        local_lf = self.batch.image(i)
        words = self.asmk._word_search.nearest(local_lf, n_assign, self.asmk.n_probes)
        return self.kernel.aggregate_image(local_lf, words)

    def search(self, codes: Any, words: Any) -> tuple[Any, Any]:
        """Images and scores."""
        options = {"alpha": self.asmk.alpha, "similarity_threshold": self.asmk.tau}

        def similarity(*pairs: Any) -> Any:
            return self.kernel.similarity(*pairs, **options)

        return self.lists.search(codes, words, topk=None, similarity_func=similarity)

    def compare(self, codes: Codes, queries: list[int], rounds: int) -> dict[str, float]:
        """Times, the greatest difference of scores, and the share of words that faiss chooses."""
        asmk, n_assign = self.asmk, int(self.asmk.n_assign)
        difference, other, scanned, ours, theirs = [], [], [], [], []
        for i in queries:
            query, peers = asmk.transform_queries(self.batch[[i]]), self.aggregate(i, n_assign)
            rank, score = self.search(*peers)
            wanted_n = np.zeros(len(codes))
            wanted_n[rank] = score
            difference.append(np.abs(asmk.similarity(query, codes)[0] - wanted_n).max())
            for times, listed in ((scanned, False), (ours, bool(asmk.binary))):
                with lists(codes, listed=listed):
                    times.append(cpu_ms(lambda q=query: asmk.similarity(q, codes), rounds))
            theirs.append(cpu_ms(lambda p=peers: self.search(*p), max(1, rounds // 5)))
            local_lf = self.batch.image(i)
            _, faiss_la = self.codebook.search_index.search(local_lf, n_assign)
            exact_la = asmk._word_search.nearest(local_lf, n_assign)
            other.append(np.mean(np.sort(faiss_la) != np.sort(exact_la)))
        return {
            "peer ms": float(np.mean(theirs)),
            "ours ms": float(np.mean(ours)),
            "ours first ms": float(np.mean(scanned)),
            "times": float(np.mean(theirs) / np.mean(ours)),
            "times first": float(np.mean(theirs) / np.mean(scanned)),
            "greatest difference": float(np.max(difference)),
            "other words": float(np.mean(other)),
        }


def has_peer() -> bool:
    try:
        import asmk.kernel  # noqa: F401
    except ImportError as error:
        print(f"without the peer: {error}", file=sys.stderr)
        return False
    return True


def measure(args: argparse.Namespace) -> dict[str, Any]:
    batch, angle = read(args.folders, args.images)
    n = len(batch)
    queries = np.linspace(0, n - 1, min(n, args.queries)).astype(int).tolist()
    fitted = ASMK(args.words, n_jobs=1)
    fit_ms = cpu_ms(lambda: fitted.fit(batch), 1)
    asmk = ASMK.from_centroids(np.rint(fitted.centroids_), rotation=None, n_jobs=1)
    result: dict[str, Any] = {
        "images": n,
        "descriptors": batch.n_local,
        "words": args.words,
        "fit s": fit_ms / 1e3,
        "agree": agreement(fitted, [batch.image(i) for i in queries]),
        "scores": [],
    }
    with_peer = has_peer()
    for binary in (True, False):
        selective._code(binary)._load()
        selective._code(binary).mark_ready()
        asmk.set_params(binary=binary)
        if not binary:
            batch, queries = batch[:500], [i * min(n, 500) // n for i in queries]
        codes = asmk.transform(batch)
        peer = Peer(asmk, batch) if with_peer else None
        for n_assign in (1, 5):
            asmk.set_params(n_assign=n_assign)
            row: dict[str, Any] = {"binary": binary, "n_assign": n_assign}
            if peer is not None:
                row |= peer.compare(codes, queries, args.rounds)
            if binary:
                row |= steps(asmk, batch, codes, angle, queries, args.rounds)
            result["scores"].append(row)
    return result


def agreement(asmk: ASMK, images: list[np.ndarray]) -> dict[int, float]:
    """Share of descriptors whose word is the nearest of all, by the number of cells looked into."""
    find = asmk._word_search.nearest
    exact = np.concatenate([find(x) for x in images])
    return {
        probes: float(np.mean(np.concatenate([find(x, 1, probes) for x in images]) == exact))
        for probes in (4, 8, 16)
    }


def steps(
    asmk: ASMK, batch: Ragged, codes: Codes, angle: list, queries: list[int], rounds: int
) -> dict[str, float]:
    """CPU ms of the steps of a search by one image, with angles, and of indexing one."""
    shortlist = np.random.default_rng(0).permutation(len(batch))[:500]
    direction_N = np.random.default_rng(0).integers(0, 256, len(codes.word_N), dtype=np.uint8)
    angled = Codes(codes.start_T, codes.word_N, codes.code_Nb, direction_N)
    times: dict[str, list[float]] = {}
    for i in queries:
        x, a = batch[[i]], [angle[i]]
        query = asmk.transform_queries(x, a)
        ways = {
            "index ms": lambda x=x, a=a: asmk.transform(x, a),
            "query ms": lambda x=x, a=a: asmk.transform_queries(x, a),
            "all ms": lambda q=query: asmk.similarity(q, angled),
            "listed ms": lambda q=query: asmk.similarity(q, angled),
            "500 ms": lambda q=query: asmk.similarity(q, angled, images=shortlist),
        }
        for name, run in ways.items():
            with lists(angled, listed=name == "listed ms"):
                times.setdefault(name, []).append(cpu_ms(run, rounds))
    return {name: float(np.mean(each)) for name, each in times.items()}


def tables(run: dict[str, Any]) -> dict[str, Any]:
    """Tables of docs/results/asmk.json."""
    rows = []
    for row in run["scores"]:
        if "times" not in row:
            continue
        kind, listed = "numbers", ["", ""]
        if row["binary"]:
            kind, listed = "bits", [f"{row['ours ms']:.1f}", f"{row['times']:.0f}"]
        rows.append([
            f"{kind}, {row['n_assign']}", f"{row['peer ms']:.0f}", f"{row['ours first ms']:.0f}",
            f"{row['times first']:.1f}", *listed, f"{row['greatest difference']:.0e}",
            f"{row['other words']:.0e}",
        ])  # fmt: skip
    columns = ["codes, words of a query's descriptor", "asmk ms", "scanned ms", "asmk / scanned",
               "listed ms", "asmk / listed", "greatest difference", "other words"]  # fmt: skip
    one, five = run["scores"][:2]
    cost = [
        ["codes of an image", f"{one['index ms']:.0f}"],
        ["codes of a query, 5 words for each descriptor", f"{five['query ms']:.0f}"],
        [f"scores of {run['images']:,} images", f"{five['all ms']:.1f}"],
        ["the same, listed by word", f"{five['listed ms']:.1f}"],
        ["scores of 500 of them", f"{five['500 ms']:.1f}"],
    ]
    agree = [[str(probes), f"{100 * share:.1f} %"] for probes, share in run["agree"].items()]
    return {
        "peer": {"columns": columns, "rows": rows},
        "cost": {"columns": ["step", "CPU ms"], "rows": cost},
        "agree": {"columns": ["cells", "the same word"], "rows": agree},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=2000, help="most images")
    parser.add_argument("--words", type=int, default=16_384)
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.here:  # a BLAS reads its number of threads when it is loaded
        command = [sys.executable, *sys.argv, "--here"]
        sys.exit(subprocess.run(command, env=environment_for(1)).returncode)
    run = measure(args)
    made = tables(run)
    if args.json:
        about = provenance("benchmarks/match_kernel.py --json")
        json.dump({"provenance": about, "run": run, "tables": made}, sys.stdout, indent=1)
        print()
        return
    for table in made.values():
        for row in (table["columns"], *table["rows"]):
            print(" | ".join(row))
        print()


if __name__ == "__main__":
    main()
