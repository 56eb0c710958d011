"""Arrays follow their kind: torch in, torch out; JAX in, JAX out; few compilations."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from compare import ORACLE, tolerance
from vladkit import VLAD, Ragged, Whitening, encode, segment_sum
from vladkit.errors import InputError, ParameterError, ShapeError
from vladkit.kernels import METHODS

LENGTHS = (40, 0, 300, 1)


def problem(seed=0, f=24, k=7):
    rng = np.random.default_rng(seed)
    images = [rng.normal(size=(n, f)).astype(np.float32) for n in LENGTHS]
    return images, rng.normal(size=(k, f)).astype(np.float32)


def strange(torch, kind):
    """A tensor (6, 2) that is no plain array."""
    plain = torch.ones(6, 2)
    if kind == "nested":
        return torch.nested.nested_tensor([torch.ones(3, 2), torch.ones(3, 2)])
    if kind == "quantized":
        return torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8)
    return {
        "sparse": plain.to_sparse,
        "csr": plain.to_sparse_csr,
        "mkldnn": plain.to_mkldnn,
        "meta": lambda: plain.to("meta"),
    }[kind]()


@pytest.mark.filterwarnings("ignore")  # torch says that these are prototypes
@pytest.mark.parametrize("kind", ["sparse", "csr", "mkldnn", "nested", "quantized", "meta"])
def test_tensors_that_are_no_plain_arrays_are_refused_by_name(kind):
    torch = pytest.importorskip("torch")
    tensor, plain = strange(torch, kind), torch.ones(6, 2)
    segment, centroid_kf = [0, 0, 1, 1, 2, 2], np.ones((6, 2), np.float32)
    vlad = VLAD.from_centroids(centroid_kf)
    calls = [
        lambda: encode([plain.numpy()], tensor),
        lambda: vlad.transform([tensor]),
        lambda: VLAD.from_centroids(tensor),
        lambda: Ragged(tensor, [0, 6]),
        lambda: segment_sum(plain.numpy(), tensor),
        lambda: segment_sum(plain.numpy(), segment, weights=tensor),
    ]
    if kind != "meta":  # a device like any other
        calls += [
            lambda: encode([tensor], centroid_kf),
            lambda: encode([plain], tensor),
            lambda: segment_sum(tensor, segment),
            lambda: segment_sum(plain, tensor, 3),
            lambda: segment_sum(plain, segment, weights=tensor),
        ]
    for call in calls:
        with pytest.raises(
            (InputError, ParameterError), match=r"to_dense|dequantize|NumPy reads|device|on meta"
        ):
            call()


def test_keys_of_jax_are_no_numbers():
    jax = pytest.importorskip("jax")
    for call in (segment_sum, lambda key, _: Ragged(key, [0, 1])):
        with pytest.raises(InputError, match=r"key<fry>|NumPy reads"):
            call(jax.random.key(0), [0])


class TestTorch:
    torch = pytest.importorskip("torch")

    def devices(self):
        return ["cpu", *(["cuda"] if self.torch.cuda.is_available() else [])]

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    @pytest.mark.parametrize("soft", [{}, {"assign": "soft", "alpha": 0.3}])
    def test_same_device_and_dtype(self, dtype, soft):
        dtype = getattr(self.torch, dtype)
        images, centroids = problem()
        for device in self.devices():
            tensors = [self.torch.tensor(x, dtype=dtype, device=device) for x in images]
            got = encode(tensors, centroids, **soft)
            assert (got.dtype, got.device.type) == (dtype, device)
            exact = [x.double().cpu().numpy() for x in tensors]
            wanted = encode(exact, centroids, method=ORACLE, **soft)
            # Summed in float32 (or 64), then rounded to the dtype once.
            atol = tolerance(images, centroids, wanted.astype(np.float32))
            eps = self.torch.finfo(dtype).eps if dtype.itemsize == 2 else 0
            np.testing.assert_allclose(got.double().cpu().numpy(), wanted, rtol=eps, atol=4 * atol)

    def test_half_precision_sums_are_not_half(self):
        """4,096 ones and one more: float16 would stop counting at 2,048."""
        ones = self.torch.ones((1, 4100, 1), dtype=self.torch.float16)
        assert encode(ones, [[0.0]]).item() == 4100

    def test_dense_and_strided(self):
        images, centroids = problem()
        dense = self.torch.tensor(images[2]).reshape(10, 30, 24)
        wanted = encode(dense.numpy(), centroids, method=ORACLE)
        np.testing.assert_allclose(encode(dense, centroids).numpy(), wanted, atol=1e-4)
        turned = dense.permute(2, 1, 0).contiguous().permute(2, 1, 0)
        assert not turned.is_contiguous()
        np.testing.assert_allclose(encode(turned, centroids).numpy(), wanted, atol=1e-4)

    def test_integers(self):
        bytes_tlf = self.torch.arange(60, dtype=self.torch.uint8).reshape(2, 5, 6)
        got = encode(bytes_tlf, np.zeros((1, 6)))
        assert got.dtype == self.torch.float32
        np.testing.assert_array_equal(got.numpy(), bytes_tlf.numpy().sum(1, keepdims=True))
        assert encode(bytes_tlf.int(), np.zeros((1, 6))).dtype == self.torch.float64

    @pytest.mark.parametrize("method", [m for m in METHODS if m not in ("jax", "torch")])
    def test_other_ways_give_tensors_too(self, method):
        images, centroids = problem()
        tensors = [self.torch.tensor(x) for x in images]
        got = encode(tensors, self.torch.tensor(centroids), method=method)
        assert got.dtype == self.torch.float32
        wanted = encode(images, centroids, method=ORACLE)
        np.testing.assert_allclose(got.numpy(), wanted, atol=1e-4)

    def test_numpy_stays_numpy(self):
        images, centroids = problem()
        assert type(encode(images, self.torch.tensor(centroids), method="torch")) is np.ndarray

    def test_nan_comes_out_as_nan(self):
        local = self.torch.zeros((2, 3, 4))
        local[0, 1, 2] = self.torch.nan
        got = encode(local, np.ones((1, 4)))
        assert got[0].isnan().any()
        assert not got[1].isnan().any()

    def test_large_numbers_have_a_label(self):
        local = self.torch.zeros((2, 3, 4))
        local[0, :2, 2] = -3e38  # times a centroid: infinite
        got = encode(local, [[10.0] * 4, [-10.0] * 4])
        assert got[0].tolist() == [[-10] * 4, [20, 20, -np.inf, 20]]
        assert got[1].tolist() == [[-30] * 4, [0] * 4]

    def test_no_gradient_is_lost_in_silence(self):
        local = self.torch.zeros((2, 3, 4), requires_grad=True)
        with pytest.raises(ParameterError, match=r"'fused' has no gradient.*method='torch'"):
            encode(local, np.ones((1, 4)), method="fused")

    def test_other_device_is_not_fetched_in_silence(self):
        local = self.torch.zeros((2, 3, 4), device="meta")
        with pytest.raises(ParameterError, match=r"the tensor is on meta: .*tensor.cpu\(\)"):
            encode(local, np.ones((1, 4)), method="fused")

    def test_shapes(self):
        zeros = self.torch.zeros
        with pytest.raises(
            ShapeError, match=r"got an array of shape \(2, 3\), wanted a \(t, l, f\)"
        ):
            encode(zeros((2, 3)), np.ones((1, 3)))
        with pytest.raises(ShapeError, match="centroids have 5 dimensions, descriptors 3"):
            encode(zeros((1, 2, 3)), np.ones((1, 5)))
        with pytest.raises(ShapeError, match=r"image 1 has shape \(2, 4\).* f = 3"):
            encode([zeros((2, 3)), zeros((2, 4))], np.ones((1, 3)))
        with pytest.raises(InputError, match="mixes arrays of numpy and torch"):
            encode([zeros((2, 3)), np.zeros((2, 3))], np.ones((1, 3)))
        with pytest.raises(InputError, match="wanted real numbers"):
            encode(zeros((1, 2, 3), dtype=self.torch.complex64), np.ones((1, 3)))

    def test_none_and_empty_images(self):
        images, centroids = problem()
        got = encode([None, self.torch.tensor(images[0]), self.torch.empty((0, 24))], centroids)
        assert got.shape == (3, 7, 24)
        assert not got[0].any()
        assert not got[2].any()

    def test_segment_sum(self):
        values = self.torch.arange(12.0).reshape(6, 2)
        segment = self.torch.tensor([0, 2, 2, 0, 1, 4])
        wanted = [[6, 8], [8, 9], [6, 8], [0, 0], [10, 11]]
        for dtype in (self.torch.float16, self.torch.float64, self.torch.int32):
            got = segment_sum(values.to(dtype), segment, 5)
            assert got.dtype == (dtype if dtype.is_floating_point else self.torch.int64)
            assert got.tolist() == wanted
        assert segment_sum(values, segment, 5, method="fused").tolist() == wanted
        with pytest.raises(ParameterError, match=r"segment\[5\] is 4, wanted 0 to 3"):
            segment_sum(values, segment, 4)
        with pytest.raises(ShapeError, match="each of 6 rows"):
            segment_sum(values, segment[:3], 5)


class TestJax:
    jax = pytest.importorskip("jax")

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    @pytest.mark.parametrize("soft", [{}, {"assign": "soft", "alpha": 0.3}])
    @pytest.mark.parametrize("ragged", [True, False])
    def test_same_dtype(self, dtype, soft, ragged):
        jnp = self.jax.numpy
        images, centroids = problem()
        if not ragged:
            images = [images[2]]
        arrays = [jnp.asarray(x, dtype) for x in images]
        got = encode(arrays if ragged else arrays[0][None], centroids, **soft)
        assert isinstance(got, self.jax.Array)
        assert got.dtype == dtype
        exact = [np.asarray(x.astype("float32"), np.float64) for x in arrays]
        wanted = encode(exact, centroids, method=ORACLE, **soft)
        atol = tolerance(images, centroids, wanted.astype(np.float32))
        eps = float(jnp.finfo(dtype).eps) if dtype != "float32" else 0
        np.testing.assert_allclose(
            np.asarray(got.astype("float32")), wanted, rtol=eps, atol=4 * atol
        )

    def test_inside_jit_and_vmap(self):
        images, centroids = problem()
        local = images[2].reshape(10, 30, 24)
        wanted = encode(local, centroids, method=ORACLE)
        got = self.jax.jit(lambda x: encode(x, centroids) * 2)(local)
        np.testing.assert_allclose(got, 2 * wanted, atol=1e-4)
        one_by_one = self.jax.vmap(lambda x: encode(x[None], centroids)[0])(local)
        np.testing.assert_allclose(one_by_one, wanted, atol=1e-4)

    def test_ways_of_summing(self, monkeypatch):
        """On a CPU a scatter in float64, elsewhere a product, on a GPU a scatter of two parts."""
        from vladkit.kernels import jax as kernel

        def sums(*arguments):
            return self.jax.jit(lambda *a: kernel.residual_sums(*a))(*arguments)

        images, centroids = problem()
        local = images[2].reshape(10, 30, 24)
        length = np.array([30, 0, 7, 30, 1, 30, 30, 30, 29, 30])
        scatter = sums(local, centroids, length)
        monkeypatch.setattr(kernel.jax, "default_backend", lambda: "tpu")
        product = sums(local, centroids, length)
        monkeypatch.setattr(kernel.jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(kernel, "_MANY_WORDS", 1)
        two_parts = sums(local, centroids, length)
        wanted = encode([x[:n] for x, n in zip(local, length, strict=True)], centroids)
        for residual, count in (scatter, product, two_parts):
            np.testing.assert_allclose(residual, wanted, atol=1e-4)
            np.testing.assert_array_equal(count.sum(axis=1), length)

    @pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
    def test_sums_of_two_parts(self, monkeypatch, scale):
        """In any order the same bits, and 1e5 equal rows without the error of float32."""
        from vladkit.kernels import jax as kernel

        monkeypatch.setattr(kernel.jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(kernel, "_MANY_WORDS", 1)
        way = self.jax.jit(lambda x, c: kernel.residual_sums(x, c)[0])
        equal = np.full((1, 100_000, 2), 1.1 * scale, np.float32)
        exact = 1e5 * float(equal[0, 0, 0])
        np.testing.assert_allclose(way(equal, np.zeros((1, 2), np.float32)), exact, rtol=1e-7)
        rng = np.random.default_rng(0)
        mixed = (rng.normal(size=(1, 1000, 8)) * scale).astype(np.float32)
        centroid = (rng.normal(size=(3, 8)) * scale).astype(np.float32)
        wanted = encode(mixed.astype(np.float64), centroid.astype(np.float64), method=ORACLE)
        once = way(mixed, centroid)
        np.testing.assert_allclose(once, wanted, rtol=1e-5, atol=1e-5 * scale)
        np.testing.assert_array_equal(once, way(mixed[:, rng.permutation(1000)], centroid))

    def test_gradients_of_two_parts(self, monkeypatch):
        """Those of the sums with the labels held, as on every other way."""
        from vladkit.kernels import jax as kernel

        local = np.random.default_rng(0).normal(size=(2, 50, 4)).astype(np.float32)
        centroid = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)

        def loss(local, centroid):
            return (kernel.residual_sums(local, centroid)[0] ** 2).sum()

        wanted = self.jax.grad(loss, (0, 1))(local, centroid)
        monkeypatch.setattr(kernel.jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(kernel, "_MANY_WORDS", 1)
        for got, other in zip(self.jax.grad(loss, (0, 1))(local, centroid), wanted, strict=True):
            np.testing.assert_allclose(got, other, rtol=1e-4, atol=1e-4)

    def test_large_arrays_go_in_groups(self, monkeypatch):
        from vladkit.kernels import jax as kernel

        images, centroids = problem()
        local = images[2].reshape(10, 30, 24)
        monkeypatch.setattr(kernel, "_MOST_SCORES", 3 * 30 * 24)
        got = self.jax.jit(lambda *a: kernel._in_groups.__wrapped__(*a, None))(local, centroids)
        np.testing.assert_allclose(got, encode(local, centroids, method=ORACLE), atol=1e-4)

    def test_few_compilations(self):
        """40 random ragged batches, from one tiny image to images of 10,000."""
        from vladkit.kernels.jax import _step

        rng = np.random.default_rng(0)
        centroids = rng.normal(size=(8, 14)).astype(np.float32)  # a size of this test alone
        before = _step._cache_size()
        for _ in range(40):
            length = rng.integers(0, 10 ** rng.integers(1, 5), rng.integers(1, 20))
            images = [rng.normal(size=(n, 14)).astype(np.float32) for n in length]
            encode(images, centroids, method="jax")
        assert 1 <= _step._cache_size() - before <= 8

    def test_image_longer_than_a_chunk(self):
        rng = np.random.default_rng(3)
        images = [rng.normal(size=(n, 3)).astype(np.float32) for n in (20_000, 5, 8192, 8193)]
        centroids = rng.normal(size=(4, 3))
        wanted = encode(images, centroids, method="reduceat")
        np.testing.assert_allclose(encode(images, centroids, method="jax"), wanted, atol=2e-2)

    def test_parts_of_an_image_in_one_chunk(self, monkeypatch):
        """Chunks are larger where JAX computes elsewhere: they then hold parts of one image."""
        from vladkit.kernels import jax as kernel

        monkeypatch.setattr(kernel.jax, "default_backend", lambda: "tpu")
        image = np.random.default_rng(4).normal(size=(40_000, 2))
        centroids = np.array([[0.0, 1.0], [1.0, -1.0]])
        wanted = encode([image], centroids, method="reduceat")
        np.testing.assert_allclose(encode([image], centroids, method="jax"), wanted, atol=1e-7)

    def test_other_ways_give_jax_too(self):
        images, centroids = problem()
        for method in ("fused", "reduceat", "torch"):
            got = encode([self.jax.numpy.asarray(x) for x in images], centroids, method=method)
            assert isinstance(got, self.jax.Array)
            np.testing.assert_allclose(got, encode(images, centroids), atol=1e-4)

    def test_numpy_stays_numpy(self):
        images, centroids = problem()
        got = encode(images, self.jax.numpy.asarray(centroids), method="jax")
        assert type(got) is np.ndarray
        double = [x.astype(np.float64) for x in images]
        assert encode(double, centroids, method="jax").dtype == np.float64

    def test_nan_comes_out_as_nan(self):
        local = np.zeros((2, 3, 4), np.float32)
        local[0, 1, 2] = np.nan
        got = encode(self.jax.numpy.asarray(local), np.ones((1, 4)))
        assert np.isnan(got[0]).any()
        assert not np.isnan(got[1]).any()

    def test_large_numbers_have_a_label(self):
        local = self.jax.numpy.zeros((2, 3, 4)).at[0, :2, 2].set(-3e38)
        got = encode(local, np.array([[10.0] * 4, [-10.0] * 4]))
        assert got[0].tolist() == [[-10] * 4, [20, 20, -np.inf, 20]]
        assert got[1].tolist() == [[-30] * 4, [0] * 4]

    def test_shapes(self):
        zeros = self.jax.numpy.zeros
        with pytest.raises(ShapeError, match=r"got an array of shape \(2, 3\)"):
            encode(zeros((2, 3)), np.ones((1, 3)))
        with pytest.raises(ShapeError, match="centroids have 5 dimensions, descriptors 3"):
            encode(zeros((1, 2, 3)), np.ones((1, 5)))

    def test_segment_sum(self):
        values = self.jax.numpy.arange(12.0).reshape(6, 2)
        segment = np.array([0, 2, 2, 0, 1, 4])
        got = segment_sum(values, segment, 5)
        assert isinstance(got, self.jax.Array)
        assert got.tolist() == [[6, 8], [8, 9], [6, 8], [0, 0], [10, 11]]
        assert segment_sum(values.astype(int), segment, 5).tolist() == got.tolist()
        with pytest.raises(ShapeError, match="each of 6 rows"):
            segment_sum(values, segment[:3], 5)


class TestWithout:
    """Neither is imported for NumPy's arrays, and their absence is said with the cure."""

    @pytest.mark.parametrize("method", ["jax", "torch"])
    def test_missing(self, method):
        code = f"""
import sys
sys.modules[{method!r}] = None  # as if it were not installed
from vladkit import encode
from vladkit.errors import MissingDependencyError
try:
    encode([[[1.0]]], [[0.0]], method={method!r})
except MissingDependencyError as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert f"pip install 'vladkit[{method}]'" in done.stdout, done.stderr

    def test_not_imported(self):
        code = """
import sys
import numpy as np
from vladkit import encode, segment_sum
encode(np.ones((1, 2, 3)), np.ones((1, 3)))
segment_sum(np.ones((2, 3)), [0, 1], 2)
print(sorted({"jax", "torch", "numba", "scipy"} & set(sys.modules)))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "[]", done.stderr

    def test_ragged_of_numpy(self):
        batch = Ragged.from_list([np.ones((2, 3))])
        assert type(encode(batch, np.ones((1, 3)))) is np.ndarray


@pytest.mark.parametrize("kind", ["numpy", "torch", "jax"])
def test_maps_of_a_network_get_their_reshape(kind):
    """The hints of the messages, taken at their word, give the descriptors of each place."""
    t, h, w, f = 2, 3, 4, 5
    map_thwf = np.arange(t * h * w * f, dtype=np.float32).reshape(t, h, w, f)
    centroids = np.random.default_rng(0).normal(20, 9, size=(3, f)).astype(np.float32)
    wanted = encode(map_thwf.reshape(t, -1, f), centroids)
    module = np if kind == "numpy" else pytest.importorskip({"jax": "jax.numpy"}.get(kind, kind))
    for last in (True, False):
        x = module.asarray(map_thwf if last else np.moveaxis(map_thwf, 3, 1).copy())
        hint = "x.reshape(t, h * w, f)" if last else "x.reshape(t, f, h * w).swapaxes(1, 2)"
        for refuse in (lambda x=x: encode(x, centroids), lambda x=x: VLAD(2).fit(x)):
            with pytest.raises(ShapeError, match=re.escape(hint)):
                refuse()
        got = encode(eval(hint, {}, {"x": x, "t": t, "h": h, "w": w, "f": f}), centroids)
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
        one = "x.reshape(h * w, f)" if last else "x.reshape(f, h * w).T"
        with pytest.raises(ShapeError, match=re.escape(one)):
            encode(list(x), centroids)
        parts = [eval(one, {}, {"x": each, "h": h, "w": w, "f": f}) for each in x]
        np.testing.assert_allclose(encode(parts, centroids), wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_estimators_take_tensors_that_require_a_gradient(dtype):
    torch = pytest.importorskip("torch")
    images, centroids = problem()
    array = images[2].astype(np.float32)
    tensor = torch.tensor(array, dtype=getattr(torch, dtype), requires_grad=True)
    plain = tensor.detach().float().numpy()
    vlad = VLAD.from_centroids(torch.nn.Parameter(torch.tensor(centroids)))
    np.testing.assert_array_equal(vlad.centroids_, centroids)
    np.testing.assert_array_equal(vlad.words(tensor), vlad.words(plain))
    whitening = Whitening(3).fit(tensor)
    assert isinstance(whitening.transform(tensor), np.ndarray)
    np.testing.assert_allclose(whitening.transform(tensor), whitening.transform(plain), atol=1e-6)
    views = whitening.transform_views(tensor[:, None])
    np.testing.assert_allclose(views, whitening.transform_views(plain[:, None]), atol=1e-6)
