"""Every way of encoding against the plain loop, hand-computed answers, and what must not change."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import CASES, ORACLE, WAYS, tolerance
from vladkit import Ragged, encode
from vladkit.aggregation.encode import aggregate
from vladkit.core.ragged import as_ragged
from vladkit.errors import InputError, NonFiniteError, ParameterError, ShapeError
from vladkit.kernels import METHODS
from vladkit.kernels.nearest import centered_codebook

EVERY_WAY = (ORACLE, *WAYS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("method", WAYS)
def test_equals_the_loop(method, case):
    local, centroids = case()
    wanted, wanted_count = aggregate(as_ragged(local), centroids, method=ORACLE)
    got, got_count = aggregate(as_ragged(local), centroids, method=method)
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got_count, wanted_count)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance(local, centroids, wanted))


@pytest.mark.parametrize("method", EVERY_WAY)
class TestByHand:
    def test_five_centroids(self, method):
        centroids = [[0.5, 0.5], [0, 0], [1, 0], [-0.5, -0.5], [0, 1]]
        image = np.array([[1.0, 0], [-1, 0], [1, 2]])
        got = encode([image], centroids, method=method)
        assert got.ravel().tolist() == [0, 0, 0, 0, 0, 0, -0.5, 0.5, 1, 1]

    def test_one_centroid(self, method):
        x = np.array([[1.0, 2, 3]])
        assert encode([x], [[0, 0, 0]], method=method).tolist() == [[[1, 2, 3]]]
        assert encode([x], [[0, 1, 2]], method=method).tolist() == [[[1, 1, 1]]]
        assert encode([np.repeat(x, 2, 0)], [[0, 0, 0]], method=method).tolist() == [[[2, 4, 6]]]

    def test_identity(self, method):
        got = encode([np.array([[0, 1.1]])], np.eye(2), method=method)
        np.testing.assert_allclose(got.ravel(), [0, 0, 0, 0.1], atol=1e-15)

    def test_ties_go_to_the_lowest(self, method):
        # Far enough apart that several panels of centroids are compared; all distances equal.
        for k in (2, 15, 16, 17, 40):
            centroids = np.tile([[3.0, 4.0]], (k, 1))
            _, count = aggregate(as_ragged([np.ones((5, 2))]), centroids, method=method)
            assert count[0, 0] == 5

    def test_tie_between_two_different_centroids(self, method):
        _, count = aggregate(as_ragged([np.zeros((3, 1))]), [[1.0], [-1.0]], method=method)
        assert count.tolist() == [[3, 0]]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("k", [8, 16, pytest.param(40, marks=pytest.mark.slow)])
    def test_each_pair_of_equal_centroids(self, method, k, dtype):
        """Whichever two are equal and nearest, the first gets it: lanes, panels, halves."""
        if method == ORACLE:
            k = 5
        for a in range(k):
            for b in range(a + 1, k):
                centroid_kf = np.full((k, 1), 8.0, dtype)
                centroid_kf[[a, b]] = 1.0
                _, count = aggregate(
                    as_ragged(np.ones((1, 3, 1), dtype)), centroid_kf, method=method, n_jobs=1
                )
                assert count[0, a] == 3, (a, b)

    def test_no_image(self, method):
        assert encode(np.empty((0, 4, 3)), np.ones((2, 3)), method=method).shape == (0, 2, 3)


@pytest.mark.parametrize("method", EVERY_WAY)
class TestInvariance:
    def batch(self):
        rng = np.random.default_rng(3)
        return rng.normal(size=(6, 40, 24)).astype(np.float32), rng.normal(size=(9, 24))

    def test_memory_layout(self, method):
        local_tlf, centroid_kf = self.batch()
        wanted = encode(local_tlf, centroid_kf, method=method)
        wide = np.zeros((6, 80, 50), np.float32)
        wide[:, ::2, 1:49:2] = local_tlf
        read_only = local_tlf.copy()
        read_only.flags.writeable = False
        shifted = np.frombuffer(b"x" + local_tlf.tobytes(), np.float32, offset=1).reshape(6, 40, 24)
        others = {
            "Fortran": np.asfortranarray(local_tlf),
            "sliced": wide[:, ::2, 1:49:2],
            "backwards": local_tlf[:, ::-1][:, ::-1],
            "read-only": read_only,
            "unaligned": shifted,
            "list": list(local_tlf),
            "tuple": tuple(local_tlf),
            "object array": _object_array(list(local_tlf)),
            "list of Fortran": [np.asfortranarray(x) for x in local_tlf],
            "big-endian": local_tlf.astype(">f4"),
            "ragged": Ragged(local_tlf.reshape(240, 24), np.arange(7) * 40),
            "nested lists": local_tlf.tolist(),
        }
        for name, other in others.items():
            got = encode(other, centroid_kf, method=method)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5, err_msg=name)
        fortran = encode(local_tlf, np.asfortranarray(centroid_kf), method=method)
        np.testing.assert_array_equal(fortran, wanted)

    def test_order_of_descriptors(self, method):
        local_tlf, centroid_kf = self.batch()
        shuffled = local_tlf[:, np.random.default_rng(0).permutation(40)]
        got = encode(shuffled, centroid_kf, method=method)
        np.testing.assert_allclose(got, encode(local_tlf, centroid_kf, method=method), atol=1e-5)

    def test_a_batch_equals_its_singles(self, method):
        local_tlf, centroid_kf = self.batch()
        together = encode(local_tlf, centroid_kf, method=method)
        for image_lf, wanted_kf in zip(local_tlf, together, strict=True):
            alone = encode([image_lf], centroid_kf, method=method)[0]
            np.testing.assert_allclose(alone, wanted_kf, rtol=0, atol=1e-5)

    def test_input_is_left_alone(self, method):
        local_tlf, centroid_kf = self.batch()
        before = local_tlf.copy(), centroid_kf.copy()
        encode(local_tlf, centroid_kf, method=method)
        np.testing.assert_array_equal(local_tlf, before[0])
        np.testing.assert_array_equal(centroid_kf, before[1])


JAX_SIZES = [(3, 5), (20, 40)]
"""f and k of the batches that JAX takes part in: it compiles for each pair, a second each time."""


@st.composite
def ragged_batches(draw):
    any_size = st.tuples(st.integers(1, 20), st.integers(1, 40))
    f, k = draw(st.sampled_from(JAX_SIZES) | any_size)
    lengths = draw(st.lists(st.integers(0, 30), min_size=1, max_size=8))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    # Whole numbers: distances and sums are exact, so ties are ties and results must be equal; and
    # they stay so far from 0, and in any unit. Of 256, 13 are not 0 or all: rows are equal or not.
    few = draw(st.sampled_from([13, 256]))

    def numbers(n):  # from one draw: to draw each takes longer than all ways of encoding together
        drawn_Nf = np.frombuffer(draw(st.binary(min_size=n * f, max_size=n * f)), np.uint8)
        drawn_Nf = drawn_Nf.reshape(n, f).astype(dtype)
        return np.where(drawn_Nf < few, drawn_Nf % 41 - 20, 0)

    far = draw(st.sampled_from([0, 1000]))
    unit = 2.0 ** draw(st.sampled_from([0, -100, 90]))
    local_Nf = (numbers(sum(lengths)) + far) * dtype(unit)
    centroid_kf = (numbers(k) + far) * dtype(unit)
    return Ragged(local_Nf, np.concatenate([[0], np.cumsum(lengths)])), centroid_kf


@settings(max_examples=60, deadline=None)
@given(batch=ragged_batches())
def test_any_ragged_batch(batch):
    """Every way on one batch."""
    local, centroid_kf = batch
    wanted, wanted_count = aggregate(local, centroid_kf, method=ORACLE)
    for method in (m for m in METHODS if m not in ("jax", "torch") or find_spec(m)):
        if method == "jax" and centroid_kf.shape[::-1] not in JAX_SIZES:
            continue
        residual, count = aggregate(local, centroid_kf, method=method)
        np.testing.assert_array_equal(count, wanted_count, err_msg=method)
        np.testing.assert_array_equal(residual, wanted, err_msg=method)


def _check_panels(dtype, panels, lengths):
    """Each descriptor to its own value among centroids, most of which are there twice."""
    from vladkit.kernels.vector_code import width_for

    width = width_for(np.dtype(dtype))
    rng = np.random.default_rng(0)
    for k in sorted({n * width + d for n in panels for d in (-1, 0, 1)}):
        for f in (1, 3):
            value_kf = rng.integers(0, max(1, k // 2), size=(k, 1)) * np.ones((k, f))
            first_k = np.argmax(value_kf[:, :1] == value_kf[:, 0], axis=0)
            wanted_N = first_k[rng.integers(0, k, size=sum(lengths))]
            local_Nf = (value_kf[wanted_N] + 0.25).astype(dtype)
            batch = Ragged(local_Nf, np.cumsum([0, *lengths]))
            centroid_kf = value_kf.astype(dtype)
            residual_tkf, count_tk = aggregate(batch, centroid_kf, method="fused", n_jobs=1)
            image_N = np.repeat(np.arange(len(lengths)), lengths)
            wanted_tk = np.bincount(image_N * k + wanted_N, minlength=len(lengths) * k)
            np.testing.assert_array_equal(count_tk.ravel(), wanted_tk, err_msg=f"k={k} f={f}")
            np.testing.assert_array_equal(residual_tkf, count_tk[:, :, None] * np.full(f, 0.25))


class TestFused:
    def batch(self, t=60, l=300, f=32, k=20):  # enough for several threads (`_LITTLE`)
        rng = np.random.default_rng(5)
        return rng.normal(size=(t, l, f)).astype(np.float32), rng.normal(size=(k, f))

    def test_the_number_of_threads_changes_no_bit(self):
        local_tlf, centroid_kf = self.batch()
        one = encode(local_tlf, centroid_kf, method="fused", n_jobs=1)
        for n_jobs in (2, 3, 8, -1, None):
            np.testing.assert_array_equal(
                encode(local_tlf, centroid_kf, method="fused", n_jobs=n_jobs), one
            )

    def test_little_work_stays_on_the_callers_thread(self):
        code = (
            "import threading, numpy as np\n"
            "from vladkit import encode\n"
            "from vladkit.kernels.compiled import accumulate_groups\n"
            "encode(np.ones((16, 20, 32), 'f4'), np.eye(64, 32), method='fused', n_jobs=3)\n"
            "print(threading.active_count(), len(accumulate_groups.signatures))\n"
            "encode(np.ones((16, 2000, 32), 'f4'), np.eye(64, 32), method='fused', n_jobs=3)\n"
            "print(threading.active_count())\n"
        )
        assert _python(code).split() == ["1", "1", "3"]  # and what large batches need is compiled

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_panels_hold_the_centred_codebook(self, dtype):
        from vladkit.kernels.fused import _packed

        for k, f in ((1, 1), (3, 5), (16, 2), (37, 3), (64, 7), (70, 1)):
            centroid_kf = np.random.default_rng(k).normal(3, 2, size=(k, f)).astype(dtype)
            same_kf, panel, bias, width = _packed(centroid_kf)
            assert np.shares_memory(same_kf, centroid_kf)
            n_panels = -(-k // width)
            lanes_kf = panel.reshape(n_panels, f, width).transpose(2, 0, 1).reshape(-1, f)
            lanes = bias.reshape(n_panels, width).T.ravel()
            exact_kf = centroid_kf.astype(float)
            origin_f, direction_kf, scaled_kf, _ = centered_codebook(np, exact_kf, exact_kf)
            bias_k = -(scaled_kf * (direction_kf / 2 + origin_f)).sum(axis=1)
            few = 8 * np.finfo(dtype).eps * max(1, np.abs(bias_k).max())
            np.testing.assert_allclose(lanes_kf[:k], scaled_kf, rtol=0, atol=few)
            np.testing.assert_allclose(lanes[:k], bias_k, rtol=0, atol=few)
            assert (lanes_kf[k:] == 0).all()
            assert (lanes[k:] == -np.inf).all()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_any_number_of_panels_and_rows(self, dtype):
        _check_panels(dtype, range(1, 10), (1, 3, 4, 5, 9, 97, 1000))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_equal_centroids_in_groups_of_panels(self, dtype):
        """Within a panel, a group of panels, and across groups the first of two equal ones wins."""
        from vladkit.kernels.vector_code import width_for

        k = 5 * width_for(np.dtype(dtype)) + 3
        batch = as_ragged(np.ones((1, 3, 1), dtype))
        for a in range(k):
            for b in range(a + 1, k):
                centroid_kf = np.full((k, 1), 8.0, dtype)
                centroid_kf[[a, b]] = 1.0
                _, count = aggregate(batch, centroid_kf, method="fused", n_jobs=1)
                assert count[0, a] == 3, (a, b)

    @pytest.mark.parametrize(
        ("without", "width"),
        [("avx512", 8), pytest.param("avx512 avx fma f16c v", 4, marks=pytest.mark.slow)],
    )
    def test_narrower_registers(self, without, width, tmp_path):
        """The programs of older processors, which this one runs as well."""
        import llvmlite.binding

        if not llvmlite.binding.get_host_cpu_features().get("avx"):
            pytest.skip("has no wider registers than these")
        code = (
            "import llvmlite.binding, numpy as np\n"
            "features = llvmlite.binding.get_host_cpu_features()\n"
            f"gone = [name for name in features if name.startswith({tuple(without.split())})]\n"
            "features |= dict.fromkeys(gone, False)\n"
            "llvmlite.binding.get_host_cpu_features = lambda: features\n"
            "import test_encode\n"
            "from vladkit.kernels.vector_code import width_for\n"
            "test_encode._check_panels(np.float32, (1, 2, 3, 5), (1, 7, 97, 1000))\n"
            "print(width_for(np.dtype('f4')))\n"
        )
        here = os.path.dirname(__file__)
        path = os.pathsep.join(
            [here, os.path.dirname(here), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        assert int(_python(code, PYTHONPATH=path, NUMBA_CACHE_DIR=str(tmp_path))) == width

    def test_one_huge_image_is_cut_and_equal(self):
        rng = np.random.default_rng(0)
        local_lf = rng.normal(size=(300_000, 16)).astype(np.float32)
        centroid_kf = rng.normal(size=(5, 16))
        batch = Ragged.from_list([local_lf[:7], local_lf, local_lf[:0], local_lf[:9]])
        got, count = aggregate(batch, centroid_kf, method="fused", n_jobs=2)
        label_l = np.argmin(((local_lf[:, None] - centroid_kf) ** 2).sum(2), axis=1)
        for k in range(5):
            wanted_f = (local_lf[label_l == k].astype(float) - centroid_kf[k]).sum(axis=0)
            np.testing.assert_allclose(got[1, k], wanted_f, rtol=1e-5, atol=0.05)
        np.testing.assert_array_equal(count[1], np.bincount(label_l, minlength=5))
        np.testing.assert_array_equal(
            got[1], encode([local_lf], centroid_kf, method="fused", n_jobs=1)[0]
        )

    def test_uint8_is_not_copied_whole(self):
        # Linux's peak of resident memory, of a process of its own.
        pytest.importorskip("resource", reason="needs Linux's peak of resident memory")
        code = (
            "import numpy as np, resource\n"
            "from vladkit import encode\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "encode(np.ones((4, 64, 128), np.uint8), np.eye(16, 128), method='fused')\n"
            "local = np.full((1000, 800, 128), 7, np.uint8)\n"
            "before = peak()\n"
            "encode(local, np.eye(16, 128), method='fused')\n"
            "print((peak() - before) * 1024 / local.nbytes)\n"
        )
        share = float(_python(code))
        assert share < 0.25, f"peak grew by {share:.2f} of the input: output is 0.08 of it"

    def test_several_threads_at_once(self):
        local_tlf, centroid_kf = self.batch()
        wanted = encode(local_tlf, centroid_kf, method="fused", n_jobs=1)
        failures = []

        def work():
            for _ in range(20):
                got = encode(local_tlf, centroid_kf, method="fused", n_jobs=3)
                if not np.array_equal(got, wanted):
                    failures.append("differs")

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        assert not any(thread.is_alive() for thread in threads)

    @pytest.mark.parametrize("how", ["fork", "spawn"])
    def test_in_another_process(self, how, tmp_path):
        if how not in multiprocessing.get_all_start_methods():
            pytest.skip(f"this system cannot {how}")
        local_tlf, centroid_kf = self.batch()
        wanted = encode(local_tlf, centroid_kf, method="fused", n_jobs=2)  # threads exist now
        code = (
            "import multiprocessing, warnings, numpy as np, sys\n"
            "warnings.simplefilter('ignore')\n"
            "from vladkit import encode\n"
            "def work(x):\n"
            "    return encode(x, np.eye(32), method='fused', n_jobs=2).sum()\n"
            "if __name__ == '__main__':\n"
            "    x = np.random.default_rng(0).normal(size=(40, 300, 32)).astype('f4')\n"
            "    here = work(x)\n"
            f"    with multiprocessing.get_context('{how}').Pool(2) as pool:\n"
            "        there = pool.map_async(work, [x, x, x]).get(timeout=90)\n"
            "    print(all(there == here))\n"
        )
        script = tmp_path / "script.py"  # which the child process imports
        script.write_text(code)
        assert _python(script).strip() == "True"
        assert wanted.shape == (60, 20, 32)

    def test_disabled_compiler_is_refused_by_name(self):
        code = (
            "from vladkit import encode\n"
            "try:\n"
            "    encode([[[1.0]]], [[0.0]], method='fused')\n"
            "except ValueError as error:\n"
            "    print(error)\n"
        )
        assert "NUMBA_DISABLE_JIT" in _python(code, NUMBA_DISABLE_JIT="1")

    def test_works_where_no_cache_can_be_written(self, tmp_path):
        code = "from vladkit import encode; print(encode([[[1.0]]], [[0.0]], method='fused'))"
        locked = tmp_path / "locked"
        locked.touch()  # a file where the cache's folder would be
        assert "[[[1.]]]" in _python(code, NUMBA_CACHE_DIR=str(locked / "x"))


class TestAuto:
    def test_one_image_does_not_pay_for_numba(self):
        code = (
            "import sys, numpy as np\n"
            "from vladkit import encode\n"
            "encode(np.ones((1, 500, 128), 'f4'), np.eye(64, 128))\n"
            "print('numba' in sys.modules, 'scipy' in sys.modules)\n"
        )
        assert _python(code).split() == ["False", "False"]

    def test_much_work_goes_to_numba(self):
        code = (
            "import sys, numpy as np\n"
            "from vladkit import encode\n"
            "x = np.random.default_rng(0).normal(size=(8, 2000, 64)).astype('f4')\n"
            "for _ in range(40):\n"
            "    encode(x, np.eye(64))\n"
            "print('numba' in sys.modules)\n"
        )
        assert _python(code).strip() == "True"


def _bad_input():
    good = np.ones((2, 5, 4), np.float32)
    nan, inf = good.copy(), good.copy()
    nan[1, 2, 3] = np.nan
    inf[0, 4, 0] = -np.inf
    c = np.ones((3, 4))
    return {
        "1-D": (np.ones(4), c, ShapeError, "x[None, None, :]"),
        "2-D": (np.ones((5, 4)), c, ShapeError, "x[None]"),
        "4-D": (np.ones((1, 1, 5, 4)), c, ShapeError, "x.reshape(t, h * w, f)"),
        "list of maps": ([np.ones((2, 3, 4))], c, ShapeError, "x.reshape(f, h * w).T"),
        "generator": ((x for x in good), c, InputError, "of type generator, wanted"),
        "iterator": (map(np.asarray, good), c, InputError, "give list(x)"),
        "dict": ({"a": good[0]}, c, InputError, "of type dict, wanted a (t, l, f) array"),
        "dict of arrays": ({"a": good[0]}, c, InputError, "give list(x.values())"),
        "None": (None, c, InputError, "got None, wanted"),
        "5-D": (np.ones((1, 1, 1, 5, 4)), c, ShapeError, "(1, 1, 1, 5, 4)"),
        "number": (3.0, c, ShapeError, "wanted"),
        "empty list": ([], c, ShapeError, "empty list"),
        "only None": ([None, None], c, ShapeError, "(0, f)"),
        "list of 1-D": ([np.ones(4)], c, ShapeError, "element 0"),
        "mixed dimensions": ([good[0], np.ones((2, 3))], c, ShapeError, "3 dimensions"),
        "no dimensions": (np.ones((2, 5, 0)), c, ShapeError, "0 dimensions"),
        "wrong dimension": (good, np.ones((3, 8)), ShapeError, "centroids have 8 dimensions"),
        "no centroids": (good, np.ones((0, 4)), ShapeError, "k >= 1"),
        "1-D centroids": (good, np.ones(4), ShapeError, "(k, f)"),
        "text": (np.full((1, 2, 4), "a"), c, InputError, "real numbers"),
        "complex": (good + 1j, c, InputError, "real numbers"),
        "text in a list": ([np.full((2, 4), "a")], c, InputError, "real numbers"),
        "NaN": (nan, c, NonFiniteError, "descriptor 2 of image 1 holds nan in dimension 3"),
        "infinity": (inf, c, NonFiniteError, "descriptor 4 of image 0 holds -inf"),
        "NaN in a list": (list(nan), c, NonFiniteError, "descriptor 2 of image 1"),
        "NaN big-endian": (nan.astype(">f4"), c, NonFiniteError, "descriptor 2 of image 1"),
        "NaN centroid": (good, c * [[1], [np.nan], [1]], NonFiniteError, "centroid 1"),
        "centroid too large": (good, c * 1e300, NonFiniteError, "too large for float32"),
    }


@pytest.mark.parametrize("method", EVERY_WAY)
@pytest.mark.parametrize("name", _bad_input())
def test_bad_input_is_an_error_by_name(method, name):
    local, centroids, kind, message = _bad_input()[name]
    with pytest.raises(kind) as error:
        encode(local, centroids, method=method)
    assert message in str(error.value)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("method", WAYS)
def test_overflow_is_an_error_not_a_label(method):
    with pytest.raises(NonFiniteError, match="overflow float32"):
        encode([np.full((2, 4), 3e38, np.float32)], np.eye(4) * 100, method=method)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 3, 4, 15, 16, 95, 96, 767, 768, 800])
@pytest.mark.parametrize("k", [5, 50, 150])
def test_one_bad_value_anywhere_is_found(k, value, row):
    local_lf = np.random.default_rng(0).normal(size=(801, 40)).astype(np.float32)
    local_lf[row, 39] = value
    centroid_kf = np.random.default_rng(1).normal(size=(k, 40))
    centroid_kf[:, 39] = 0  # even where every centroid multiplies it by nothing
    with pytest.raises(NonFiniteError, match=f"descriptor {row} of image 1"):
        encode([local_lf[:0], local_lf], centroid_kf, method="fused")


@pytest.mark.parametrize("parameters", [{"method": "magic"}, {"n_jobs": 0}, {"n_jobs": 1.5}])
def test_bad_parameter(parameters):
    with pytest.raises(ParameterError):
        encode([np.ones((2, 2))], np.ones((1, 2)), **parameters)


@pytest.mark.parametrize(
    ("start", "message"),
    [([0, 3], "5"), ([1, 5], "from 1"), ([0, 4, 2, 5], "rising"), ([], "t + 1"), ([0.0, 5], "int")],
)
def test_bad_offsets(start, message):
    with pytest.raises(ShapeError, match=message.replace("+", r"\+")):
        Ragged(np.ones((5, 2)), start)


def test_none_and_empty_are_images_without_descriptors():
    got = encode([None, np.ones((2, 3)), np.empty((0, 3)), ()], np.zeros((1, 3)))
    assert got[:, 0].tolist() == [[0, 0, 0], [2, 2, 2], [0, 0, 0], [0, 0, 0]]


def _object_array(items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def _python(code: str | Path, **environment: str) -> str:
    """What a fresh interpreter prints, of code or of a script."""
    command = [sys.executable, code] if isinstance(code, Path) else [sys.executable, "-c", code]
    env = os.environ | environment
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_list_of_jax_arrays_has_the_widest_dtype():
    """As lists of NumPy's arrays and torch's tensors."""
    jnp = pytest.importorskip("jax").numpy
    half, single = jnp.asarray([[60000.0, 3]], jnp.float16), jnp.asarray([[1e6, 3]], jnp.float32)
    for images in ([half, single], [single, half]):
        got = encode(images, np.zeros((1, 2)))
        assert got.dtype == np.float32
        assert sorted(np.asarray(got)[:, 0, 0].tolist()) == [60000, 1e6]
