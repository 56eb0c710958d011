"""Ways to encode that are compared: our methods, the bare product, and installed peers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from vladkit import kernels
from vladkit.aggregation.encode import encode
from vladkit.bench import peers
from vladkit.bench.results import LeftOut
from vladkit.core.arrays import FloatArray
from vladkit.errors import MissingDependencyError

__all__ = ["ARTICLE_LOOP", "PRODUCT", "Way", "held_to", "ways_for"]

PRODUCT: Final = "X @ C.T"
ARTICLE_LOOP: Final = "article loop"

_ORDER: Final = (
    ARTICLE_LOOP, PRODUCT, "fused", "jax", "torch", "faiss + add.at", "sparse", "reduceat",
    "article sort+cumsum", "article add.at", "cumsum", "scatter", "loop", "mask", "article mask",
)  # fmt: skip
"""Order in which ways are prepared and take turns. The last ones are skipped first if there is no
time left. Slow ways follow each other, because the second core of a virtual machine, asleep while
`loop` runs on one, takes some ms to wake up."""

Call: TypeAlias = Callable[[], Any]


@dataclass(frozen=True)
class Way:
    """A program that is timed.

    Parameters
    ----------
    name : str
    kind : {"method", "peer", "floor"}
    bind : callable
        Takes images (m, l, f), converts them for the way, to a tensor for instance, and returns
        the call to time. `numpy.asarray` of its result is (m, k, f), except for the floor.
    is_quick : bool
        Whether it can skip the trial on a few images. (JAX compiles for each shape.)
    middle_copies : int
        Number of intermediate (m, l, k, f) arrays: a way is skipped if they are too large.
    """

    name: str
    kind: str
    bind: Callable[[FloatArray], Call]
    is_quick: bool = False
    middle_copies: int = 0


def ways_for(
    local_tlf: FloatArray, centroid_kf: FloatArray, threads: int, only: Sequence[str] | None = None
) -> tuple[list[Way], list[LeftOut]]:
    """All ways for these centroids, and those whose library is missing, with the reason.

    `only` names the wanted ones; the bare product and the loop are always included.
    """
    ways, left_out = [_product(centroid_kf)], []
    wanted = None if only is None else {*only, "loop", ARTICLE_LOOP}
    for method in kernels.METHODS:
        if wanted is None or method in wanted:
            try:
                kernels.load(method)
            except MissingDependencyError as error:
                left_out.append(LeftOut(method, str(error)))
            else:
                ways.append(_METHODS.get(method, _method)(method, centroid_kf, threads))
    for names, library, package, make in _PEERS:
        if wanted is None or wanted & set(names):
            reason = _why_not(library, package)
            if reason is None:
                ways += [w for w in make(local_tlf, centroid_kf) if not wanted or w.name in wanted]
            else:
                left_out += [LeftOut(name, reason) for name in names]
    return sorted(ways, key=lambda way: _ORDER.index(way.name)), left_out


@contextmanager
def held_to(threads: int) -> Iterator[None]:
    """Limit torch and faiss, if loaded, to `threads` threads within the block.

    Other libraries read an environment variable on import: see `vladkit.bench.run`.
    """
    torch, faiss = sys.modules.get("torch"), sys.modules.get("faiss")
    before_torch = torch.get_num_threads() if torch is not None else 0
    before_faiss = faiss.omp_get_max_threads() if faiss is not None else 0
    try:
        if torch is not None:
            torch.set_num_threads(threads)
        if faiss is not None:
            faiss.omp_set_num_threads(threads)
        yield
    finally:
        if torch is not None:
            torch.set_num_threads(before_torch)
        if faiss is not None:
            faiss.omp_set_num_threads(before_faiss)


def _product(centroid_kf: FloatArray) -> Way:
    def bind(local_tlf: FloatArray) -> Call:
        local_Nf = local_tlf.reshape(-1, local_tlf.shape[2])
        score_Nk = np.empty((len(local_Nf), len(centroid_kf)), local_tlf.dtype)
        return lambda: np.matmul(local_Nf, centroid_kf.T, out=score_Nk)

    return Way(PRODUCT, "floor", bind, is_quick=True)


def _method(method: str, centroid_kf: FloatArray, threads: int) -> Way:
    def bind(local_tlf: FloatArray) -> Call:
        return lambda: encode(local_tlf, centroid_kf, method=method, n_jobs=threads)

    copies = 2 if method == "mask" else 0
    return Way(method, "method", bind, is_quick=method == "fused", middle_copies=copies)


def _torch(method: str, centroid_kf: FloatArray, threads: int) -> Way:
    import torch

    def bind(local_tlf: FloatArray) -> Call:
        local, centroid = torch.from_numpy(local_tlf), torch.from_numpy(centroid_kf)
        return lambda: encode(local, centroid)

    return Way(method, "method", bind, is_quick=True)


def _jax(method: str, centroid_kf: FloatArray, threads: int) -> Way:
    import jax

    def bind(local_tlf: FloatArray) -> Call:
        wide = local_tlf.dtype == np.float64  # JAX converts these to float32 by default
        with jax.enable_x64(wide):
            local = jax.device_put(local_tlf).block_until_ready()
            centroid = jax.device_put(centroid_kf).block_until_ready()

        def call() -> Any:
            with jax.enable_x64(wide):
                return encode(local, centroid).block_until_ready()

        return call

    return Way(method, "method", bind, is_quick=True)


_METHODS: Final = {"torch": _torch, "jax": _jax}


def _article(local_tlf: FloatArray, centroid_kf: FloatArray) -> list[Way]:
    kmeans = peers.fitted_kmeans(local_tlf, centroid_kf)

    def way(name: str, program: Callable[[Any, FloatArray], FloatArray], copies: int = 0) -> Way:
        return Way(name, "peer", lambda x: lambda: program(kmeans, x), middle_copies=copies)

    return [
        way(ARTICLE_LOOP, peers.article_loop),
        way("article mask", peers.article_mask, 2),
        way("article add.at", peers.article_add_at),
        way("article sort+cumsum", peers.article_cumsum),
    ]


def _faiss(local_tlf: FloatArray, centroid_kf: FloatArray) -> list[Way]:
    index = peers.faiss_index(centroid_kf)

    def bind(x_tlf: FloatArray) -> Call:
        return lambda: peers.faiss_add_at(index, centroid_kf, x_tlf)

    return [Way("faiss + add.at", "peer", bind)]


_PEERS: Final = [
    (
        (ARTICLE_LOOP, "article mask", "article add.at", "article sort+cumsum"),
        "sklearn",
        "scikit-learn",
        _article,
    ),
    (("faiss + add.at",), "faiss", "faiss-cpu", _faiss),
]


def _why_not(library: str, package: str) -> str | None:
    if library == "faiss" and sys.platform == "darwin" and "torch" in sys.modules:
        return "faiss and torch in one process crash on macOS: uninstall torch to measure faiss"
    try:
        importlib.import_module(library)
    except ImportError as error:
        if error.name != library:
            return f"{package} is installed but cannot be imported: {error}"
        return f"needs {package}, which is not installed: pip install {package}"
    return None
