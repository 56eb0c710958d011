"""Presets against their papers and programs: tiny plain-Python rewritings, and known vectors.

The oracles below share nothing with the library: lists, `math`, one descriptor after the other,
in the order of steps of the source that each names.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from vladkit import VLAD, encode
from vladkit.aggregation.codebook import train_centroids
from vladkit.aggregation.encode import aggregate_unit
from vladkit.core.ragged import Ragged, as_ragged
from vladkit.errors import ParameterError
from vladkit.kernels import METHODS

# Six descriptors, four centroids: one descriptor lies on its centroid (a residual of zero length),
# one is zero, the last centroid is nobody's.
X = [[1.0, 0.5], [0.0, 0.0], [-0.5, 2.0], [2.0, -1.0], [0.25, 0.25], [-1.5, 0.75]]
C = [[1.0, 0.5], [-1.0, 1.0], [0.5, -0.75], [9.0, 9.0]]


def length(v):
    return math.sqrt(sum(x * x for x in v))


def scaled(v, by):
    return [x / by for x in v]


def difference(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def nearest(x, centroids):
    distances = [length(difference(x, c)) for c in centroids]
    return distances.index(min(distances))


def signed_power(x, p):
    return math.copysign(abs(x) ** p, x)


def sums(descriptors, centroids, residuals_to=None, label=nearest, form=lambda r: r):
    to = residuals_to or centroids
    out = [[0.0] * len(c) for c in to]
    for x in descriptors:
        k = label(x, centroids)
        out[k] = [a + b for a, b in zip(out[k], form(difference(x, to[k])), strict=True)]
    return out


def flat(blocks):
    return [x for block in blocks for x in block]


def unit(v):
    return scaled(v, max(length(v), 1e-12))


def vlfeat(descriptors, centroids, mass=False, ssr=False, intra=False, unnormalized=False):
    """vl/vlad.c, _vl_vlad_encode_d, line by line; assignments are one-hot."""
    enc = []
    for k, mean in enumerate(centroids):
        members = [x for x in descriptors if nearest(x, centroids) == k]
        block = [0.0] * len(mean)
        for x in members:
            block = [a + b for a, b in zip(block, x, strict=True)]
        cluster_mass = float(len(members))
        if cluster_mass > 0:
            if mass:
                block = difference(scaled(block, cluster_mass), mean)
            else:
                block = difference(block, [cluster_mass * m for m in mean])
        if ssr:
            block = [math.sqrt(z) if z >= 0 else -math.sqrt(-z) for z in block]
        if intra:
            block = scaled(block, max(length(block), 1e-12))
        enc += block
    return enc if unnormalized else scaled(enc, max(length(enc), 1e-12))


def jegou2010(descriptors, centroids):
    return unit(flat(sums(descriptors, centroids)))


def jegou2012(descriptors, centroids, axes):
    rotated = [[dot(block, axis) for axis in axes] for block in sums(descriptors, centroids)]
    return unit([signed_power(x, 0.5) for x in flat(rotated)])


def all_about_vlad(descriptors, centroids, collection):
    """Adapted centroids are the means of the whole collection's cells; labels stay."""
    adapted = []
    for k, c in enumerate(centroids):
        members = [x for image in collection for x in image if nearest(x, centroids) == k]
        total = [sum(column) for column in zip(*members, strict=True)]
        adapted.append(scaled(total, len(members)) if members else c)
    return unit(flat([unit(block) for block in sums(descriptors, centroids, adapted)]))


def delhumeau2013(descriptors, centroids, axes_of_cell):
    blocks = sums(descriptors, centroids, form=unit)
    pairs = zip(blocks, axes_of_cell, strict=True)
    rotated = [[dot(block, axis) for axis in axes] for block, axes in pairs]
    return unit([signed_power(x, 0.2) for x in flat(rotated)])


def anyloc(descriptors, centroids):
    """utilities.py, VLAD.generate: norm_descs, dist_mode cosine, hard, intra_norm.

    Residuals are to the centroids as they are, not brought to unit length.
    """

    def by_cosine(x, centroids):
        cosines = [dot(x, c) / max(length(x) * length(c), 1e-12) for c in centroids]
        return cosines.index(max(cosines))

    descriptors = [unit(x) for x in descriptors]
    return unit(flat([unit(b) for b in sums(descriptors, centroids, label=by_cosine)]))


def made_by(preset, centroids, rotation=None):
    parameters = VLAD.preset(preset).get_params()
    del parameters["n_clusters"], parameters["rotation"]
    return VLAD.from_centroids(centroids, rotation=rotation, **parameters)


def turned(degrees):
    """Axes as rows."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [[c, s], [-s, c]]


class TestPresets:
    """All in float64; a batch of three: the descriptors, some of them, none."""

    images = (X, X[2:5], [])

    def check(self, vlad, oracle):
        got = vlad.transform([np.array(image, float).reshape(-1, 2) for image in self.images])
        np.testing.assert_allclose(got, [oracle(image) for image in self.images], atol=1e-12)
        assert not got[2].any()

    def test_data_has_the_cases(self):
        labels = [nearest(x, C) for x in X]
        assert set(labels) == {0, 1, 2}
        assert X[0] == C[labels[0]]

    def test_vlfeat(self):
        self.check(made_by("vlfeat", C), lambda x: vlfeat(x, C))

    @pytest.mark.parametrize("mass", [False, True])
    @pytest.mark.parametrize("ssr", [False, True])
    @pytest.mark.parametrize("intra", [False, True])
    @pytest.mark.parametrize("unnormalized", [False, True])
    def test_vlfeat_flags(self, mass, ssr, intra, unnormalized):
        flags = {"mass": mass, "ssr": ssr, "intra": intra, "l2": not unnormalized}
        steps = [name for name, on in flags.items() if on]
        vlad = VLAD.from_centroids(C, norm=steps)
        self.check(vlad, lambda x: vlfeat(x, C, mass, ssr, intra, unnormalized))

    def test_vlfeat_epsilon(self):
        """VLFeat divides a block of length 1e-13 by 1e-12; ours by 1e-12 of the longest block."""
        centroids, image = [[0.0, 0.0], [5.0, 5.0]], [[6e-14, 8e-14], [5.0, 8.0]]
        got = VLAD.from_centroids(centroids, norm="intra").transform([np.array(image)])
        np.testing.assert_allclose(got[0], [0.02, 0.08 / 3, 0, 1])
        theirs = vlfeat(image, centroids, intra=True, unnormalized=True)
        np.testing.assert_allclose(theirs, [0.06, 0.08, 0, 1])

    def test_jegou2010(self):
        self.check(made_by("jegou2010", C), lambda x: jegou2010(x, C))

    def test_jegou2012(self):
        axes = turned(30)
        vlad = made_by("jegou2012", C, np.array(axes).T)
        self.check(vlad, lambda x: jegou2012(x, C, axes))
        one_axis = made_by("jegou2012", C, np.array(axes[:1]).T)
        self.check(one_axis, lambda x: jegou2012(x, C, axes[:1]))

    def test_all_about_vlad(self):
        vlad = made_by("all-about-vlad", C)
        collection = [X, [[1.25, 0.75], [-2.0, 2.0]], X[1:2]]
        batches = (vlad.aggregate([np.array(image)]) for image in collection)
        self.check(vlad.adapt(batches), lambda x: all_about_vlad(x, C, collection))

    def test_delhumeau2013(self):
        axes = [turned(10), turned(100), turned(45), turned(-20)]
        vlad = made_by("delhumeau2013", C, np.array(axes).transpose(0, 2, 1))
        self.check(vlad, lambda x: delhumeau2013(x, C, axes))

    @pytest.mark.parametrize("size", [1, 0.3, 40])
    def test_anyloc(self, size):
        centroids = [[1.0, 0.4], [-1.0, 1.0], [size * 0.5, size * -0.75], [-0.1, -9.0]]
        self.check(made_by("anyloc", centroids), lambda x: anyloc(x, centroids))

    def test_anyloc_is_neither_plain_nor_euclidean(self):
        """The case that tells: near by distance is not near by angle."""
        centroids = np.array([[0.2, 0.0], [3.0, 3.0]])
        image = [np.array([[0.9, 0.6], [4.0, 0.1]])]
        cosine = VLAD.from_centroids(centroids, metric="cosine", norm="none").transform(image)
        # (.83, .55) is 33.7 degrees from the first and 11.3 from the second
        assert cosine[0, 2:] == pytest.approx(np.array([0.9, 0.6]) / 1.17**0.5 - 3)
        assert not np.allclose(cosine, VLAD.from_centroids(centroids, norm="none").transform(image))

    def test_order_is_the_papers(self):
        """What the wrong order gives is not within rounding of the right one."""
        image = [np.array(X)]
        turns = np.array([turned(10), turned(100), turned(45), turned(-20)]).transpose(0, 2, 1)
        right = made_by("delhumeau2013", C, turns).transform(image)
        sums_tkf, _ = aggregate_unit(as_ragged(image), C, C)
        first = np.sign(sums_tkf) * np.abs(sums_tkf) ** 0.2
        wrong = np.einsum("tkf,kfd->tkd", first, turns).reshape(1, -1)
        assert np.abs(right - wrong / np.linalg.norm(wrong)).max() > 0.05
        swapped = VLAD.from_centroids(C, norm="ssr,intra,l2").transform(image)
        assert (
            np.abs(swapped - VLAD.from_centroids(C, norm="intra,ssr,l2").transform(image)).max()
            > 0.01
        )

    def test_names(self):
        assert VLAD.preset("anyloc").n_clusters == 32
        assert VLAD.preset("anyloc", n_clusters=5, norm="l2").norm == "l2"
        assert VLAD.preset("delhumeau2013").get_params()["rotation"] == "cell"
        for name in ("netvlad", ""):
            with pytest.raises(ParameterError, match=f"preset='{name}': wanted .*all-about-vlad"):
                VLAD.preset(name)
        with pytest.raises(ParameterError, match=r"wanted 'vlfeat', .* or 'anyloc'"):
            VLAD.preset()

    @pytest.mark.parametrize(
        "name", ["vlfeat", "jegou2010", "jegou2012", "all-about-vlad", "delhumeau2013", "anyloc"]
    )
    def test_train_save_load(self, name, tmp_path):
        rng = np.random.default_rng(0)
        images = [rng.normal(size=(n, 70)).astype(np.float32) for n in (90, 0, 60)]
        vlad = VLAD.preset(name, n_clusters=3).fit(images)
        vlad.save(tmp_path / "a")
        twin = VLAD.load(tmp_path / "a")
        vector_tD = vlad.transform(images)
        np.testing.assert_array_equal(twin.transform(images), vector_tD)
        assert twin.get_params() == vlad.get_params()
        assert vector_tD.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vector_tD, axis=1), [1, 0, 1], atol=1e-5)


class TestKnownVectors:
    def test_five_centroids(self):
        centroids = [[0.5, 0.5], [0, 0], [1, 0], [-0.5, -0.5], [0, 1]]
        image = [[1.0, 0], [-1, 0], [1, 2]]
        raw = VLAD.from_centroids(centroids, norm="none").transform([np.array(image)])
        assert raw.tolist() == [[0, 0, 0, 0, 0, 0, -0.5, 0.5, 1, 1]]
        assert vlfeat(image, centroids, unnormalized=True) == raw[0].tolist()
        wanted = [0] * 6 + [-0.316228, 0.316228, 0.632456, 0.632456]
        for name in ("vlfeat", "jegou2010"):
            got = made_by(name, centroids).transform([np.array(image)])
            np.testing.assert_allclose(got[0], wanted, atol=5e-7)

    def test_one_centroid(self):
        x = np.array([[1.0, 2, 3]])
        assert encode([x], [[0, 0, 0]]).ravel().tolist() == [1, 2, 3]
        assert encode([x], [[0, 1, 2]]).ravel().tolist() == [1, 1, 1]
        assert encode([np.repeat(x, 2, axis=0)], [[0, 0, 0]]).ravel().tolist() == [2, 4, 6]

    def test_identity(self):
        got = encode([np.array([[0, 1.1]])], np.eye(2))
        np.testing.assert_allclose(got.ravel(), [0, 0, 0, 0.1], atol=1e-15)


def unit_sums(image_lf, centroid_kf):
    """Residuals of unit length summed, the plain loop."""
    blocks = sums(image_lf.tolist(), centroid_kf.tolist(), form=lambda r: scaled(r, length(r) or 1))
    return np.array(blocks)


class TestUnitResiduals:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("sizes", [(0, 5, 1, 0, 30), (7,), (0, 0), (1,) * 40])
    @pytest.mark.parametrize("block", [None, 8])
    def test_is_the_loop(self, dtype, sizes, block, monkeypatch):
        rng = np.random.default_rng(0)
        centroid_kf = rng.integers(0, 200, (6, 4)).astype(float)
        images = [rng.integers(0, 200, (n, 4)).astype(dtype) for n in sizes]
        if sum(sizes):
            images[-1][0] = centroid_kf[2]  # a residual of zero length
        if block:
            monkeypatch.setattr("vladkit.kernels.buckets._BLOCK_VALUES", block * 4)
        wanted = [unit_sums(image.astype(float), centroid_kf) for image in images]
        stacked = Ragged(np.concatenate(images), np.cumsum([0, *sizes]))
        for batch in (Ragged.from_list(images), stacked):
            got, count_tk = aggregate_unit(batch, centroid_kf, centroid_kf)
            assert got.dtype == batch.float_dtype
            np.testing.assert_allclose(got, wanted, atol=1e-5)
            assert count_tk.sum(axis=1).tolist() == list(sizes)

    def test_labels_and_residuals_may_have_different_centroids(self):
        image = np.array([[0.0, 1], [0, 4]])
        got, _ = aggregate_unit(as_ragged([image]), [[0, 0], [0, 5]], [[0, 9], [0, 1]])
        assert got.tolist() == [[[0, -1], [0, 1]]]

    @pytest.mark.parametrize("size", [1e-30, 1e30])
    def test_very_small_and_large(self, size):
        image = np.array([[3 * size, 4 * size]], np.float32)
        got, _ = aggregate_unit(as_ragged([image]), np.zeros((1, 2)), np.zeros((1, 2)))
        np.testing.assert_allclose(got.ravel(), [0.6, 0.8], rtol=1e-6)

    def test_refusals(self):
        images = [np.random.default_rng(0).normal(size=(30, 4))]
        for bad in (
            {"assign": "soft", "alpha": 1.0},
            {"method": "fused"},
            {"residual": "typo"},
            {"metric": "typo"},
            {"rotation": "typo"},
        ):
            with pytest.raises(ParameterError):
                VLAD(3, **({"residual": "unit"} | bad)).fit(images)
        images[0][2, 1] = np.nan
        for vlad in (
            VLAD.from_centroids(C, residual="unit"),
            VLAD.from_centroids(C, metric="cosine"),
        ):
            with pytest.raises(ValueError, match="descriptor 2 of image 0 holds nan"):
                vlad.transform([images[0][:, :2]])


class TestZerosByCosine:
    """A descriptor of zeros has the cosine 0 with every centroid: it belongs to the first."""

    centroids = np.random.default_rng(3).normal(size=(20, 7)).astype(np.float32)

    def images(self):
        rng = np.random.default_rng(4)
        images = [rng.normal(size=(n, 7)).astype(np.float32) for n in (9, 0, 5, 30, 1)]
        images[0][[0, 4, 8]] = images[3][:4] = images[4][:] = 0
        return images

    @pytest.mark.parametrize("method", [*METHODS, "auto"])
    @pytest.mark.parametrize("adapted", [False, True])
    def test_in_every_way(self, method, adapted):
        if method in ("jax", "torch"):
            pytest.importorskip(method)
        vlad = VLAD.from_centroids(self.centroids, metric="cosine", norm="none", method=method)
        images = self.images()
        if adapted:
            vlad = vlad.adapt(vlad.aggregate([images[3][10:]]))
        full = [image[image.any(axis=1)] for image in images]
        wanted = vlad.transform(full).reshape(5, 20, 7)
        wanted[:, 0] -= np.multiply.outer([3, 0, 0, 4, 1], vlad.centroids_[0])
        got = vlad.transform(images).reshape(5, 20, 7)
        np.testing.assert_allclose(got, wanted, atol=1e-5)
        count_tk = vlad.aggregate(images).count_tk
        wanted_tk = vlad.aggregate(full).count_tk
        wanted_tk[:, 0] += [3, 0, 0, 4, 1]
        np.testing.assert_array_equal(count_tk, wanted_tk)
        words = [np.bincount(vlad.words(image), minlength=20) for image in images]
        np.testing.assert_array_equal(words, count_tk)

    def test_of_unit_residuals(self):
        vlad = VLAD.from_centroids(self.centroids, metric="cosine", norm="none", residual="unit")
        got = vlad.transform([np.zeros((3, 7), np.float32)]).reshape(20, 7)
        first_f = self.centroids[0] / np.linalg.norm(self.centroids[0])
        np.testing.assert_allclose(got[0], -3 * first_f, atol=1e-6)
        assert not got[1:].any()

    def test_soft_shares_them(self):
        soft = {"metric": "cosine", "norm": "none", "assign": "soft", "alpha": 3.0}
        vlad = VLAD.from_centroids(self.centroids, **soft)
        count_tk = vlad.aggregate([np.zeros((5, 7), np.float32)]).count_tk
        np.testing.assert_allclose(count_tk, 5 / 20, rtol=1e-5)

    def test_training_leaves_them_out(self):
        local_lf = np.random.default_rng(5).normal(size=(60, 7)).astype(np.float32)
        holed = np.insert(local_lf, [0, 20, 20], 0, axis=0)
        for parameters in ({}, {"rotation": "cell"}):
            vlad = VLAD(4, metric="cosine", **parameters)
            np.testing.assert_array_equal(
                vlad.fit([holed]).centroids_, vlad.fit([local_lf]).centroids_
            )
        with pytest.raises(ValueError, match="got 0 descriptors"):
            VLAD(2, metric="cosine").fit([np.zeros((5, 7))])


class TestCellRotations:
    @pytest.mark.parametrize("k", [3, 16])
    def test_an_image_does_not_depend_on_the_others(self, k):
        """To the bit: power 0.2 would show each of the last."""
        rng = np.random.default_rng(0)
        images = [rng.normal(size=(n, 32)).astype(np.float32) for n in (40, 0, 3, 40, 1, 9, 20)]
        vlad = VLAD.preset("delhumeau2013", n_clusters=k).fit(images)
        together = vlad.transform(images)
        for n in (1, 2, 3, 5):
            some = [vlad.transform(images[i : i + n]) for i in range(0, len(images), n)]
            np.testing.assert_array_equal(np.concatenate(some), together)

    def test_axes_are_those_of_each_cell(self):
        """Two cells, one stretched along (1, 1), the other along (1, -1)."""
        rng = np.random.default_rng(0)
        long_N, short_N = rng.normal(size=(2, 400)) * [[3], [0.3]]
        first = np.stack([long_N + short_N, long_N - short_N], axis=1)
        second = np.stack([long_N + short_N + 100, short_N - long_N], axis=1)
        vlad = VLAD(2, rotation="cell").fit([np.concatenate([first, second])])
        assert vlad.rotation_.shape == (2, 2, 2)
        for centroid_f, rotation_ff in zip(vlad.centroids_, vlad.rotation_, strict=True):
            diagonal = np.array([1, 1 if centroid_f[0] < 50 else -1]) / 2**0.5
            assert abs(rotation_ff[:, 0] @ diagonal) > 0.99
            np.testing.assert_allclose(rotation_ff.T @ rotation_ff, np.eye(2), atol=1e-12)

    def test_cells_with_few_descriptors(self):
        vlad = VLAD(4, rotation="cell", residual="unit").fit([np.eye(4)])
        assert np.isfinite(vlad.rotation_).all()
        np.testing.assert_array_equal(vlad.rotation_, np.tile(np.eye(4), (4, 1, 1)))

    def test_same_angles_as_without(self):
        rng = np.random.default_rng(0)
        images = [rng.normal(size=(n, 5)) for n in (50, 40, 9)]
        plain = VLAD(4, norm="l2").fit_transform(images)
        turned_tD = VLAD(4, norm="l2", rotation="cell").fit_transform(images)
        np.testing.assert_allclose(turned_tD @ turned_tD.T, plain @ plain.T, atol=1e-10)
        assert not np.allclose(turned_tD, plain)


class TestCosine:
    def test_training_finds_directions(self):
        """Three directions at any length: by angle three cells, whatever the distances."""
        rng = np.random.default_rng(0)
        direction_kf = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.6, 0.8]])
        label_N = rng.integers(0, 3, 600)
        local_Nf = (direction_kf[label_N] + rng.normal(size=(600, 3)) * 0.02) * rng.uniform(
            0.01, 100, (600, 1)
        )
        vlad = VLAD.preset("anyloc", n_clusters=3).fit([local_Nf])
        cosine_kk = (
            vlad.centroids_ @ direction_kf.T / np.linalg.norm(vlad.centroids_, axis=1)[:, None]
        )
        assert sorted(cosine_kk.argmax(axis=1)) == [0, 1, 2]
        assert cosine_kk.max(axis=1).min() > 0.999
        # means of unit vectors of a cell: shorter than 1, and the cell's residuals sum to 0
        assert (np.linalg.norm(vlad.centroids_, axis=1) < 1).all()
        total = vlad.set_params(norm="none").transform([local_Nf])
        np.testing.assert_allclose(total, 0, atol=1e-3)
        assert 0 < vlad.inertia_ < 0.01

    def test_kmeans_is_spherical(self):
        """Centroids of unit length after the last iteration: what k-means by distance has not."""
        local_Nf = np.random.default_rng(0).normal(size=(900, 3)) + 1
        local_Nf /= np.linalg.norm(local_Nf, axis=1, keepdims=True)
        centroid_kf, _ = train_centroids(local_Nf, 4, seed=0, n_iter=5, spherical=True)
        np.testing.assert_allclose(np.linalg.norm(centroid_kf, axis=1), 1, atol=1e-6)

    def test_length_of_descriptors_does_not_matter(self):
        rng = np.random.default_rng(0)
        images = [rng.normal(size=(n, 5)).astype(np.float32) for n in (50, 0, 40)]
        vlad = VLAD(4, metric="cosine").fit(images)
        longer = [
            image * rng.uniform(1e-20, 1e10, (len(image), 1)).astype(np.float32) for image in images
        ]
        np.testing.assert_allclose(vlad.transform(longer), vlad.transform(images), atol=1e-4)

    @pytest.mark.parametrize("residual", ["plain", "unit"])
    def test_no_images_at_all(self, residual):
        vlad = VLAD.from_centroids(C, metric="cosine", residual=residual)
        assert vlad.transform(Ragged(np.empty((0, 2)), [0])).shape == (0, 8)

    def test_in_blocks_as_at_once(self, monkeypatch):
        rng = np.random.default_rng(0)
        images = [rng.normal(size=(n, 5)) for n in (50, 0, 40, 3, 0)]
        vlad = VLAD(4, metric="cosine").fit(images)
        whole = vlad.transform(images)
        monkeypatch.setattr("vladkit.aggregation.vlad._BLOCK_VALUES", 45 * 5)
        np.testing.assert_allclose(vlad.transform(images), whole, atol=1e-12)
        np.testing.assert_array_equal(vlad.transform(images[1:2]), whole[1:2])
