"""The CUDA kernel held to the loop: on a GPU if there is one, and by Triton's interpreter.

The interpreter is chosen when Triton is imported, so all of it runs in one other process. It
knows no types and no shared memory: that the compiler takes the kernels is tested besides.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from shutil import which

import numpy as np
import pytest

from paths import TESTS

pytestmark = [
    pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed"),
    pytest.mark.skipif(not find_spec("triton"), reason="triton is not installed: Linux only"),
]

LENGTHS = {
    "ends empty": [0, 40, 1, 0, 70, 0],
    "one row": [1],
    "blocks of rows": [64, 65, 63, 128],
    "pieces": [1, 2500, 0, 1024, 1025],
    "pieces of 80": [1, 200, 0, 80, 81],
    "70 pieces of 80": [5600],
}

CASES = [
    (name, f, k, dtype)
    for name, f, k, dtypes in [
        ("ends empty", 1, 1, ["float32", "float16"]),
        ("ends empty", 7, 5, ["float32", "bfloat16", "float16"]),
        ("ends empty", 128, 64, ["float32", "bfloat16"]),
        ("ends empty", 64, 100, ["float32"]),
        ("ends empty", 200, 100, ["float32", "bfloat16"]),  # labels first, slices of the sums
        ("ends empty", 200, 16, ["float16"]),
        ("ends empty", 20, 300, ["float32"]),  # several blocks of centroids
        ("one row", 128, 64, ["float32"]),
        ("blocks of rows", 64, 16, ["float32"]),
        ("pieces", 16, 5, ["float32", "bfloat16"]),
        ("pieces of 80", 200, 5, ["float32"]),
        ("70 pieces of 80", 7, 5, ["float32"]),
    ]
    for dtype in dtypes
]

SCRIPT = """
import json, os, sys
import numpy as np
import torch
if os.environ["TRITON_INTERPRET"] == "1":
    import interpreting
from compare import tolerance
from vladkit import encode
from vladkit.kernels import triton

LENGTHS = json.loads(sys.argv[1])
CASES = json.loads(sys.argv[2])
torch.set_default_device(sys.argv[3])
report = {}

def problem(lengths, f, k, dtype, seed=0):
    rng = np.random.default_rng(seed)
    centroids = rng.normal(size=(k, f)).astype(np.float32)
    rows = rng.normal(size=(sum(lengths), f))
    distance = ((rows[:, None] - centroids) ** 2).sum(2)
    if k > 1:  # two nearest ones that are equal to rounding may be decided either way
        two = np.sort(distance, axis=1)[:, :2]
        close = two[:, 1] - two[:, 0] < 1e-4 * two[:, 0]
        rows[close] = (rows[close] + centroids[distance[close].argmin(axis=1)]) / 2
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return torch.tensor(rows).to(getattr(torch, dtype)), start, centroids

def worst(rows, start, centroids):
    images = np.split(rows.float().cpu().numpy(), start[1:-1])
    wanted = encode(images, centroids, method="loop")
    sums = triton.residual_sums(rows, start, torch.tensor(centroids))
    residual, count = (x.cpu().numpy() for x in sums)
    assert (count.sum(1) == np.diff(start)).all(), "a row is not counted once"
    return float(np.abs(residual - wanted).max() / tolerance(images, centroids, wanted))

for case in CASES:
    name, f, k, dtype = case
    triton._PIECE = 80 if name.endswith("pieces of 80") else 1024
    rows, start, centroids = problem(LENGTHS[name], f, k, dtype)
    assert triton.fits(rows, torch.tensor(centroids))
    report["/".join(map(str, case))] = worst(rows, start, centroids)

# far from 0 with a spread of 1
rows, start, centroids = problem([50, 30], 20, 9, "float32")
report["far"] = worst(rows + 1000, start, centroids + 1000)

rng = np.random.default_rng(1)
most = 0.0
for i in range(5):
    lengths = rng.integers(0, 150, rng.integers(1, 6)).tolist()
    case = problem(lengths, int(rng.integers(1, 40)), int(rng.integers(1, 40)), "float32", i)
    most = max(most, worst(*case)) if sum(lengths) else most
report["random"] = most

# ties: of each pair of equal centroids, all of another value, the first gets the rows
wrong = []
first = [(0, 1), (3, 17), (15, 16), (18, 19)]
for k, f, codebooks in (
    (20, 1, (first, [(0, 19)], [(5, 19)])),
    (20, 200, (first, [(0, 19)], [(5, 19)])),
    (300, 3, ([*first, (298, 299)], [(0, 19), (5, 299)])),
):
    for pairs in codebooks:
        centroids = torch.full((k, f), 8.0)
        for value, pair in enumerate(pairs, 1):
            centroids[list(pair)] = value
        rows = torch.arange(1.0, len(pairs) + 1).repeat(3)[:, None].repeat(1, f)
        _, count = triton.residual_sums(rows, np.array([0, len(rows)]), centroids)
        wrong += [(k, f, *pair) for pair in pairs if count[0, pair[0]] != 3]
report["ties"] = wrong

# distances that differ by 2^-20: by the last term of the row, by that of the centroid
near = []
a, b = 1 + 2**-10, 2**-20
for rows, centroids in (
    ([[a + b, a], [a, a + b], [a, a + b]], [[1, 0], [0, 1]]),
    ([[3, 0], [3, 0]], [[a, 0], [a + b, 0], [-2 * a, 0]]),
):
    for dtype in (torch.float32,) if rows[0][0] != 3 else triton._HALF:
        _, count = triton.residual_sums(
            torch.tensor(rows, dtype=dtype), np.array([0, len(rows)]),
            torch.tensor(centroids, dtype=torch.float32),
        )
        near.append(count[0].tolist())
report["near"] = near

# whole numbers of 23 bits: their sums are exact
rng = np.random.default_rng(2)
whole = torch.tensor(rng.integers(2**21, 2**22, (6, 130)), dtype=torch.float32)
whole[::2] *= -1
centroids = torch.full((2, 130), 2.0**21)
centroids[1] *= -1
residual, _ = triton.residual_sums(whole, np.array([0, 6]), centroids)
wanted = torch.stack([(whole[i::2] - centroids[1 - i]).sum(0) for i in (1, 0)])
report["whole"] = float((residual[0] - wanted).abs().max())

# ties of whole numbers; and numbers of any size, by a power of 2: no label changes
changed = []
for dtype, powers in (("float32", [-70, 0, 70]), ("bfloat16", [-70, 70]), ("float16", [-8, 8])):
    whole = torch.tensor(rng.integers(0, 4, (40, 12)), dtype=torch.float32)
    centroids = torch.tensor(rng.integers(0, 4, (13, 12)), dtype=torch.float32)
    label = ((whole[:, None] - centroids) ** 2).sum(2).argmin(dim=1)
    wanted = torch.bincount(label, minlength=13)
    for power in powers:
        rows = (whole * 2.0**power).to(getattr(torch, dtype))
        _, count = triton.residual_sums(rows, np.array([0, 40]), centroids * 2.0**power)
        if (count[0] != wanted).any():
            changed.append((dtype, power))
report["changed"] = changed

# NaN: in its dimension of its image, and nowhere else; the row is counted
for f in (20, 200):
    rows, start, centroids = problem([30, 30, 30], f, 9, "float32")
    rows[35, 4] = torch.nan
    residual, count = triton.residual_sums(rows, start, torch.tensor(centroids))
    at = residual.isnan().nonzero()
    report[f"nan {f}"] = [at[:, 0].unique().tolist(), at[:, 2].unique().tolist(), len(at)]
    assert count.sum() == 90

nothing, count = triton.residual_sums(rows[:0], np.array([0, 0]), torch.tensor(centroids))
report["nothing"] = [list(nothing.shape), float(nothing.abs().sum() + count.sum())]
twice = [triton.residual_sums(rows[:30], start[:2], torch.tensor(centroids))[0] for _ in range(2)]
report["same bits"] = bool((twice[0] == twice[1]).all())
report["fit"] = [triton.fits(x, torch.tensor(c)) for x, c in (
    (rows.double(), centroids), (rows, np.ones((4097, 200), np.float32)), (rows, centroids)
)]
print(json.dumps(report))
"""


def has_hopper():
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)


@pytest.fixture(scope="module", params=["cpu", "cuda"] if which("nvidia-smi") else ["cpu"])
def report(request):
    device = request.param
    if device == "cuda" and not has_hopper():
        pytest.skip("there is no GPU of compute capability 9.0")
    environment = os.environ | {
        "TRITON_INTERPRET": "1" if device == "cpu" else "0",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(LENGTHS), json.dumps(CASES), device],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "/".join(map(str, c)))
def test_equals_the_loop(report, case):
    assert report["/".join(map(str, case))] < 1


def test_far_from_0(report):
    assert report["far"] < 1


def test_random_batches(report):
    assert 0 < report["random"] < 1


def test_ties_go_to_the_lowest(report):
    assert report["ties"] == []


def test_distances_that_differ_by_little(report):
    assert report["near"] == [[1, 2], *[[0, 2, 0]] * 3]


def test_ties_and_sizes_change_no_label(report):
    assert report["changed"] == []


def test_sums_hold_every_bit(report):
    assert report["whole"] == 0


@pytest.mark.parametrize("f", [20, 200])
def test_nan_stays_in_its_image(report, f):
    assert report[f"nan {f}"] == [[1], [4], 9]


def test_no_rows(report):
    assert report["nothing"] == [[1, 9, 200], 0]


def test_the_same_bits_each_time(report):
    assert report["same bits"]


def test_what_fits(report):
    assert report["fit"] == [False, False, True]


@pytest.fixture(scope="module")
def kernels():
    module = pytest.importorskip("vladkit.kernels.triton")
    if module._EMULATED:
        pytest.skip("TRITON_INTERPRET is set: there is no compiler")
    return module


def test_pieces_cover_each_row_once(kernels):
    start_T = np.array([0, 0, 1024, 1025, 2_050, 4_000_000_000, 4_000_000_000])
    piece_p3, joint_p3 = kernels._pieces(start_T, 1024)
    begin, end, slot = piece_p3[np.lexsort((piece_p3[:, 1], piece_p3[:, 0]))].T
    assert (begin[1:] == end[:-1]).all()
    assert (begin[0], end[-1]) == (0, 4_000_000_000)
    assert sorted(slot) == list(range(len(piece_p3)))
    assert (piece_p3[np.argsort(piece_p3[:, 2])][:6, 0] == start_T[:-1]).all()
    assert joint_p3.tolist() == [[3, 6, 7], [4, 7, 7 + 3906247]]


@pytest.mark.parametrize(
    ("dtype", "f", "k"),
    [
        ("float32", 128, 64),
        pytest.param("float32", 768, 300, marks=pytest.mark.slow),
        pytest.param("bfloat16", 200, 64, marks=pytest.mark.slow),
        ("float16", 7, 5),
    ],
)
def test_the_compiler_takes_it(kernels, monkeypatch, tmp_path, dtype, f, k):
    """For compute capability 9.0, within the shared memory that it has."""
    import torch
    from triton import compiler
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    plan = kernels._plan(f, k, getattr(torch, dtype))
    assert (plan.labels is not None) == (f == 768)
    size = {"k": k, "f": f, "SPLIT": dtype == "float32", "EMULATED": False}
    size |= {"TERMS": 2 if dtype == "float16" else 3, "FUSED": plan.labels is None}
    for n, padded, block in ((k, "K", plan.sums.words), (f, "F", plan.sums.dims)):
        size[padded] = -(-n // block) * block
    pointer = {"float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16"}
    types = {"label_N": "*i32", "piece_p3": "*i64", "n": "i32", "local_Nf": pointer[dtype]}
    types["term_sKF"] = "*fp16" if dtype == "float16" else "*bf16"
    for kernel, blocks in ((kernels._labels, plan.labels), (kernels._sums, plan.sums)):
        if blocks is not None:
            options = kernels._options(blocks)
            constants = {n: v for n, v in (size | options).items() if n in kernel.arg_names}
            signature = {
                n: "constexpr" if n in constants else types.get(n, "*fp32")
                for n in kernel.arg_names
            }
            source = compiler.ASTSource(kernel, signature, constants)
            options = {n: v for n, v in options.items() if n not in constants}
            compiled = compiler.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
            assert compiled.metadata.shared <= 227 * 1024


def test_without_triton(monkeypatch):
    import torch

    monkeypatch.setitem(sys.modules, "triton", None)
    path = find_spec("vladkit.kernels.triton").origin
    spec = importlib.util.spec_from_file_location("vladkit_without_triton", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.fits(torch.ones(2, 3), torch.ones(1, 3))
