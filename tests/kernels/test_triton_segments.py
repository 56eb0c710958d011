"""Sums on the device held to ``index_add``: on a GPU if there is one, and by the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from shutil import which

import pytest

from paths import TESTS

pytestmark = [
    pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed"),
    pytest.mark.skipif(not find_spec("triton"), reason="triton is not installed: Linux only"),
]

SCRIPT = """
import json, os, sys
import torch
if os.environ["TRITON_INTERPRET"] == "1":
    import interpreting
from vladkit import segment_reduce, segment_sum
from vladkit.kernels import triton_segments

device = sys.argv[1]
torch.set_default_device(device)
torch.manual_seed(0)
report = {"wrong": [], "ways": 0}
real = triton_segments.sums

def counted(*arguments):
    report["ways"] += 1
    return real(*arguments)

def in_order(x, s, n_segments, wide):
    many = triton_segments._MANY_VALUES, triton_segments._MANY_DIMS
    triton_segments._MANY_VALUES = triton_segments._MANY_DIMS = 0
    try:
        return real(x, s, n_segments, wide)
    finally:
        triton_segments._MANY_VALUES, triton_segments._MANY_DIMS = many

triton_segments.sums = counted
sizes = [(300, 40, 2), (1000, 1, 7), (500, 3, 2), (77, 130, 5), (300, 8, 300), (1, 1, 1), (0, 3, 4)]
dtypes = "float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool"
for n, f, m in sizes:
    for name in dtypes:
        dtype = getattr(torch, name)
        x = (torch.randn(n, f) * 10).to(dtype)
        wide = torch.float64 if dtype.is_floating_point else torch.int64
        for order in ("random", "sorted", "with gaps"):
            s = torch.randint(0, m, (n,))
            s = s if order == "random" else s.sort()[0]
            n_segments = m + 3 if order == "with gaps" else m
            wanted = torch.zeros(n_segments, f, dtype=wide).index_add_(0, s, x.to(wide))
            for way in (triton_segments.sums, in_order):
                got = way(x, s, n_segments, wide)
                if not torch.allclose(got, wanted, rtol=1e-12, atol=1e-11):
                    report["wrong"].append([n, f, m, name, order, way.__name__])
strided = torch.randn(6, 40).T
s = torch.randint(0, 3, (40,))
wanted = torch.zeros(3, 6).index_add_(0, s, strided)
report["strided"] = bool(torch.allclose(triton_segments.sums(strided, s, 3, torch.float64).float(),
                                        wanted, atol=1e-5))
nan = torch.ones(40, 2)
nan[7, 1] = torch.nan
ones = torch.full((10_000, 1), 1.1)
report["nan"], report["long"] = [], []
for way in (triton_segments.sums, in_order):
    at = way(nan, torch.arange(40) // 8, 5, torch.float64).isnan().nonzero()
    report["nan"].append(at.tolist())
    total = way(ones, torch.zeros(10_000, dtype=torch.int64), 1, torch.float64)
    report["long"].append(abs(total.item() / (1e4 * ones[0].item()) - 1))
x = torch.ones(4, 2)
report["fits"] = [triton_segments.fits(x), triton_segments.fits(x.clone().requires_grad_()),
                  triton_segments.fits(x.to(torch.uint64))]
torch.use_deterministic_algorithms(True)
report["fits"].append(triton_segments.fits(x))
torch.use_deterministic_algorithms(False)
if device == "cuda":  # the door takes this way
    before = report["ways"]
    s = torch.tensor([0, 2, 2, 0])
    report["door"] = segment_sum(x, s, 3).tolist()
    report["mean"] = segment_reduce(x, s, 3, "mean").nan_to_num(-1).tolist()
    report["took"] = report["ways"] - before
print(json.dumps(report))
"""


@pytest.fixture(scope="module", params=["cpu", "cuda"] if which("nvidia-smi") else ["cpu"])
def report(request):
    device = request.param
    environment = os.environ | {
        "TRITON_INTERPRET": "1" if device == "cpu" else "0",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, device], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"device": device}


def test_equals_index_add(report):
    assert report["wrong"] == []


def test_strided_rows(report):
    assert report["strided"]


def test_nan_stays_in_its_segment_and_column(report):
    assert report["nan"] == [[[0, 1]], [[0, 1]]]


def test_long_sums(report):
    assert max(report["long"]) < 1e-12


def test_what_fits(report):
    assert report["fits"] == [True, False, False, False]


def test_segment_sum_takes_this_way_on_a_gpu(report):
    if report["device"] == "cpu":
        pytest.skip("there is no CUDA device")
    assert report["door"] == [[2, 2], [0, 0], [2, 2]]
    assert report["mean"] == [[1, 1], [-1, -1], [1, 1]]
    assert report["took"] >= 2


@pytest.mark.parametrize(("n", "f"), [(10, 2), (2**20, 16)])
def test_a_segment_that_does_not_exist_is_an_assertion(report, n, f):
    if report["device"] == "cpu":
        pytest.skip("there is no CUDA device")
    code = (
        f"import torch, vladkit; x = torch.ones({n}, {f}, device='cuda'); "
        f"print(vladkit.segment_sum(x, torch.arange({n}, device='cuda') % 4 - 1, 4).cpu())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "assert" in done.stderr


@pytest.mark.parametrize(
    ("value", "total", "key"), [("*fp32", "*fp64", "*i16"), ("*i64", "*i64", "*i32")]
)
def test_the_compiler_takes_it(monkeypatch, tmp_path, value, total, key):
    """For compute capability 9.0."""
    from triton import compiler
    from triton.backends.compiler import GPUTarget

    from vladkit.kernels import triton_segments as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {"value_Nf": value, "total_sf": total, "key_N": key, "n": "i32", "n_segments": "i32"}
    sizes = {"f": 100, "ROWS": 32, "DIMS": 128, "BLOCK": 1024}
    for kernel in (kernels._write_keys, kernels._add_runs):
        constants = {n: sizes[n] for n in kernel.arg_names if n in sizes}
        signature = {
            n: "constexpr" if n in constants else types.get(n, "*i64") for n in kernel.arg_names
        }
        source = compiler.ASTSource(kernel, signature, constants)
        options = {"enable_fp_fusion": True}
        compiled = compiler.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert compiled.metadata.shared <= 227 * 1024
