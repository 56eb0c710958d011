"""The CUDA kernel, run by Triton's interpreter on the CPU and held to the loop.

The interpreter is chosen when Triton is imported, so all of it runs in one other process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed"),
    pytest.mark.skipif(not find_spec("triton"), reason="triton is not installed: Linux only"),
]

LENGTHS = {
    "ends empty": [0, 40, 1, 0, 70, 0],
    "one row": [1],
    "blocks of rows": [64, 65, 63, 128],
    "pieces": [1, 2500, 0, 1024, 1025],
}

CASES = [
    (name, f, k, dtype)
    for name, f, k, dtypes in [
        ("ends empty", 1, 1, ["float32", "float16"]),
        ("ends empty", 7, 5, ["float32", "bfloat16", "float16"]),
        ("ends empty", 64, 16, ["float32"]),
        ("ends empty", 128, 64, ["float32", "bfloat16", "float16"]),
        ("ends empty", 200, 100, ["float32", "bfloat16"]),  # labels first, slices of the sums
        ("ends empty", 20, 300, ["float32"]),  # several blocks of centroids
        ("one row", 128, 64, ["float32"]),
        ("blocks of rows", 64, 16, ["float32", "float16"]),
        ("pieces", 16, 5, ["float32", "bfloat16"]),
    ]
    for dtype in dtypes
]

SCRIPT = """
import json, sys
import numpy as np
import torch
from compare import tolerance
from vladkit import encode
from vladkit.kernels import triton

LENGTHS = json.loads(sys.argv[1])
CASES = json.loads(sys.argv[2])
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
    images = np.split(rows.float().numpy(), start[1:-1])
    wanted = encode(images, centroids, method="loop")
    residual, count = triton.residual_sums(rows, start, torch.tensor(centroids))
    assert (count.sum(1).numpy() == np.diff(start)).all(), "a row is not counted once"
    return float(np.abs(residual.numpy() - wanted).max() / tolerance(images, centroids, wanted))

for case in CASES:
    name, f, k, dtype = case
    rows, start, centroids = problem(LENGTHS[name], f, k, dtype)
    assert triton.fits(rows, torch.tensor(centroids))
    report["/".join(map(str, case))] = worst(rows, start, centroids)

# far from 0 with a spread of 1
rows, start, centroids = problem([50, 30], 20, 9, "float32")
report["far"] = worst(rows + 1000, start, centroids + 1000)

rng = np.random.default_rng(1)
most = 0.0
for i in range(20):
    lengths = rng.integers(0, 150, rng.integers(1, 6)).tolist()
    case = problem(lengths, int(rng.integers(1, 40)), int(rng.integers(1, 40)), "float32", i)
    most = max(most, worst(*case)) if sum(lengths) else most
report["random"] = most

# ties: every pair of equal centroids, the first of them gets it
wrong = []
for k, f in ((20, 1), (20, 200), (300, 3)):
    for a, b in ((0, 1), (3, 17), (15, 16), (0, 19), (18, 19), (5, k - 1), (k - 2, k - 1)):
        centroids = torch.full((k, f), 8.0)
        centroids[[a, b]] = 1.0
        _, count = triton.residual_sums(torch.ones(3, f), np.array([0, 3]), centroids)
        if count[0, a] != 3:
            wrong.append((k, f, a, b))
report["ties"] = wrong

# NaN: in its image, and in no other
rows, start, centroids = problem([30, 30, 30], 20, 9, "float32")
rows[35, 4] = torch.nan
residual, _ = triton.residual_sums(rows, start, torch.tensor(centroids))
report["nan"] = residual.isnan().flatten(1).any(1).tolist()

nothing, count = triton.residual_sums(rows[:0], np.array([0, 0]), torch.tensor(centroids))
report["nothing"] = [list(nothing.shape), float(nothing.abs().sum() + count.sum())]
twice = [triton.residual_sums(rows[:30], start[:2], torch.tensor(centroids))[0] for _ in range(2)]
report["same bits"] = bool((twice[0] == twice[1]).all())
report["float64 fits"] = triton.fits(rows.double(), torch.tensor(centroids))
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report():
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(LENGTHS), json.dumps(CASES)],
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


def test_nan_stays_in_its_image(report):
    assert report["nan"] == [False, True, False]


def test_no_rows(report):
    assert report["nothing"] == [[1, 9, 20], 0]


def test_the_same_bits_each_time(report):
    assert report["same bits"]


def test_what_does_not_fit(report):
    assert not report["float64 fits"]
