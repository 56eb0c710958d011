"""`segment_reduce` of tensors and JAX's arrays, and long sums: against a plain loop in float64."""

from __future__ import annotations

import numpy as np
import pytest

from vladkit import encode, segment_reduce, segment_sum
from vladkit.aggregation.segments import OPERATIONS
from vladkit.errors import InputError, ParameterError, ShapeError

LIBRARIES = ["torch", "jax"]
SEGMENT = np.array([3, 0, 3, 1, 1, 5, 0, 3])
N_SEGMENTS = 7
WEIGHTED = ("sum", "mean", "count", "logsumexp")
EMPTY = {"sum": 0, "count": 0, "prod": 1, "min": np.inf, "max": -np.inf, "logsumexp": -np.inf,
         "argmin": -1, "argmax": -1, "mean": np.nan}  # fmt: skip


def own(array, library, dtype=None):
    """An array of the library, in any of its dtypes."""
    if library == "torch":
        torch = pytest.importorskip("torch")
        return torch.tensor(np.asarray(array), dtype=dtype and getattr(torch, dtype))
    return pytest.importorskip("jax.numpy").asarray(array, dtype)


def host(result):
    """NumPy's array of a result, float64 where it is none of its floats."""
    if hasattr(result, "detach"):
        result = result.detach()
        return (result.double() if result.is_floating_point() else result).numpy()
    array = np.asarray(result)
    return array if array.dtype.kind in "iub" else array.astype(np.float64)


def loop(values, op, weights=None, segment=SEGMENT):
    """Results of a plain loop, in float64."""
    values = np.asarray(values, np.float64)
    weights = np.ones(len(values)) if weights is None else weights
    result = np.zeros((N_SEGMENTS, *values.shape[1:])) if op != "softmax" else values.copy()
    for s in range(N_SEGMENTS):
        row = np.flatnonzero(segment == s)
        x, w = values[row], weights[row].reshape(-1, *[1] * (values.ndim - 1))
        if not len(row):
            if op != "softmax":
                result[s] = EMPTY[op]
        elif op == "softmax":
            result[row] = np.exp(x) / np.exp(x).sum(0)
        else:
            result[s] = {
                "sum": lambda x, w: (w * x).sum(0),
                "mean": lambda x, w: (w * x).sum(0) / w.sum(),
                "count": lambda x, w: w.sum(),
                "logsumexp": lambda x, w: np.log((w * np.exp(x)).sum(0)),
            }.get(op, lambda x, w: getattr(np, op)(x, axis=0))(x, w)
            if op.startswith("arg"):
                result[s] = row[result[s].astype(int)]
    return result[:, 0] if op == "count" and values.ndim > 1 else result


VALUES = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
VALUES[2, 0] = VALUES[0, 0]  # a tie
WEIGHTS = np.random.default_rng(1).random(8).astype(np.float32) + 0.5


@pytest.mark.parametrize("library", LIBRARIES)
class TestBoth:
    @pytest.mark.parametrize("op", OPERATIONS)
    def test_equals_the_loop(self, library, op):
        x = own(VALUES, library)
        got = segment_reduce(x, own(SEGMENT, library), N_SEGMENTS, op)
        is_whole = op == "count" or op.startswith("arg")
        assert str(got.dtype).endswith("int64" if is_whole else "float32")
        np.testing.assert_allclose(host(got), loop(VALUES, op), rtol=1e-6)
        if op in WEIGHTED:
            got = segment_reduce(x, SEGMENT.tolist(), N_SEGMENTS, op, weights=own(WEIGHTS, library))
            np.testing.assert_allclose(host(got), loop(VALUES, op, WEIGHTS), rtol=1e-6)
        else:
            with pytest.raises(ParameterError, match=rf"op='{op}' takes no weights"):
                segment_reduce(x, SEGMENT, N_SEGMENTS, op, weights=WEIGHTS)

    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "float16", "bfloat16"])
    def test_dtypes(self, library, dtype):
        values = VALUES > 0 if dtype == "bool" else np.abs(VALUES * 9).astype(int)
        x = own(values, library, dtype)
        unsigned = dtype == "uint8" and library == "jax"
        for op in ("sum", "min", "argmax") if library == "jax" else OPERATIONS[:-2]:
            got = segment_reduce(x, SEGMENT, N_SEGMENTS, op)
            wanted = loop(values, op)
            if op in ("min", "max"):
                assert got.dtype == x.dtype
                if "float" not in dtype:  # the greatest or least number stands for infinity
                    low, high = (0, 1) if dtype == "bool" else np.array(
                        [np.iinfo(dtype).min, np.iinfo(dtype).max], float)  # fmt: skip
                    wanted = np.clip(wanted, low, high)
            elif op == "mean" and "float" not in dtype:
                assert str(got.dtype).endswith("float64")
            elif "float" in dtype and op in ("sum", "prod", "mean"):
                assert got.dtype == x.dtype
            else:
                assert str(got.dtype).endswith("uint64" if unsigned and op == "sum" else "int64")
            np.testing.assert_allclose(host(got), wanted, rtol=5e-3 if op == "mean" else 1e-6)

    def test_nan_stays_in_its_segment(self, library):
        values = VALUES.copy()
        values[2, 1] = np.nan
        for op in ("sum", "max", "argmin", "logsumexp", "softmax"):
            got = host(segment_reduce(own(values, library), SEGMENT, N_SEGMENTS, op))
            if op == "argmin":
                assert got[3].tolist() == [loop(VALUES, op)[3, 0], 2]
                continue
            row = SEGMENT == 3 if op == "softmax" else 3
            assert np.isnan(got[row, 1]).all()
            got[row, 1] = loop(VALUES, op)[row, 1]
            np.testing.assert_allclose(got, loop(VALUES, op), rtol=1e-6)

    def test_exponentials_do_not_overflow(self, library):
        values = VALUES * 0 + np.float32([1000, -np.inf])
        got = host(segment_reduce(own(values, library), SEGMENT, N_SEGMENTS, "logsumexp"))
        np.testing.assert_allclose(got[[3, 5]], [[1000 + np.log(3), -np.inf], [1000, -np.inf]])

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_beside_infinity_all_is_nothing(self, library, dtype):
        x = np.array([0, 89.5, np.inf, 720, -np.inf, 1, 1], dtype)
        jax = pytest.importorskip("jax")
        with jax.enable_x64(True):
            values = own(x, library, dtype)
            share = host(segment_reduce(values, [0, 0, 0, 0, 0, 1, 1], 2, "softmax"))
            sums = host(segment_reduce(values, [0, 0, 0, 0, 0, 1, 1], 2, "logsumexp"))
        np.testing.assert_array_equal(share, [0, 0, np.nan, 0, 0, 0.5, 0.5])
        np.testing.assert_allclose(sums, [np.inf, 1 + np.log(2)], rtol=1e-7)

    def test_fill_value(self, library):
        x = own(VALUES, library)
        for op in ("mean", "max"):
            got = host(segment_reduce(x, SEGMENT, N_SEGMENTS, op, fill_value=7))
            wanted = loop(VALUES, op)
            wanted[[2, 4, 6]] = 7
            np.testing.assert_allclose(got, wanted, rtol=1e-6)
        got = host(segment_reduce(x, SEGMENT, N_SEGMENTS, "count", fill_value=2**40))
        assert got.tolist() == [2, 2, 2**40, 3, 2**40, 1, 2**40]
        with pytest.raises(ParameterError, match=r"fill_value=0.5 is no int64"):
            segment_reduce(x, SEGMENT, N_SEGMENTS, "argmin", fill_value=0.5)
        with pytest.raises(ParameterError, match=r"fill_value=1e\+300 is no float32"):
            segment_reduce(x, SEGMENT, N_SEGMENTS, "sum", fill_value=1e300)
        with pytest.raises(ParameterError, match=r"fill_value='a': wanted a number"):
            segment_reduce(x, SEGMENT, N_SEGMENTS, "max", fill_value="a")
        with pytest.raises(ParameterError, match="op='softmax' has no segments to fill"):
            segment_reduce(x, SEGMENT, N_SEGMENTS, "softmax", fill_value=0)

    def test_rows_in_a_list(self, library):
        rows = [own(row, library) for row in VALUES]
        for op in ("sum", "mean", "softmax"):
            got = segment_reduce(rows, SEGMENT, N_SEGMENTS, op)
            assert type(got) is type(own(VALUES, library))
            np.testing.assert_array_equal(
                host(got), host(segment_reduce(own(VALUES, library), SEGMENT, N_SEGMENTS, op))
            )
        numbers = tuple(own(x, library) for x in VALUES[:, 0])
        got = host(segment_sum(numbers, SEGMENT, N_SEGMENTS))
        np.testing.assert_allclose(got, loop(VALUES[:, 0], "sum"), rtol=1e-6)
        for other in (own([1, 2, 3], library), None):
            with pytest.raises(ShapeError, match=r"rows of the list have shapes .*, wanted one"):
                segment_sum([*rows, other], [*SEGMENT, 0])

    def test_shapes(self, library):
        x = own(np.arange(48.0, dtype=np.float32).reshape(8, 2, 3), library)
        wanted = loop(host(x), "max")
        assert host(segment_reduce(x, SEGMENT.astype(np.int32), op="max")).shape == (6, 2, 3)
        np.testing.assert_array_equal(host(segment_reduce(x, SEGMENT, N_SEGMENTS, "max")), wanted)
        got = segment_reduce(x[:, ::2, 1], SEGMENT, N_SEGMENTS, "max")
        np.testing.assert_array_equal(host(got), wanted[:, ::2, 1])
        for op in ("sum", "argmin"):
            empty = segment_reduce(own(np.zeros((0, 3), np.float32), library), [], 2, op)
            assert host(empty).tolist() == [[EMPTY[op]] * 3] * 2
        assert segment_reduce(own(np.zeros((0, 3)), library), []).shape == (0, 3)

    def test_refusals(self, library):
        x = own(VALUES, library)
        with pytest.raises(ShapeError, match=r"segment has shape \(2,\) .* each of 8 rows"):
            segment_reduce(x, [0, 1], 2)
        with pytest.raises(ShapeError, match="dtype float64, wanted one integer"):
            segment_reduce(x, SEGMENT * 1.0, 2)
        with pytest.raises(ShapeError, match=r"weights have shape \(2,\), wanted one for each"):
            segment_reduce(x, SEGMENT, N_SEGMENTS, weights=[0.0, 1.0])
        with pytest.raises(InputError, match=r"weights are .*, wanted real numbers"):
            segment_reduce(x, SEGMENT, N_SEGMENTS, weights=WEIGHTS * 1j)
        with pytest.raises(InputError, match=r"values are .*complex64, wanted real numbers"):
            segment_reduce(own(VALUES * 1j, library, "complex64"), SEGMENT, N_SEGMENTS)
        with pytest.raises(ShapeError, match=r"values have shape \(\), wanted \(N, ...\)"):
            segment_reduce(own(np.float32(1), library), [0], 1)
        with pytest.raises(ParameterError, match="segment=None"):
            segment_reduce(x)
        with pytest.raises(ParameterError, match="n_segments=-1: wanted an integer from 0"):
            segment_reduce(x, SEGMENT, -1)

    @pytest.mark.parametrize(("n", "value"), [(2**24 + 5, 1.0), (3_000_000, 1.1)])
    def test_long_sums(self, library, n, value):
        """float32 stops counting at 2^24, and is off by 2 % for three million times 1.1."""
        values, segment = np.full(n, value, np.float32), np.zeros(n, np.int32)
        wanted = n * float(np.float32(value))
        got = float(segment_sum(own(values, library), own(segment, library), 1)[0])
        assert got == pytest.approx(wanted, rel=1e-7)
        if value != 1:
            got = float(segment_sum(values, segment, 1, method=library)[0])
            assert got == pytest.approx(wanted, rel=1e-7)

    def test_sums_that_cancel(self, library):
        values = np.tile(np.float32([1e6 + 0.5, -1e6]), 50_000)
        got = float(segment_sum(own(values, library), np.zeros(100_000, int), 1)[0])
        assert got == pytest.approx(values.sum(dtype=np.float64), rel=1e-6)

    @pytest.mark.parametrize("soft", [{}, {"assign": "soft", "alpha": 0.5}])
    def test_a_long_image(self, library, soft):
        """Residuals of one image of a million descriptors; float32 was off by 1 % and more.

        Soft assignment multiplies pieces of 1,024 rows in float32.
        """
        local = np.full((1_000_000, 1), 1.1, np.float32)
        centroids = np.float32([[0], [5]])
        distance_k = (centroids - np.float64(local[0]))[:, 0] ** 2
        weight_k = np.exp(-0.5 * distance_k) if soft else distance_k == distance_k.min()
        weight_k = weight_k / weight_k.sum() * len(local)
        wanted = (weight_k[:, None] * (np.float64(local[0]) - centroids))[None]
        scale, atol = np.abs(wanted).max(), 2e-5 if soft else 1e-6
        for got in (
            encode([local], centroids, method=library, **soft),
            encode(own(local, library)[None], centroids, **soft),
        ):
            np.testing.assert_allclose(host(got) / scale, wanted / scale, rtol=0, atol=atol)


def direction(op):
    """Some numbers that a result is multiplied by, so that its gradient is one of all of it."""
    return np.random.default_rng(2).normal(size=(8 if op == "softmax" else N_SEGMENTS, 2))


def differences(op, weights):
    """Gradients in values and weights by finite differences of NumPy's results."""

    def total(x, w):
        fill = None if op == "softmax" else 0
        w = w if weights else None
        result = segment_reduce(x, SEGMENT, N_SEGMENTS, op, weights=w, fill_value=fill)
        return (result * direction(op)).sum()

    x, w = VALUES.astype(np.float64), WEIGHTS.astype(np.float64)
    step_x, step_w = (np.eye(a.size).reshape(a.size, *a.shape) * 1e-6 for a in (x, w))
    in_x = [(total(x + d, w) - total(x - d, w)) / 2e-6 for d in step_x]
    in_w = [(total(x, w + d) - total(x, w - d)) / 2e-6 for d in step_w]
    return np.reshape(in_x, x.shape), np.array(in_w)


OF_FLOATS = ["sum", "mean", "min", "max", "prod", "logsumexp", "softmax"]


class TestGradients:
    @pytest.mark.parametrize("op", OF_FLOATS)
    def test_torch(self, op):
        torch = pytest.importorskip("torch")
        x = torch.tensor(VALUES, dtype=torch.float64, requires_grad=True)
        w = torch.tensor(WEIGHTS, dtype=torch.float64, requires_grad=op in WEIGHTED)

        def reduced(x, w):
            fill = None if op == "softmax" else 0
            w = w if op in WEIGHTED else None
            return segment_reduce(x, SEGMENT, N_SEGMENTS, op, weights=w, fill_value=fill)

        (reduced(x, w) * torch.from_numpy(direction(op))).sum().backward()
        in_x, in_w = differences(op, op in WEIGHTED)
        np.testing.assert_allclose(x.grad, in_x, atol=1e-7)  # halves of a tie are its difference
        if op in WEIGHTED:
            np.testing.assert_allclose(w.grad, in_w, atol=1e-7)
        if op == "max":
            y = torch.tensor(VALUES, requires_grad=True)
            reduced(y, None).sum().backward()
            wanted = loop(VALUES, op)[SEGMENT] == VALUES
            np.testing.assert_array_equal(y.grad, wanted / loop(wanted, "sum")[SEGMENT])

    @pytest.mark.parametrize("op", OF_FLOATS)
    def test_jax(self, op):
        """With 64 bits off: in grad, and in jit of vmap of grad."""
        jax = pytest.importorskip("jax")

        def total(x, w):
            fill = None if op == "softmax" else 0
            w = w if op in WEIGHTED else None
            result = segment_reduce(x, SEGMENT, N_SEGMENTS, op, weights=w, fill_value=fill)
            return (result * direction(op).astype(np.float32)).sum()

        gradients = jax.jit(jax.vmap(jax.grad(total, (0, 1))))
        in_x, in_w = gradients(VALUES[None], WEIGHTS[None])
        assert in_x.dtype == in_w.dtype == np.float32
        wanted_x, wanted_w = differences(op, op in WEIGHTED)
        np.testing.assert_allclose(in_x[0], wanted_x, atol=2e-6)
        np.testing.assert_allclose(in_w[0], wanted_w if op in WEIGHTED else 0, atol=2e-6)

    def test_second_derivatives_of_jax(self):
        jax = pytest.importorskip("jax")

        def total(x, op):
            return (segment_reduce(x, SEGMENT, N_SEGMENTS, op, fill_value=0) ** 2).sum()

        def wanted(x):
            parts = [jax.nn.logsumexp(x[s == SEGMENT], axis=0) for s in set(SEGMENT.tolist())]
            return sum((part**2).sum() for part in parts)

        def squares(function):
            return jax.jit(jax.grad(lambda x: (jax.grad(function)(x) ** 2).sum()))(VALUES)

        got = squares(lambda x: total(x, "logsumexp"))
        np.testing.assert_allclose(got, squares(wanted), atol=1e-5)
        with pytest.raises(ParameterError, match="op='prod' has no second derivative"):
            squares(lambda x: total(x, "prod"))

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_products_with_zeros(self, library):
        values = np.float32([2, 0, 3, 0, 0, 5, 7, 4])
        wanted = [np.prod([values[j] for j in range(8) if SEGMENT[j] == SEGMENT[i] and j != i])
                  for i in range(8)]  # fmt: skip
        if library == "torch":
            x = own(values, library).requires_grad_()
            segment_reduce(x, SEGMENT, N_SEGMENTS, "prod").sum().backward()
            got = x.grad
        else:
            jax = pytest.importorskip("jax")
            function = jax.grad(lambda x: segment_reduce(x, SEGMENT, N_SEGMENTS, "prod").sum())
            got = jax.jit(function)(values)
        np.testing.assert_array_equal(got, wanted)

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_no_gradient_is_nan_where_all_is_minus_infinity(self, library):
        values = np.where(SEGMENT == 3, -np.inf, 1).astype(np.float32)
        if library == "torch":
            x = own(values, library).requires_grad_()
            segment_reduce(x, SEGMENT, op="logsumexp")[[0, 1, 3, 5]].sum().backward()
            got = x.grad
        else:
            jax = pytest.importorskip("jax")
            function = jax.grad(lambda x: segment_reduce(x, SEGMENT, 6, "logsumexp")[:4].sum())
            got = jax.jit(function)(values)
        assert np.isfinite(np.asarray(got)).all()
        assert np.asarray(got)[SEGMENT == 3].tolist() == [0, 0, 0]

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_of_residual_sums(self, library):
        """One row more adds itself: labels are held."""
        local, centroids = VALUES[None], np.float32([[0, 0], [1, -1]])
        if library == "torch":
            x = own(local, library).requires_grad_()
            (encode(x, centroids) ** 2).sum().backward()
            got = x.grad
        else:
            jax = pytest.importorskip("jax")
            got = jax.jit(jax.grad(lambda x: (encode(x, centroids) ** 2).sum()))(local)
        label = ((VALUES[:, None] - centroids) ** 2).sum(2).argmin(1)
        wanted = 2 * encode(local, centroids)[0][label]
        np.testing.assert_allclose(got[0], wanted, rtol=1e-5)


class TestTorch:
    torch = pytest.importorskip("torch")

    def test_unsigned_integers(self):
        numbers = np.array([1, 2**63 + 5, 2**63 + 7, 3], np.uint64)
        for op in ("sum", "min", "max", "prod", "argmax"):
            wanted = segment_reduce(numbers, [0, 0, 1, 1], 3, op)
            got = segment_reduce(self.torch.from_numpy(numbers), [0, 0, 1, 1], 3, op).numpy()
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == wanted.dtype
        for dtype in (np.uint16, np.uint32):
            got = segment_reduce(
                self.torch.from_numpy(numbers.astype(dtype)), [0, 0, 1, 1], op="max"
            )
            assert got.tolist() == [5, 7]

    def test_out_of_range(self):
        x = self.torch.ones((3, 2))
        for segment in ([0, -1, 1], np.array([0, 4, 1]), self.torch.tensor([0, 4, 1])):
            bad = int(segment[1])
            with pytest.raises(ParameterError, match=rf"segment\[1\] is {bad}, wanted 0 to 3"):
                segment_reduce(x, segment, 4, "max")


class TestJax:
    jax = pytest.importorskip("jax")

    def test_segments_that_do_not_exist_are_dropped(self):
        x, segment = self.jax.numpy.asarray(VALUES), SEGMENT.copy()
        segment[[1, 5]] = -1, 9
        for op in ("sum", "min", "argmax", "softmax"):
            is_there = (segment >= 0) & (segment < N_SEGMENTS)
            wanted = loop(VALUES, op, segment=np.where(is_there, segment, -1))
            if op == "softmax":
                wanted[~is_there] = 0
            got = segment_reduce(x, self.jax.numpy.asarray(segment), N_SEGMENTS, op)
            np.testing.assert_allclose(host(got), wanted, rtol=1e-6)

    @pytest.fixture
    def on_a_device(self, monkeypatch):
        """Names of the ways that sums went, as on a device."""
        from vladkit.kernels import jax_segments as kernel

        ways = []
        for name in ("_added_to_copies", "_added_in_order"):
            way = getattr(kernel, name)
            monkeypatch.setattr(kernel, name, lambda *a, n=name, way=way: ways.append(n) or way(*a))
        monkeypatch.setattr(kernel.jax, "default_backend", lambda: "gpu")
        self.jax.clear_caches()
        yield ways
        self.jax.clear_caches()

    @pytest.fixture
    def in_order(self, on_a_device, monkeypatch):
        from vladkit.kernels import jax_segments as kernel

        for name in ("_MANY_VALUES", "_MANY_DIMS", "_ROWS_OF_SEGMENT"):
            monkeypatch.setattr(kernel, name, 0)
        return on_a_device

    @pytest.mark.parametrize("op", ["sum", "mean", "count", "logsumexp", "softmax"])
    def test_copies_of_the_sums(self, on_a_device, op):
        """On a device few segments have several copies, which neighbours in line go to."""
        rng = np.random.default_rng(0)
        x, segment = rng.normal(size=(1003, 3)).astype(np.float32), rng.integers(-1, 6, 1003)
        wanted = segment_reduce(
            x[(segment >= 0) & (segment < 5)], segment[(segment >= 0) & (segment < 5)], 5, op
        )
        got = host(
            segment_reduce(self.jax.numpy.asarray(x), self.jax.numpy.asarray(segment), 5, op)
        )
        if op == "softmax":
            got = got[(segment >= 0) & (segment < 5)]
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
        assert set(on_a_device) == {"_added_to_copies"}

    @pytest.mark.parametrize("labels", ["random", "sorted", "one", "none", "alternating", "each"])
    @pytest.mark.parametrize(("n", "f", "s"), [(1, 3, 1), (15, 1, 2), (160, 20, 9), (337, 8, 400)])
    def test_rows_in_the_order_of_their_segments(self, in_order, n, f, s, labels):
        """On a device many wide rows are sorted, and groups of 16 added up before."""
        rng = np.random.default_rng(n)
        x = rng.normal(size=(n, f)).astype(np.float32)
        segment = {
            "random": rng.integers(-1, s + 1, n),
            "sorted": np.sort(rng.integers(0, s, n)),
            "one": np.full(n, s - 1),
            "none": np.full(n, s),
            "alternating": np.arange(n) % s,
            "each": np.arange(n) * s // n,
        }[labels]
        inside = (segment >= 0) & (segment < s)
        wanted = np.zeros((s, f))
        np.add.at(wanted, segment[inside], x[inside].astype(np.float64))
        got = segment_sum(self.jax.numpy.asarray(x), self.jax.numpy.asarray(segment), s)
        np.testing.assert_array_equal(host(got), wanted.astype(np.float32))
        assert "_added_in_order" in in_order

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("op", ["sum", "mean", "logsumexp", "softmax"])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int16"])
    def test_reductions_in_order(self, in_order, dtype, op, weighted):
        rng = np.random.default_rng(5)
        x = self.jax.numpy.asarray(rng.integers(-9, 9, (800, 20)), dtype)
        segment = rng.integers(0, 11, 800)
        weights = rng.random(800, np.float32) if weighted and op != "softmax" else None
        wanted = segment_reduce(
            np.asarray(x.astype(np.float32 if dtype == "bfloat16" else dtype)),
            segment, 12, op, weights=weights,
        )  # fmt: skip
        got = segment_reduce(x, self.jax.numpy.asarray(segment), 12, op, weights=weights)
        rtol = 4e-3 if dtype == "bfloat16" else 1e-6
        np.testing.assert_allclose(np.asarray(got, np.float64), wanted, rtol=rtol, atol=1e-6)
        assert "_added_in_order" in in_order

    def test_no_number_and_infinity_in_order(self, in_order):
        x, segment = np.ones((300, 16), np.float32), np.arange(300) % 5
        x[7, 3], x[8, 4] = np.nan, np.inf
        got = host(segment_sum(self.jax.numpy.asarray(x), segment, 5))
        assert np.isnan(got[2, 3])
        assert got[3, 4] == np.inf
        assert np.isfinite(np.delete(got.ravel(), [2 * 16 + 3, 3 * 16 + 4])).all()
        assert in_order

    def test_in_order_inside_jit_vmap_and_grad(self, in_order):
        rng = np.random.default_rng(6)
        x = rng.normal(size=(3, 300, 17)).astype(np.float32)
        segment = rng.integers(0, 5, (3, 300))

        def summed(x, segment):
            return segment_sum(x, segment, 5)

        got = self.jax.jit(self.jax.vmap(summed))(x, self.jax.numpy.asarray(segment))
        wanted = [segment_sum(*each, 5) for each in zip(x, segment, strict=True)]
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
        gradient = self.jax.jit(
            self.jax.grad(lambda x: (segment_sum(x, segment[0], 5) ** 2).sum())
        )(x[0])
        np.testing.assert_allclose(gradient, 2 * wanted[0][segment[0]], rtol=1e-6)
        assert "_added_in_order" in in_order

    def test_number_of_segments_inside_jit(self):
        with pytest.raises(ParameterError, match="n_segments=None: the segments are not known"):
            self.jax.jit(segment_reduce)(self.jax.numpy.asarray(VALUES), SEGMENT)
        got = self.jax.jit(lambda x: segment_reduce(x, SEGMENT, op="max"))(VALUES)
        np.testing.assert_allclose(got, loop(VALUES, "max")[:6])

    def test_in_double_precision(self):
        with self.jax.enable_x64(True):
            x = self.jax.numpy.asarray(VALUES.astype(np.float64))
            got = segment_reduce(x, SEGMENT, N_SEGMENTS, "logsumexp")
            assert got.dtype == np.float64
            np.testing.assert_allclose(got, loop(VALUES, "logsumexp"), rtol=1e-14)
            whole = segment_reduce(self.jax.numpy.arange(8), SEGMENT, N_SEGMENTS, "mean")
            assert whole.dtype == np.float64
