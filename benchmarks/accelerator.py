"""Encodings and sums on a GPU: vladkit beside what torch and JAX users write, and the floors.

    python benchmarks/accelerator.py --json docs/results/accelerator.json   # then: docs/figures.py
    python benchmarks/accelerator.py --blocks      # sizes of blocks that `_plan` could choose
    python benchmarks/accelerator.py --device cpu --quick                   # does it run?

Two times of each call, both medians: of the device, by its own events while the host is ahead; and
of the clock, from call to result, which small batches spend in Python. `read` is the time to read
input and write output once, at the rate that a sum over 1 GB reaches; `product` is X @ C.T in the
same dtype, without tf32. Errors are of one sum of float32, over the exact one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vladkit import encode, segment_sum
from vladkit.bench.cases import Case
from vladkit.bench.machine import provenance
from vladkit.bench.sum_cases import SumCase

ENCODINGS = [
    Case(256, 128, 64, 16),  # the article's
    Case(1, 1000, 128, 64),
    Case(256, 1024, 128, 64),
    Case(1024, 1000, 128, 64),
    Case(64, 2000, 128, 256),
    Case(256, 1024, 128, 1024),
    Case(64, 529, 1536, 32),  # AnyLoc's
    Case(1, 100_000, 128, 64),
]
SUMS = [
    SumCase(32_768, 64, 4096),
    SumCase(1_000_000, 1, 1000),
    SumCase(1_000_000, 8, 100_000),
    SumCase(4_000_000, 64, 4096),
    SumCase(4_000_000, 64, 4096, order="sorted"),
    SumCase(20_000_000, 4, 100),
    SumCase(20_000_000, 4, 100, order="sorted"),
    SumCase(50_000_000, 1, 1_000_000),
]
Cells = list[str]


class Clock:
    """Medians of the device's and the clock's time of a call, in ms."""

    def __init__(self, device: str, repeats: int) -> None:
        self.is_cuda = device == "cuda"
        self.repeats = repeats
        self.flush = torch.empty(2**28 if self.is_cuda else 1, dtype=torch.uint8, device=device)

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def wall(self, call: Callable[[], object]) -> float:
        """Time from call to result."""
        call()
        took = []
        for _ in range(self.repeats):
            self.wait()
            begin = time.perf_counter()
            call()
            self.wait()
            took.append(1e3 * (time.perf_counter() - begin))
        return statistics.median(took)

    def device(self, call: Callable[[], object]) -> float:
        """Time of the device's own work; on a CPU the same as `wall`."""
        if not self.is_cuda:
            return self.wall(call)
        call()
        took = []
        for _ in range(self.repeats):
            self.flush.zero_()  # nothing of the input is left in the cache
            torch.cuda._sleep(2_000_000)  # a millisecond in which the host runs ahead
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            self.wait()
            took.append(begin.elapsed_time(end))
        return statistics.median(took)

    def bytes_per_ms(self) -> float:
        """Rate at which a sum reads memory."""
        x = torch.randn(2**28 if self.is_cuda else 2**20, device=self.flush.device)
        return 4 * len(x) / self.device(x.sum)


def eager(local_tlf: torch.Tensor, centroid_kf: torch.Tensor) -> torch.Tensor:
    """Residual sums as one writes them: ``cdist``, ``argmin``, ``index_add_``, all in float32."""
    t, l, f = local_tlf.shape
    k = len(centroid_kf)
    local_Nf = local_tlf.reshape(-1, f).float()
    label_N = torch.cdist(local_Nf, centroid_kf).argmin(-1)
    bucket_N = label_N + torch.arange(t, device=label_N.device).repeat_interleave(l) * k
    total_bf = torch.zeros(t * k, f, device=label_N.device)
    return total_bf.index_add_(0, bucket_N, local_Nf - centroid_kf[label_N])


def one_hot(local_tlf: torch.Tensor, centroid_kf: torch.Tensor) -> torch.Tensor:
    """The same through a dense mask, as most NetVLAD code has it."""
    local_tlf = local_tlf.float()
    label_tl = torch.cdist(local_tlf, centroid_kf[None]).argmin(-1)
    mask_tlk = torch.nn.functional.one_hot(label_tl, len(centroid_kf)).float()
    total_tkf = torch.einsum("tlk,tlf->tkf", mask_tlk, local_tlf)
    return total_tkf - mask_tlk.sum(1)[..., None] * centroid_kf


def has_jax() -> bool:
    """Tell whether JAX is there, with a device."""
    try:
        import jax
    except ImportError:
        return False
    return jax.default_backend() != "cpu"


def with_jax(case: Case) -> dict[str, Callable[[], object]]:
    """`encode` of a JAX array, and a scatter in float32; nothing without JAX on the device."""
    if not has_jax():
        return {}
    import jax
    import jax.numpy as jnp

    local, centroid = (jnp.asarray(x) for x in case.arrays())

    @jax.jit
    def scatter(local_tlf: jax.Array, centroid_kf: jax.Array) -> jax.Array:
        t, _, f = local_tlf.shape
        score_tlk = jnp.einsum("tlf,kf->tlk", local_tlf, centroid_kf, precision="highest")
        label_tl = (score_tlk - 0.5 * (centroid_kf**2).sum(1)).argmax(-1)
        bucket_N = (jnp.arange(t)[:, None] * len(centroid_kf) + label_tl).reshape(-1)
        residual_Nf = (local_tlf - centroid_kf[label_tl]).reshape(-1, f)
        return jax.ops.segment_sum(residual_Nf, bucket_N, t * len(centroid_kf))

    return {
        "JAX": lambda: jax.block_until_ready(encode(local, centroid)),
        "JAX, scatter": lambda: jax.block_until_ready(scatter(local, centroid)),
    }


def sums_with_jax(case: SumCase) -> dict[str, Callable[[], object]]:
    """`segment_sum` of JAX arrays and JAX's own, in float32; nothing without JAX on the device."""
    if not has_jax():
        return {}
    import jax
    import jax.numpy as jnp

    values, segment = (jnp.asarray(x) for x in case.arrays())
    own = jax.jit(partial(jax.ops.segment_sum, num_segments=case.n_segments))
    return {
        "JAX": lambda: jax.block_until_ready(segment_sum(values, segment, case.n_segments)),
        "jax.ops.segment_sum": lambda: jax.block_until_ready(own(values, segment)),
    }


def encodings(clock: Clock, cases: list[Case], rate: float) -> dict:
    """Times of each case, in float32 and bfloat16."""
    device = clock.flush.device
    rows: list[Cells] = []
    for dtype, case in itertools.product((torch.float32, torch.bfloat16), cases):
        local, centroid = (torch.from_numpy(x).to(device) for x in case.arrays())
        local = local.to(dtype)
        local_Nf, half_kf = local.reshape(-1, case.f), centroid.to(dtype)
        ways: dict[str, Callable[[], object]] = {
            "encode": lambda x=local, c=centroid: encode(x, c),
            "eager": lambda x=local, c=centroid: eager(x, c),
            "one-hot": lambda x=local, c=centroid: one_hot(x, c),
            "product": lambda x=local_Nf, c=half_kf: x @ c.T,
        }
        gpu = {name: clock.device(call) for name, call in ways.items()}
        wall = {name: clock.wall(ways[name]) for name in ("encode", "eager", "one-hot")}
        jax = with_jax(case) if dtype == torch.float32 else {}
        wall |= {name: clock.wall(call) for name, call in jax.items()}
        moved = local.nbytes + 4 * case.t * case.k * case.f
        row = [f"{case.t} x {case.l} x {case.f}, {case.k}, {str(dtype)[6:]}"]
        row += [f"{gpu[w]:.3f}" for w in ("encode", "eager", "one-hot", "product")]
        row += [f"{moved / rate:.3f}"]
        row += [f"{wall[w]:.2f}" if w in wall else "" for w in
                ("encode", "eager", "one-hot", "JAX", "JAX, scatter")]  # fmt: skip
        rows.append(row)
        print(*row, sep=" | ", flush=True)
    columns = ["images x descriptors x dimensions, k", "`encode`", "eager", "one-hot", "product",
               "read", "`encode`, clock", "eager, clock", "one-hot, clock", "JAX, clock",
               "JAX scatter, clock"]  # fmt: skip
    return {"columns": columns, "rows": rows}


def sums(clock: Clock, cases: list[SumCase], rate: float) -> dict:
    """Times of sums of float32 rows."""
    device = clock.flush.device
    rows: list[Cells] = []
    for case in cases:
        values, segment = (torch.from_numpy(x).to(device) for x in case.arrays())
        s = case.n_segments
        value_Nf = values.reshape(len(segment), -1)

        def zeros(s: int = s, f: int = value_Nf.shape[1]) -> torch.Tensor:
            return torch.zeros(s, f, device=device)

        index_Nf = segment[:, None].expand(value_Nf.shape)
        ways = {
            "segment_sum": lambda x=value_Nf, i=segment, s=s: segment_sum(x, i, s),
            "scatter_add_": lambda x=value_Nf, i=index_Nf, z=zeros: z().scatter_add_(0, i, x),
            "index_add_": lambda x=value_Nf, i=segment, z=zeros: z().index_add_(0, i, x),
        }
        gpu = [clock.device(call) for call in ways.values()]
        wall = [clock.wall(call) for call in ways.values()]
        wall += [clock.wall(call) for call in sums_with_jax(case).values()]
        moved = value_Nf.nbytes + segment.nbytes + 4 * s * value_Nf.shape[1]
        row = [case.name, *(f"{t:.3f}" for t in (*gpu, moved / rate)), *(f"{t:.2f}" for t in wall)]
        rows.append(row)
        print(*row, sep=" | ", flush=True)
    clocked = [*(f"`{w}`" for w in ways), *(["JAX", "`jax.ops.segment_sum`"] if has_jax() else [])]
    columns = ["rows", *(f"`{w}`" for w in ways), "read", *(f"{w}, clock" for w in clocked)]
    return {"columns": columns, "rows": rows}


def accuracy(device: torch.device, n: int) -> dict:
    """Relative errors of long sums."""
    sign = np.where(np.arange(n // 10) % 2, -1, 1)
    mixed = (np.random.default_rng(0).uniform(1, 2, n // 10) * sign).astype(np.float32)
    kinds = {
        f"{n:.0e} ones": np.ones(n, np.float32),
        f"{n // 10:.0e} x 1.1": np.full(n // 10, 1.1, np.float32),
        f"{n // 10:.0e} of alternating signs": mixed,
    }
    rows = []
    for name, values in kinds.items():
        exact = float(values.astype(np.float64).sum())
        x = torch.from_numpy(values[:, None]).to(device)
        segment = torch.zeros(len(x), dtype=torch.int64, device=device)
        total = {
            "encode": encode(x[None], np.zeros((1, 1))),
            "segment_sum": segment_sum(x, segment, 1),
            "index_add_": torch.zeros(1, 1, device=device).index_add_(0, segment, x),
        }
        if has_jax():
            total |= accuracy_with_jax(values)
        errors = [abs(float(got) - exact) / abs(exact) for got in total.values()]
        rows.append([name.replace("e+0", "e"), *(f"{error:.1e}" for error in errors)])
        print(*rows[-1], sep=" | ", flush=True)
    return {"columns": ["sum of", *(f"`{w}`" for w in total)], "rows": rows}


def accuracy_with_jax(values: np.ndarray) -> dict[str, float]:
    """One sum by each way of JAX."""
    import jax
    import jax.numpy as jnp

    x, segment = jnp.asarray(values[:, None]), jnp.zeros(len(values), int)
    return {
        "encode, JAX": float(encode(x[None], jnp.zeros((1, 1), x.dtype)).ravel()[0]),
        "segment_sum, JAX": float(segment_sum(x, segment, 1).ravel()[0]),
        "jax.ops.segment_sum": float(jax.ops.segment_sum(x, segment, 1).ravel()[0]),
    }


def blocks(clock: Clock, cases: list[Case]) -> None:
    """Print the fastest plans of each case, of those that one could choose."""
    from vladkit.kernels import triton

    chosen = triton._plan
    for dtype, case in itertools.product((torch.float32, torch.bfloat16), cases):
        local, centroid = (torch.from_numpy(x).cuda() for x in case.arrays())
        local_Nf = local.reshape(-1, case.f).to(dtype)
        start_T = np.arange(case.t + 1) * case.l
        now = chosen(case.f, case.k, dtype)
        plans = [now]
        for rows, warps, stages in itertools.product((32, 64, 128), (4, 8), (1, 2, 3)):
            tuned = {"rows": rows, "warps": warps, "stages": stages}
            plans.append(now._replace(sums=now.sums._replace(**tuned)))
            if now.labels is not None:
                for dims in (32, 64):
                    labels = now.labels._replace(dims=dims, **tuned)
                    plans.append(now._replace(labels=labels))
        timed = []
        for plan in plans:
            triton._plan = lambda *_, plan=plan: plan
            try:
                call = lambda: triton.residual_sums(local_Nf, start_T, centroid)  # noqa: B023, E731
                timed.append((clock.device(call), plan))
            except Exception as error:  # more shared memory than there is
                print(f"  {plan}: {type(error).__name__}")
        print(case.name, str(dtype)[6:], f"now {timed[0][0]:.3f}", *sorted(timed)[:4], sep="\n  ")
    triton._plan = chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="the first case of each, once")
    parser.add_argument("--blocks", action="store_true", help="sizes of blocks, and nothing else")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; --device cpu only shows that the script runs")
    clock = Clock(args.device, 1 if args.quick else 15)
    n = 1 if args.quick else None
    if args.blocks:
        blocks(clock, ENCODINGS[:n])
        return
    rate = clock.bytes_per_ms()
    print(f"read: {rate / 1e6:.0f} GB/s")
    tables = {
        "machine": {"columns": ["", "value"], "rows": [["read", f"{rate / 1e9:.1f}"]]},
        "encode": encodings(clock, ENCODINGS[:n], rate),
        "sums": sums(clock, SUMS[:n], rate),
        "accuracy": accuracy(clock.flush.device, 10**5 if args.quick else 10**8),
    }
    if args.json:
        about = provenance("benchmarks/accelerator.py --json")
        about["versions"]["torch"] = torch.__version__  # with that of CUDA
        if args.device == "cuda":
            about["machine"]["gpu"] = torch.cuda.get_device_name()
        run = {"provenance": about, "tables": tables}
        Path(args.json).write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
