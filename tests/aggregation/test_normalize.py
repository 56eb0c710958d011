"""Normalisation steps by hand, and that their order is the stated one."""

from __future__ import annotations

import numpy as np
import pytest

from vladkit.aggregation.normalize import PRESETS, normalize, resolve_steps
from vladkit.errors import ParameterError


def one(blocks, counts=None):
    residual_tkf = np.array([blocks], float)
    return residual_tkf, np.array([counts or [1] * len(blocks)])


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ("none", [9, -16, 0, 4]),
        ("mass", [3, -16 / 3, 0, 2]),
        ("ssr", [3, -4, 0, 2]),
        ("power:0.5", [3, -4, 0, 2]),
        ("power:0.25", [3**0.5, -2, 0, 2**0.5]),
        ("intra", [9 / 337**0.5, -16 / 337**0.5, 0, 1]),
        ("l2", np.array([9, -16, 0, 4]) / 353**0.5),
        ("ssr,l2", np.array([3, -4, 0, 2]) / 29**0.5),
        ("ssr,intra", [0.6, -0.8, 0, 1]),
        ("intra,l2", np.array([9 / 337**0.5, -16 / 337**0.5, 0, 1]) / 2**0.5),
        ("mass,ssr", [3**0.5, -((16 / 3) ** 0.5), 0, 2**0.5]),
    ],
)
def test_steps(steps, wanted):
    residual_tkf, count_tk = one([[9, -16], [0, 4]], [3, 2])
    got = normalize(residual_tkf, count_tk, steps)
    np.testing.assert_allclose(got, [wanted], atol=1e-15)


def test_order_matters():
    first = normalize(*one([[9, -16], [0, 4]]), ["ssr", "intra"])
    second = normalize(*one([[9, -16], [0, 4]]), ["intra", "ssr"])
    assert not np.allclose(first, second)


@pytest.mark.parametrize("norm", PRESETS)
def test_zero_stays_zero(norm):
    residual_tkf = np.zeros((2, 3, 4), np.float32)
    residual_tkf[1, 0, 0] = 5
    got = normalize(residual_tkf, np.array([[0, 0, 0], [1, 0, 0]]), norm)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    assert (got[0] == 0).all()
    assert got[1, 0] > 0
    assert (got[1, 1:] == 0).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize(
    "steps", ["l2", "intra", "ssr,l2", "mass,l2", "power:0.3,intra", "intra,l2"]
)
def test_sums_of_any_size(dtype, steps):
    """Squares of float32 vanish below 1e-22 and overflow above 1e19; float16's above 255."""
    residual_tkf = np.random.default_rng(0).normal(size=(3, 4, 6))
    residual_tkf[1, 2] = residual_tkf[2] = 0
    sizes = {"f2": (1e-6, 1e3, 1e4), "f4": (1e-44, 1e-25, 1e17, 1e37), "f8": (1e-200, 1e200)}
    for size in sizes[dtype]:
        sized_tkf = (residual_tkf * size).astype(dtype)
        # in float64, and of size 1
        peak = np.abs(sized_tkf.astype(float)).max()
        wanted = normalize(sized_tkf.astype(float) / peak, np.ones((3, 4), int), steps)
        got = normalize(sized_tkf, np.ones((3, 4), int), steps)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, wanted, atol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("mass", [1e-30, 1e-13, 3.0])
def test_any_mass_above_0_is_divided_by(mass):
    """VLFeat: ``if (clusterMass > 0)``."""
    got = normalize(*one([[2 * mass, 0], [0, 0]], [mass, 0.0]), "mass")
    np.testing.assert_allclose(got, [[2, 0, 0, 0]], rtol=1e-12)


def test_another_memory_layout():
    residual_tkf, count_tk = one([[3.0, 4], [0, 5], [1, 0]])
    wanted = normalize(residual_tkf.copy(), count_tk, "intra,l2")
    got = normalize(np.asfortranarray(residual_tkf), count_tk, "intra,l2")
    np.testing.assert_array_equal(got, wanted)


def test_golden_vlfeat():
    residual = np.array([0, 0, 0, 0, 0, 0, -0.5, 0.5, 1, 1]).reshape(1, 5, 2)
    got = normalize(residual, np.array([[0, 0, 0, 1, 2]]), "vlfeat")
    np.testing.assert_allclose(got[0, 6:], [-0.316228, 0.316228, 0.632456, 0.632456], atol=5e-7)


def test_result_is_the_input_memory():
    residual_tkf, count_tk = one([[3, 4]])
    assert np.shares_memory(normalize(residual_tkf, count_tk, "l2"), residual_tkf)


@pytest.mark.parametrize("norm", ["typo", "l2,typo", ["ssr", "power:2"], "power:0", "power:x"])
def test_unknown_step(norm):
    with pytest.raises(ParameterError):
        resolve_steps(norm)
