"""ASMK against a plain loop over words, hand-computed values, and scikit-learn's contract."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from vladkit import ASMK, VLAD, Codes, Ragged, Whitening, encode, segment_sum
from vladkit.errors import (
    FileFormatError,
    InputError,
    NonFiniteError,
    NotFittedError,
    ParameterError,
    ShapeError,
)
from vladkit.kernels import selective

F = 24


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, F)).astype(np.float32) for n in (60, 0, 90, 40, 1)]


@pytest.fixture
def angles(images):
    rng = np.random.default_rng(1)
    return [rng.uniform(0, 360, len(image)) for image in images]


@pytest.fixture(params=[False, True], ids=["NumPy", "compiled"])
def way(request, monkeypatch):
    """Loops of NumPy, as in a fresh process, or compiled ones."""
    for is_binary in (True, False):
        code = selective._code(is_binary)
        if request.param:
            code._load()
        monkeypatch.setattr(code, "_is_ready", request.param)
        monkeypatch.setattr(code, "note", lambda seconds: None)
    return request.param


def codebook(k=20):
    return np.random.default_rng(5).normal(size=(k, F))


def plain_codes(asmk, image, n_assign=1):
    """Code of each word of an image, in float64: its residual sum, rotated, of unit length."""
    sums = {}
    for local_f in np.asarray(image, np.float64):
        distance_k = ((asmk.centroids_ - local_f) ** 2).sum(axis=1)
        for word in np.argsort(distance_k, kind="stable")[:n_assign]:
            sums[word] = sums.get(word, 0) + local_f - asmk.centroids_[word]
    for word, residual_f in sums.items():
        if asmk.binary and asmk.rotation_ is not None:
            residual_f = residual_f @ asmk.rotation_
        sums[word] = residual_f / np.linalg.norm(residual_f)
    return sums


def plain_similarity(asmk, x, y):
    """The formula of the paper, a word after the other."""
    weight_k = np.ones(len(asmk.centroids_)) if asmk.idf_ is None else asmk.idf_
    total = 0.0
    for word in x.keys() & y.keys():
        a, b = x[word], y[word]
        u = 1 - 2 * ((a > 0) != (b > 0)).mean() if asmk.binary else a @ b
        if u >= asmk.tau:
            total += weight_k[word] * u**asmk.alpha
    sizes = [sum(weight_k[word] for word in each) for each in (x, y)]
    return total / np.sqrt(sizes[0] * sizes[1]) if min(sizes) else 0.0


class TestSimilarity:
    @pytest.mark.parametrize("binary", [True, False])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"alpha": 1, "tau": 0.25},
            {"rotation": None},
            {"n_assign": 3},
            {"idf": True},
            {"n_bits": 10},
            {"n_bits": 200, "n_assign": 2},
        ],
        ids=str,
    )
    def test_is_the_plain_loop(self, images, way, binary, options):
        asmk = ASMK.from_centroids(codebook(), binary=binary, n_jobs=1, **options)
        if asmk.idf:
            asmk.fit_idf(images)
        query = [plain_codes(asmk, image, asmk.n_assign) for image in images]
        database = [plain_codes(asmk, image) for image in images]
        wanted = [[plain_similarity(asmk, x, y) for y in database] for x in query]
        np.testing.assert_allclose(asmk.similarity(images, images), wanted, atol=2e-6)

    @pytest.mark.parametrize("binary", [True, False])
    @pytest.mark.parametrize("with_angles", [True, False])
    def test_loops_of_numpy_and_compiled_ones_have_the_same_bits(
        self, images, angles, monkeypatch, binary, with_angles
    ):
        asmk = ASMK.from_centroids(codebook(), binary=binary, n_assign=4, rotated=with_angles)
        code = selective._code(binary)
        code._load()
        codes = asmk.transform(images * 3, angles * 3 if with_angles else None)
        monkeypatch.setattr(code, "note", lambda seconds: None)
        got = []
        for is_ready in (False, True):
            monkeypatch.setattr(code, "_is_ready", is_ready)
            chosen = (None, [7, 2, 2, 11], slice(3, 9))
            got += [asmk.similarity(codes, codes, images=some) for some in chosen]
        assert got[0].max() == pytest.approx(1, abs=1e-6)
        for numpy_qn, compiled_qn in zip(got[:3], got[3:], strict=True):
            np.testing.assert_array_equal(numpy_qn, compiled_qn)

    @pytest.mark.parametrize("with_angles", [True, False])
    @pytest.mark.parametrize("n_bits", [24, 100])
    def test_lists_of_words_have_the_same_bits(
        self, images, angles, monkeypatch, with_angles, n_bits
    ):
        """After many queries of the same images their rows are listed by word."""
        asmk = ASMK.from_centroids(codebook(), n_assign=4, n_bits=n_bits, rotated=with_angles)
        code = selective._code(True)
        code._load()
        monkeypatch.setattr(code, "_is_ready", True)
        codes = asmk.transform(images * 3, angles * 3 if with_angles else None)
        query = asmk.transform_queries(images, angles if with_angles else None)
        foreign = Codes([0, 1], [19], query.code_Nb[:1], None if not with_angles else [np.uint8(3)])
        few = codes[[0, 1]]
        got = []
        for most in (10**9, 0):
            monkeypatch.setattr(selective, "_MANY_QUERIES", most)
            got.append([asmk.similarity(query, codes), asmk.similarity(foreign, few)])
        assert codes._lists is not None
        for scanned_qn, listed_qn in zip(*got, strict=True):
            np.testing.assert_array_equal(scanned_qn, listed_qn)
        assert pickle.loads(pickle.dumps(codes))._lists is None

    def test_lists_are_made_for_many_queries(self, images, monkeypatch):
        monkeypatch.setattr(selective._code(True), "_is_ready", True)
        asmk = ASMK.from_centroids(codebook())
        codes = asmk.transform(images)
        for n, is_listed in ((15, False), (0, False), (1, True)):
            asmk.similarity(codes[[0] * n], codes)
            assert (codes._lists is not None) == is_listed
        empty = asmk.transform([np.zeros((0, F))])
        assert asmk.similarity(empty[[0] * 20], empty).shape == (20, 1)

    def test_by_hand(self, way):
        """Two words, two bits: (+, +) at the first, (+, -) at the second."""
        asmk = ASMK.from_centroids([[0.0, 0], [10, 0]], rotation=None, alpha=1)
        x = [np.array([[1.0, 1], [12, -1], [0, 2]])]
        y = [np.array([[1.0, 1]]), np.array([[1.0, -1], [11, -3]]), np.array([[-1.0, -1]])]
        assert asmk.transform(x).code_Nb[:, 0].tolist() == [0b11000000, 0b10000000]
        # 1 word alike of 2 and 1; u = 0 and 1 of 2 and 2; u = -1
        wanted = [[1 / np.sqrt(2), 0.5, 0]]
        np.testing.assert_allclose(asmk.similarity(x, y), wanted, rtol=1e-15)

    def test_tau_itself_counts(self, way):
        asmk = ASMK.from_centroids(np.zeros((1, 4)), rotation=None, alpha=1, tau=0.5)
        x, y = [np.array([[1.0, 1, 1, 1]])], [np.array([[1.0, 1, 1, -1]])]
        assert asmk.similarity(x, y) == 0.5
        assert asmk.set_params(tau=0.51).similarity(x, y) == 0

    def test_a_kernel(self, images, way):
        for binary in (True, False):
            asmk = ASMK(8, binary=binary, n_assign=3).fit(images)
            kernel_tt = asmk.similarity(images)
            np.testing.assert_array_equal(kernel_tt, kernel_tt.T)
            # numbers are rounded to float32
            wanted = [1, 0, 1, 1, 1]
            np.testing.assert_allclose(kernel_tt.diagonal(), wanted, atol=0 if binary else 1e-6)
            assert kernel_tt[1].tolist() == [0] * 5

    def test_image_alone_batch_and_threads(self, images, way):
        asmk = ASMK(8, n_assign=2, n_jobs=1).fit(images)
        whole = asmk.similarity(images, images)
        parts = [[asmk.similarity([x], [y])[0, 0] for y in images[2:]] for x in images[2:]]
        np.testing.assert_array_equal(whole[2:, 2:], parts)
        np.testing.assert_array_equal(asmk.set_params(n_jobs=3).similarity(images, images), whole)

    def test_a_long_list_in_blocks(self, way, monkeypatch):
        monkeypatch.setattr(selective, "_SHARED_ROWS", 50)
        monkeypatch.setattr(selective, "_BLOCK_ROWS", 7)
        rng = np.random.default_rng(0)
        lengths = rng.integers(0, 9, 100)
        words = [np.sort(rng.choice(20, n, replace=False)) for n in lengths]
        code = rng.integers(0, 256, (lengths.sum(), 16), dtype=np.uint8)
        codes = Codes(np.append(0, np.cumsum(lengths)), np.concatenate(words), code)
        asmk = ASMK.from_centroids(np.zeros((20, 128)), n_jobs=2)
        got = asmk.similarity(codes[:5], codes)
        monkeypatch.undo()
        np.testing.assert_array_equal(got, asmk.similarity(codes[:5], codes))
        np.testing.assert_array_equal(got[:, [90, 3]], asmk.similarity(codes[:5], codes[[90, 3]]))

    def test_codes_of_stored_bytes(self, images, way):
        """Arrays as a database gives them: read only, and not at a multiple of 8."""
        asmk = ASMK(8).fit(images)
        codes = asmk.transform(images)
        data = b"x" + codes.code_Nb.tobytes()
        code_Nb = np.frombuffer(data, np.uint8, offset=1).reshape(codes.code_Nb.shape)
        stored = Codes(codes.start_T, codes.word_N, code_Nb)
        wanted = asmk.similarity(codes)
        np.testing.assert_array_equal(asmk.similarity(codes, stored), wanted)
        np.testing.assert_array_equal(asmk.similarity(stored, codes), wanted)

    def test_half_the_bytes_of_numbers(self, images, way):
        asmk = ASMK(8, binary=False).fit(images)
        wanted = asmk.similarity(images)
        asmk.set_params(code_dtype="float16")
        assert asmk.transform(images).code_Nb.dtype == np.float16
        np.testing.assert_allclose(asmk.similarity(images), wanted, atol=1e-3)

    def test_no_images_and_no_words(self, images, way):
        asmk = ASMK(8).fit(images)
        codes = asmk.transform(images)
        assert asmk.similarity(codes, codes[[]]).shape == (5, 0)
        assert asmk.similarity(codes[[]], codes).shape == (0, 5)
        assert asmk.similarity(codes, images=[]).shape == (5, 0)
        assert asmk.similarity(codes[1:2], codes).tolist() == [[0] * 5]
        none = asmk.transform([np.ones((0, F), np.float32)] * 2)
        assert (len(none), none.word_N.shape) == (2, (0,))
        assert asmk.similarity(none).tolist() == [[0, 0], [0, 0]]
        angled = asmk.transform([np.ones((0, F))], [[]])
        assert asmk.similarity(angled, angled).tolist() == [[0]]


class TestAngles:
    def one_word(self, angle, rotated=False):
        """ASMK with one word, and an image of one feature for each angle."""
        asmk = ASMK.from_centroids(np.zeros((1, 8)), rotated=rotated)
        images = np.ones((len(angle), 1, 8))
        return asmk, asmk.transform(images, np.array(angle)[:, None])

    def test_a_pair_counts_by_its_difference(self, way):
        asmk, codes = self.one_word([0.0, 360, 45, 90, 180, 270, 10, -12])
        difference = np.deg2rad([0, 0, 45, 90, 180, 270, 0, -22.5])  # in steps of 22.5
        wanted = np.exp(np.cos(difference) - 1)
        np.testing.assert_allclose(asmk.similarity(codes[0], codes)[0], wanted, rtol=1e-12)
        np.testing.assert_allclose(asmk.similarity(codes, codes[0])[:, 0], wanted, rtol=1e-12)

    def test_the_best_quarter_turn(self, way):
        asmk, codes = self.one_word([0.0, 90, 180, 270, 45], rotated=True)
        wanted = [1, 1, 1, 1, np.exp(np.cos(np.pi / 4) - 1)]
        np.testing.assert_allclose(asmk.similarity(codes[0], codes)[0], wanted, rtol=1e-12)

    def test_all_features_turn_together(self, images, angles, way):
        asmk = ASMK(8, rotated=True).fit(images)
        codes = asmk.transform(images, angles)
        turned = asmk.transform(images, [angle + 90 for angle in angles])
        wanted = [1, 0, 1, 1, 1]
        np.testing.assert_allclose(asmk.similarity(turned, codes).diagonal(), wanted, rtol=1e-12)
        upright = asmk.set_params(rotated=False).similarity(turned, codes).diagonal()
        np.testing.assert_allclose(upright[2:], np.exp(-1), rtol=1e-12)

    def test_the_mean_direction_of_a_word(self):
        asmk = ASMK.from_centroids(np.zeros((1, 8)))
        got = [
            asmk.transform([np.ones((len(angle), 8))], [np.array(angle)]).angle_N.tolist()
            for angle in ([350.0, 10], [0, 90], [90, 90, 270], [359.9], [0.0, 180])
        ]
        assert got[:4] == [[0], [32], [64], [0]]
        assert got[4] in ([64], [0], [128], [192])  # of no direction

    @pytest.mark.parametrize("form", ["list", "array", "stacked"])
    def test_forms(self, form):
        rng = np.random.default_rng(0)
        images, angle_tl = rng.normal(size=(3, 5, 8)), rng.uniform(0, 360, (3, 5))
        asmk = ASMK(4).fit(images)
        given = {"list": list(angle_tl), "array": angle_tl, "stacked": angle_tl.ravel()}[form]
        wanted = asmk.transform(list(images), list(angle_tl))
        np.testing.assert_array_equal(asmk.transform(images, given).angle_N, wanted.angle_N)

    def test_errors(self, images, angles):
        asmk = ASMK(8).fit(images)
        codes = asmk.transform(images, angles)
        with pytest.raises(ShapeError, match="angles of image 2 have shape \\(89,\\)"):
            asmk.transform(images, [*angles[:2], angles[2][1:], *angles[3:]])
        with pytest.raises(ShapeError, match="angles of 4 images"):
            asmk.transform(images, angles[:4])
        with pytest.raises(ShapeError, match="the descriptors are 191"):
            asmk.transform(images, np.zeros(190))
        angles[2][7] = np.nan
        with pytest.raises(NonFiniteError, match="angle 7 of image 2 is nan"):
            asmk.transform(images, angles)
        with pytest.raises(InputError, match="wanted degrees"):
            asmk.transform(images, np.zeros(191, bool))
        with pytest.raises(ParameterError, match="with angles"):
            asmk.similarity(codes, images)
        with pytest.raises(ParameterError, match="codes already"):
            asmk.similarity(codes, codes, angle_X=angles)
        with pytest.raises(ParameterError, match="needs codes with angles"):
            asmk.set_params(rotated=True).similarity(images)


class TestCodes:
    def test_sums_are_those_of_encode(self, images):
        asmk = ASMK(8, binary=False).fit(images)
        codes = asmk.transform(images)
        residual_tkf = encode(images, asmk.centroids_)
        wanted_Nf = residual_tkf[codes.image_N, codes.word_N]
        wanted_Nf /= np.linalg.norm(wanted_Nf, axis=1, keepdims=True)
        np.testing.assert_allclose(codes.code_Nb, wanted_Nf, atol=1e-6)
        assert np.count_nonzero(residual_tkf.any(axis=2)) == len(codes.word_N)

    @pytest.mark.parametrize("f", [1, 8, 63, 64, 65, 130])
    def test_bits_fill_whole_words(self, f):
        images = np.random.default_rng(0).normal(size=(2, 9, f))
        codes = ASMK(2, rotation=None).fit(images).transform(images)
        assert codes.code_Nb.shape[1] == 8 * -(-f // 64)
        bits = np.unpackbits(codes.code_Nb, axis=1)
        assert not bits[:, f:].any()
        assert bits[:, :f].any()

    def test_a_zero_is_no_one(self):
        """As in jenicek/asmk: a bit is set above 0."""
        asmk = ASMK.from_centroids(np.zeros((1, 3)), rotation=None)
        assert asmk.transform([np.array([[0.0, 1e-30, -1]])]).code_Nb[0, 0] == 0b01000000
        assert asmk.transform([np.zeros((1, 3))]).code_Nb[0, 0] == 0

    @pytest.mark.parametrize("power", [-100, 100])
    def test_descriptors_of_any_size(self, images, power):
        usual = ASMK(8).fit(images)
        sized_images = [np.ldexp(image, power) for image in images]
        sized = ASMK(8).fit(sized_images)
        for name in ("word_N", "code_Nb"):
            got, wanted = (getattr(c, name) for c in (sized.transform(sized_images),
                                                      usual.transform(images)))  # fmt: skip
            np.testing.assert_array_equal(got, wanted)

    def test_dtypes_and_layouts(self, images):
        asmk = ASMK(8).fit(images)
        wanted = asmk.transform(images)
        stacked = Ragged(np.concatenate(images), np.append(0, np.cumsum([len(i) for i in images])))
        others = [np.asfortranarray(i) for i in images], [i.astype(float) for i in images], stacked
        for other in others:
            got = asmk.transform(other)
            np.testing.assert_array_equal(got.word_N, wanted.word_N)
            np.testing.assert_array_equal(got.code_Nb, wanted.code_Nb)
        whole = ASMK(8).fit([np.clip(i * 40 + 128, 0, 255).astype(np.uint8) for i in images])
        assert len(whole.transform([np.full((3, F), 7, np.uint8)]).word_N) == 1

    def test_take_and_join(self, images, angles):
        codes = ASMK(8).fit(images).transform(images, angles)
        np.testing.assert_array_equal(codes.image_N, np.repeat(range(5), np.diff(codes.start_T)))
        joined = Codes.concatenate([codes[:2], codes[[2]], codes[-2:]])
        for name in ("start_T", "word_N", "code_Nb", "angle_N"):
            np.testing.assert_array_equal(getattr(joined, name), getattr(codes, name))
        assert [len(each.word_N) for each in codes] == np.diff(codes.start_T).tolist()
        assert codes[np.array([True, False, False, False, True])].shape == (2,)
        with pytest.raises(IndexError):
            codes[5]
        with pytest.raises(ParameterError, match="with angles"):
            Codes.concatenate([codes, Codes([0, 0], [], np.zeros((0, 8), np.uint8))])

    @pytest.mark.parametrize(
        ("start", "word", "code", "angle", "error"),
        [
            ([0, 1], [0, 1], np.zeros((2, 8), np.uint8), None, ShapeError),
            ([0, 2], [0], np.zeros((2, 8), np.uint8), None, ShapeError),
            ([0, 2], [0, 1], np.zeros(2, np.uint8), None, ShapeError),
            ([0, 2], [0, 1], np.zeros((2, 9), np.uint8), None, ShapeError),
            ([0, 2], [0, 1], np.zeros((2, 0), np.uint8), None, ShapeError),
            ([0, 2], [0, 1], np.zeros((2, 8), np.uint8), np.zeros(3, np.uint8), ShapeError),
            ([0, 2], [1, 0], np.zeros((2, 8), np.uint8), None, InputError),
            ([0, 2], [1, 1], np.zeros((2, 8), np.uint8), None, InputError),
            ([0, 2], [-1, 0], np.zeros((2, 8), np.uint8), None, InputError),
            ([0, 2], [0.0, 1], np.zeros((2, 8), np.uint8), None, InputError),
            ([0, 2], [0, 2**31], np.zeros((2, 8), np.uint8), None, InputError),
            ([0, 2], [0, 1], np.zeros((2, 8)), None, InputError),
            ([0, 2], [0, 1], np.zeros((2, 8), np.uint8), np.zeros(2), InputError),
        ],
    )
    def test_arrays_that_do_not_fit(self, start, word, code, angle, error):
        with pytest.raises(error):
            Codes(start, word, code, angle)

    def test_words_may_fall_from_one_image_to_the_next(self):
        codes = Codes([0, 0, 2, 2, 3, 3], [3, 4, 1], np.zeros((3, 8), np.uint8))
        assert (codes.n_words, len(codes)) == (5, 5)

    def test_codes_of_another_codebook(self, images):
        asmk, other = ASMK(4).fit(images), ASMK(8).fit(images)
        with pytest.raises(ParameterError, match="this ASMK 4 words"):
            asmk.similarity(other.transform(images))
        with pytest.raises(ParameterError, match="65 bits"):
            ASMK(8, n_bits=65).fit(images).similarity(other.transform(images))
        numbers = ASMK(8, binary=False).fit(images).transform(images)
        with pytest.raises(ParameterError, match="do not fit"):
            other.similarity(numbers, images)

    def test_codes_of_another_codebook_that_would_fit(self, images, tmp_path):
        asmk = ASMK(8).fit(images)
        codes = asmk.transform(images)
        others = [
            ASMK(4).fit(images), ASMK(8, random_state=1).fit(images), ASMK(8, n_bits=8).fit(images),
        ]  # fmt: skip
        for other in others:
            foreign = other.transform(images)
            again = pickle.loads(pickle.dumps(foreign))
            for given in (foreign, foreign[1:], again, Codes.concatenate([foreign, foreign])):
                for use in (asmk.similarity, asmk.add, asmk.fit_idf, asmk.search):
                    if use == asmk.search:
                        asmk.codes_ = codes
                    with pytest.raises(ParameterError, match="is of another codebook"):
                        use(given)
            with pytest.raises(ParameterError, match="is of another codebook"):
                asmk.similarity(codes, foreign)
            with pytest.raises(ParameterError, match="of two codebooks"):
                Codes.concatenate([codes, foreign])
        asmk.save(tmp_path / "a")
        wanted = asmk.similarity(codes)
        for same in (ASMK.load(tmp_path / "a"), pickle.loads(pickle.dumps(asmk))):
            np.testing.assert_array_equal(same.similarity(codes), wanted)
        plain = Codes(codes.start_T, codes.word_N, codes.code_Nb)  # as a file keeps them
        np.testing.assert_array_equal(asmk.similarity(codes, plain), wanted)

    def test_codes_are_no_array(self, images):
        codes = ASMK(8).fit(images).transform(images)
        for use in (VLAD(2).fit, Whitening(2).fit, lambda x: segment_sum(x, [0] * 5, 1)):
            with pytest.raises(InputError, match=r"^got Codes\(5 images.*wanted an array"):
                use(codes)
        with pytest.raises(ParameterError, match="no codes"):
            Codes.concatenate([])


class TestWords:
    def test_two_levels_find_nearly_all_words(self):
        rng = np.random.default_rng(0)
        local_lf = rng.normal(size=(3000, 16)).astype(np.float32)
        asmk = ASMK(400, n_cells=20, sample_size=3000).fit([local_lf])
        assert asmk.cells_.shape == (20, 16)
        assert asmk.centroids_.shape == (400, 16)
        exact = clone(asmk).set_params(n_probes=None).fit([local_lf]).words(local_lf)
        distance_lk = ((local_lf[:, None] - asmk.centroids_) ** 2).sum(axis=2)
        np.testing.assert_array_equal(exact, distance_lk.argmin(axis=1))
        agree = [np.mean(asmk.set_params(n_probes=n).words(local_lf) == exact) for n in (1, 8, 20)]
        assert 0.4 < agree[0] < 0.95 < agree[1] <= agree[2] == 1

    def test_several_words_in_order(self):
        asmk = ASMK.from_centroids(np.random.default_rng(0).normal(size=(50, 4)), n_cells=7)
        local_lf = np.random.default_rng(1).normal(size=(30, 4))
        distance_lk = ((local_lf[:, None] - asmk.centroids_) ** 2).sum(axis=2)
        wanted = distance_lk.argsort(axis=1)[:, :3]
        for n_probes in (7, None):
            got = asmk._word_search.nearest(local_lf, 3, n_probes)
            np.testing.assert_array_equal(got, wanted)
        few = asmk._word_search.nearest(local_lf, 20, 1)
        size_c = np.bincount(asmk.cell_of_word_)
        np.testing.assert_array_equal(
            (few >= 0).sum(axis=1), np.minimum(size_c[asmk.cell_of_word_[few[:, 0]]], 20)
        )

    def test_words_far_from_zero(self):
        rng = np.random.default_rng(0)
        centroid_kf = rng.normal(size=(60, 8))
        local_lf = rng.normal(size=(200, 8))
        wanted = ((local_lf[:, None] - centroid_kf) ** 2).sum(axis=2).argmin(axis=1)
        far = ASMK.from_centroids((centroid_kf + 1e4).astype(np.float32), n_cells=5, n_probes=5)
        agree = far.words((local_lf + 1e4).astype(np.float32)) == wanted
        assert agree.mean() > 0.99  # float32 holds 1e4 to 0.001

    def test_more_words_than_there_are(self, images):
        asmk = ASMK(3, n_assign=9).fit(images)
        assert np.diff(asmk.transform_queries(images).start_T).tolist() == [3, 0, 3, 3, 3]
        assert len(asmk.transform(images[4:]).word_N) == 1  # images that are searched have one

    def test_an_image_alone_has_the_words_that_it_has_among_others(self):
        images = np.random.default_rng(0).normal(size=(4, 300, 16)).astype(np.float32)
        asmk = ASMK(100, n_cells=10, n_probes=3).fit(images)
        whole = asmk.transform(images)
        for i in range(4):
            one = asmk.transform(images[i : i + 1])
            np.testing.assert_array_equal(one.word_N, whole[i].word_N)
            np.testing.assert_array_equal(one.code_Nb, whole[i].code_Nb)

    def test_residuals_that_overflow(self):
        asmk = ASMK.from_centroids(np.array([[-3e38, 0]], np.float32))
        with pytest.raises(NonFiniteError, match="overflow float32"):
            asmk.transform([np.array([[3e38, 0]], np.float32)])


class TestContract:
    def test_params_and_clone(self, images):
        asmk = ASMK(5, alpha=2.0, random_state=3)
        twin = clone(asmk.fit(images))
        assert twin.get_params() == asmk.get_params()
        assert not hasattr(twin, "centroids_")
        assert repr(asmk) == "ASMK(n_clusters=5, alpha=2.0, random_state=3)"

    @pytest.mark.parametrize(
        "bad",
        [
            {"n_clusters": 0}, {"binary": 1}, {"n_bits": 0}, {"rotation": "pca"}, {"alpha": -1},
            {"rotation": None, "n_bits": 8}, {"code_dtype": "float64"}, {"tau": 1.5},
            {"tau": np.nan}, {"n_assign": 0}, {"idf": None}, {"rotated": "yes"}, {"n_cells": 0},
            {"n_iter": 2**31}, {"n_bits": 2**40}, {"n_jobs": True},
            {"n_probes": 0}, {"sample_size": 0}, {"n_iter": 0}, {"n_jobs": 0}, {"random_state": -1},
        ],
        ids=str,
    )  # fmt: skip
    def test_init_checks_nothing_and_fit_everything(self, images, bad):
        asmk = ASMK(**({"n_clusters": 4} | bad))
        with pytest.raises(ParameterError):
            asmk.fit(images)

    def test_not_fitted(self, images):
        asmk = ASMK(4)
        for use in (asmk.transform, asmk.similarity, asmk.add, asmk.search, asmk.words):
            with pytest.raises(NotFittedError):
                use(images)
        with pytest.raises(NotFittedError):
            asmk.save("never")

    def test_pipeline_and_containers(self, images):
        half = FunctionTransformer(lambda X: [x * 0.5 for x in X])
        assert len(make_pipeline(half, ASMK(4)).fit_transform(images)) == 5
        with sklearn.config_context(transform_output="pandas"):
            assert isinstance(ASMK(4).fit_transform(images), Codes)
        with pytest.raises(ParameterError, match="transform='pandas'"):
            ASMK(4).set_output(transform="pandas")

    def test_transform_and_similarity_change_nothing(self, images):
        asmk = ASMK(4, n_cells=2, n_probes=1).fit(images)
        before = dict(vars(asmk))
        asmk.similarity(images, images)
        assert vars(asmk) == before

    def test_pickle(self, images):
        asmk = ASMK(4).fit(images).add(images)
        twin = pickle.loads(pickle.dumps(asmk))
        np.testing.assert_array_equal(twin.similarity(images), asmk.similarity(images))
        assert len(twin.codes_) == 5

    def test_partial_fit_is_fit(self, images):
        whole = ASMK(6, sample_size=100).fit(images)
        parts = ASMK(6, sample_size=100)
        for image in images:
            parts.partial_fit([image])
        np.testing.assert_array_equal(parts.centroids_, whole.centroids_)
        np.testing.assert_array_equal(parts.similarity(images), whole.similarity(images))
        parts.partial_fit(images)
        assert not np.array_equal(parts.centroids_, whole.centroids_)
        with pytest.raises(ShapeError, match="batches before"):
            parts.partial_fit([np.ones((3, 5))])

    def test_seeds(self, images):
        a, b, c = (ASMK(6, random_state=i).fit(images) for i in (0, 0, 1))
        np.testing.assert_array_equal(a.rotation_, b.rotation_)
        assert not np.array_equal(a.rotation_, c.rotation_)
        np.testing.assert_allclose(a.rotation_.T @ a.rotation_, np.eye(F), atol=1e-6)
        few, many = (ASMK(6, n_bits=n).fit(images).rotation_ for n in (10, 40))
        np.testing.assert_allclose(few.T @ few, np.eye(10), atol=1e-6)
        np.testing.assert_allclose(many @ many.T, np.eye(F), atol=1e-6)
        np.random.seed(0)  # noqa: NPY002
        one, two = (ASMK(6, random_state=None).fit(images) for _ in range(2))
        assert not np.array_equal(one.centroids_, two.centroids_)

    def test_bad_input_is_that_of_vlad(self, images):
        asmk = ASMK(4).fit(images)
        with pytest.raises(ShapeError, match="centroids have 24 dimensions, descriptors 5"):
            asmk.transform([np.ones((3, 5))])
        images[3][2, 1] = np.nan
        with pytest.raises(NonFiniteError, match="descriptor 2 of image 3 holds nan in dim"):
            asmk.transform(images)
        with pytest.raises(InputError, match="got 3 descriptors for 4 clusters"):
            ASMK(4).fit([np.ones((3, 2))])
        with pytest.raises(InputError, match="got 30 descriptors for 40 clusters"):
            ASMK(40, n_cells=5).fit([np.ones((30, 2))])
        with pytest.raises(InputError, match="no descriptors"):
            ASMK(1).fit([np.ones((0, 2))])
        with pytest.raises(ShapeError):
            ASMK.from_centroids(np.ones(3))

    def test_as_many_descriptors_as_words(self):
        local_lf = np.eye(40)
        asmk = ASMK(40, n_cells=5, binary=False).fit([local_lf])
        assert asmk.inertia_ == pytest.approx(0, abs=1e-9)
        assert np.isfinite(asmk.similarity([local_lf])).all()

    def test_equal_descriptors(self):
        local_lf = np.full((60, 3), 7.0)
        assert ASMK(20, n_cells=4).fit([local_lf]).similarity([local_lf]) == 1


def test_one_query_loads_neither_numba_nor_faiss():
    code = (
        "import sys, numpy as np\n"
        "from vladkit import ASMK, Codes\n"
        "rng = np.random.default_rng(0)\n"
        "asmk = ASMK.from_centroids(rng.normal(size=(900, 128)), n_assign=5)\n"
        "word = np.tile(np.arange(900), 200)\n"
        "code, angle = np.zeros((180_000, 16), np.uint8), np.zeros(180_000, np.uint8)\n"
        "codes = Codes(np.arange(201) * 900, word, code, angle)\n"
        "query = rng.normal(size=(1, 6000, 128)).astype(np.float32)\n"
        "asmk.similarity(query, codes, angle_X=np.zeros(6000))\n"
        "print([name for name in ('numba', 'faiss', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestIdf:
    def test_weights(self, images):
        asmk = ASMK(8, idf=True).fit(images)
        count_k = np.bincount(asmk.transform(images).word_N, minlength=8)
        np.testing.assert_allclose(asmk.idf_, np.log(5 / count_k) ** 2)
        np.testing.assert_allclose(asmk.similarity(images).diagonal(), [1, 0, 1, 1, 1], rtol=1e-12)

    def test_a_word_of_all_images_weighs_nothing(self):
        asmk = ASMK(1, idf=True).fit(np.ones((3, 2, 4)))
        assert asmk.idf_.tolist() == [0]
        assert asmk.similarity(np.ones((2, 2, 4))).tolist() == [[0, 0], [0, 0]]

    def test_a_word_of_no_image(self, images):
        asmk = ASMK(8, idf=True).fit(images).fit_idf(images[1:2])
        assert asmk.idf_.tolist() == [1] * 8
        none = asmk.transform(images)[:0]
        assert asmk.fit_idf(none).idf_.tolist() == [1] * 8  # without a warning of log(0)

    def test_after_partial_fit(self, images):
        asmk = ASMK(4, idf=True).partial_fit(images)
        with pytest.raises(ParameterError, match="call fit_idf"):
            asmk.similarity(images)
        assert asmk.fit_idf(images).similarity(images)[0, 0] == pytest.approx(1)


class TestSearch:
    def test_ranks_what_was_added(self, images):
        asmk = ASMK(8).fit(images).add(images[:2]).add(asmk_codes := images[2:])
        assert len(asmk.codes_) == 2 + len(asmk_codes)
        image_qr, similarity_qr = asmk.search(images, top=2)
        assert image_qr[[0, 2, 3, 4], 0].tolist() == [0, 2, 3, 4]
        assert image_qr[1].tolist() == [0, 1]  # an empty query: all alike
        wanted_qn = asmk.similarity(images, asmk.codes_)
        np.testing.assert_array_equal(similarity_qr, np.take_along_axis(wanted_qn, image_qr, 1))
        assert asmk.search(images, top=0)[0].shape == (5, 5)
        assert asmk.search(images, top=99)[0].shape == (5, 5)

    def test_angles(self, images, angles):
        asmk = ASMK(8, rotated=True).fit(images).add(images, angles)
        image_qr, similarity_qr = asmk.search(images[:1], 1, [angles[0] + 90])
        assert (image_qr.item(), similarity_qr.item()) == (0, pytest.approx(1))

    def test_errors(self, images):
        asmk = ASMK(8).fit(images)
        with pytest.raises(ParameterError, match="add some first"):
            asmk.search(images)
        with pytest.raises(ParameterError, match="top=-1"):
            asmk.add(images).search(images, top=-1)
        with pytest.raises(IndexError):
            asmk.similarity(images, images=[5])
        assert asmk.fit(images).codes_ is None


class TestSaving:
    @pytest.mark.parametrize(
        "options",
        [{}, {"binary": False}, {"idf": True, "n_bits": 30}, {"rotation": None, "n_cells": 3}],
        ids=str,
    )
    def test_round_trip(self, images, angles, tmp_path, options):
        asmk = ASMK(6, n_assign=2, **options).fit(images).add(images, angles)
        asmk.save(tmp_path / "a")
        twin = ASMK.load(tmp_path / "a")
        assert twin.get_params() | {"n_bits": None} == asmk.get_params() | {"n_bits": None}
        assert twin.inertia_ == asmk.inertia_
        for got, wanted in zip(twin.search(images, angle=angles), asmk.search(images, angle=angles),
                               strict=True):  # fmt: skip
            np.testing.assert_array_equal(got, wanted)

    def test_of_centroids_without_images(self, tmp_path):
        ASMK.from_centroids(codebook()).set_params(n_clusters=3).save(tmp_path / "a")
        twin = ASMK.load(tmp_path / "a")
        assert twin.n_clusters == 20
        assert twin.codes_ is None
        assert np.isnan(twin.inertia_)

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("cell_of_word", lambda a: a[:-1]),
            ("cell_of_word", lambda a: a + 9),
            ("cells", lambda a: a[:, :-1]),
            ("centroids", lambda a: a[:-1]),
            ("rotation", lambda a: a[:-1]),
            ("rotation", lambda a: None),
            ("rotation", lambda a: a * np.nan),
            ("start_T", lambda a: a + 1),
            ("word_N", lambda a: a[::-1]),
            ("code_Nb", lambda a: a[:, :0]),
        ],
    )
    def test_arrays_must_fit(self, images, tmp_path, name, change):
        ASMK(6, n_cells=2).fit(images).add(images).save(tmp_path / "a")
        with np.load(tmp_path / "a") as file:
            arrays = {key: file[key] for key in file.files}
        assert all(array.dtype != object for array in arrays.values())
        arrays[name] = change(arrays[name])
        with open(tmp_path / "a", "wb") as out:
            np.savez(out, **{key: a for key, a in arrays.items() if a is not None})
        with pytest.raises(FileFormatError, match="damaged vladkit ASMK"):
            ASMK.load(tmp_path / "a")
