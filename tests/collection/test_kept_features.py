"""Kept features as codes: near those that were extracted, or exactly those."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import run
from photos import altered_files, write_photos
from stored import everything, sql
from vladkit import Collection
from vladkit.collection.descriptor_quantizer import DescriptorQuantizer
from vladkit.collection.kept_features import pack_features, unpack_features
from vladkit.core.linalg import unit_rows
from vladkit.errors import FileFormatError, ParameterError, RecipeMismatchError
from vladkit.features import Features, Sift
from vladkit.features.imported import Imported
from vladkit.geometry.verification import verify_all

PHOTOS = ["astronaut", "camera", "chelsea", "coffee", "grass", "gravel"]  # 9,572 features


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("kept")
    write_photos(home / "photos", PHOTOS)
    return home


@pytest.fixture(scope="module")
def coded(folder):
    """A collection whose features are codes."""
    with Collection.create(folder / "coded.vlad", n_clusters=64) as collection:
        collection.add([folder / "photos"])
    return folder / "coded.vlad"


@pytest.fixture
def own(coded, tmp_path):
    return shutil.copy(coded, tmp_path / "own.vlad")


def cosines(a_lf, b_lf):
    return np.einsum("lf,lf->l", unit_rows(a_lf), unit_rows(b_lf))


def kinds(path):
    """Dtype of each image's row, and bytes of a feature in it."""
    with Collection.open(path, read_only=True) as collection:
        sql = "SELECT dtype, (length(descriptor) + length(geometry)) / n FROM feature"
        return collection.index.store.connection.execute(sql).fetchall()


class TestCollection:
    def test_40_bytes_a_feature_that_are_near_the_photo_s(self, coded, folder):
        assert kinds(coded) == [("code", 40)] * 6
        with Collection.open(coded, read_only=True) as collection:
            for row in collection.images():
                wanted = collection.extract(row.file).strongest(1000)
                found = collection.features_of(row.image_id)
                assert found.descriptor_lf.dtype == wanted.descriptor_lf.dtype == np.uint8
                metric = collection.extractor.metric
                cosine_l = cosines(metric(found.descriptor_lf), metric(wanted.descriptor_lf))
                assert cosine_l.mean() > 0.985
                np.testing.assert_allclose(found.xy_l2, wanted.xy_l2, atol=0.01)
                np.testing.assert_allclose(found.size_l, wanted.size_l, rtol=0.023)
                np.testing.assert_allclose(found.score_l, wanted.score_l, rtol=1e-3)

    def test_photos_match_as_with_exact_features(self, coded, folder, tmp_path):
        with Collection.open(coded, read_only=True) as collection:
            ids = {row.path: row.image_id for row in collection.images()}
            for name, file in altered_files(tmp_path, ["coffee", "chelsea"]):
                query = collection.extract(file)
                exact = collection.extract(folder / "photos" / f"{name}.jpg").strongest(1000)
                kept = collection.features_of(ids[f"{name}.jpg"])
                metric = collection.extractor.metric
                before, after = verify_all(query, [exact, kept], metric)
                assert before.n_inliers > 100
                assert after.n_inliers == pytest.approx(before.n_inliers, rel=0.05)
                corner_42 = [
                    v.outline_42((0, 0, query.width, query.height)) for v in (before, after)
                ]
                np.testing.assert_allclose(*corner_42, atol=1.5)

    def test_a_search_by_an_indexed_image_knows_its_rotations(self, coded):
        with Collection.open(coded, read_only=True) as collection:
            (row,) = (r for r in collection.images() if r.path == "camera.jpg")
            features = collection.index.searcher.of_image(row.image_id).features
            again_vD = collection.index.describer.query_vectors([features])[0]
            wanted = collection.extract(row.file).strongest(1000)
            exact_vD = collection.index.describer.query_vectors([wanted])[0]
            assert (cosines(again_vD, exact_vD) > 0.75).all()  # small sums are mostly noise

    def test_exact_with_keep_bytes_0_and_in_files_from_before(self, coded, folder, tmp_path):
        path = tmp_path / "exact.vlad"
        with Collection.create(path, n_clusters=64, keep_bytes=0) as collection:
            collection.add([folder / "photos"])
            row = next(iter(collection.images()))
            wanted = collection.extract(row.file).strongest(1000)
        assert everything(path) == everything(coded)  # vectors are the same
        sql(path, "UPDATE about SET value = json_remove(value, '$.keep_bytes') WHERE name='recipe'")
        assert kinds(path) == [("|u1", 148)] * 6
        with Collection.open(path) as collection:
            assert collection.recipe.keep_bytes == 0
            kept = collection.features_of(row.image_id)
            np.testing.assert_array_equal(kept.descriptor_lf, wanted.descriptor_lf)
            np.testing.assert_array_equal(kept.angle_l, wanted.angle_l)
        with pytest.raises(RecipeMismatchError, match="keep_bytes=0, asked for is 32"):
            Collection.create(path, keep_bytes=32)

    def test_few_descriptors_are_kept_exactly(self, folder, tmp_path):
        photo = folder / "photos" / "chelsea.jpg"
        run("index", photo, "-o", tmp_path / "c", "--keep-bytes", 16)
        assert kinds(tmp_path / "c") == [("|u1", 148)]
        assert "keep_bytes 16" in run("info", tmp_path / "c").stdout

    def test_codes_and_exact_features_in_one_file(self, own):
        with Collection.open(own) as collection:
            store, ids = collection.index.store, [r.image_id for r in collection.images()]
            exact = pack_features(collection.extract(next(iter(collection.images())).file))
            with store.writing():
                store._put_features(ids[0], exact)
            before = collection.features_of(ids[0])
            np.testing.assert_array_equal(before.descriptor_lf, exact.descriptor_lf)
            assert len(collection.features_of(ids[1])) == 1000
            assert collection.check() == []
            assert len(collection.pairs(3, rerank=3)) > 0
            assert collection.duplicates() == []
        assert [kind for kind, _ in kinds(own)] == ["|u1"] + ["code"] * 5

    def test_read_by_who_opened_it_before_they_were_learned(self, own):
        with Collection.open(own, read_only=True) as collection:
            wanted = collection.features_of(1)
            collection.index.describer.quantizer = None
            np.testing.assert_array_equal(
                collection.features_of(1).descriptor_lf, wanted.descriptor_lf
            )


class TestDamage:
    @pytest.mark.parametrize(
        ("statement", "images", "text"),
        [
            ("UPDATE feature SET descriptor = substr(descriptor, 33) WHERE picture_id = 2", 1,
             "have the wrong size"),
            ("UPDATE feature SET descriptor = zeroblob(31 * n) WHERE picture_id = 2", 1,
             "have the wrong size"),
            ("UPDATE feature SET geometry = substr(geometry, 9) WHERE picture_id = 2", 1,
             "have the wrong size"),
            ("UPDATE feature SET geometry = CAST(substr(geometry, 1, 6) || x'FFFF' || "
             "substr(geometry, 9) AS BLOB) WHERE picture_id = 2", 1, "are not finite"),
            ("DELETE FROM array WHERE name = 'kept.pieces'", 6, "have the wrong size"),
        ],
    )  # fmt: skip
    def test_is_found_and_repaired(self, own, statement, images, text):
        sql(own, statement)
        with Collection.open(own) as collection:
            if "wrong size" in text:
                with pytest.raises(FileFormatError, match="the features of image 2"):
                    collection.features_of(2)
            found = collection.check(repair=True)
            assert [each.text for each in found] == [f"its features {text}"] * images
            assert collection.check() == []

    def test_a_byte_that_has_changed_is_found(self, own):
        changed = "CAST(x'0102' || substr(descriptor, 3) AS BLOB) WHERE picture_id = 3"
        sql(own, f"UPDATE feature SET descriptor = {changed}", sealed=False)
        with Collection.open(own) as collection:
            (found,) = collection.check()
        assert found.text == "its features have changed since they were written"

    def test_pieces_of_another_size_are_refused(self, own):
        sql(own, "UPDATE array SET shape = '[16, 256, 8]', data = data WHERE name = 'kept.pieces'")
        Collection.open(own).close()  # they fit: 16 x 8 is 128
        with (
            Collection.open(own) as collection,
            pytest.raises(FileFormatError, match="features of"),
        ):
            collection.features_of(1)
        sql(own, "UPDATE array SET shape = '[64, 128, 4]' WHERE name = 'kept.pieces'")
        with pytest.raises(FileFormatError, match="what was learned"):
            Collection.open(own)


class TestQuantizer:
    RANDOM = np.random.default_rng(0)
    LOCAL = unit_rows(RANDOM.normal(size=(9000, 16)).astype(np.float32))

    @pytest.mark.parametrize(("n_bytes", "b"), [(8, 8), (7, 4)])
    def test_floats_come_back_as_floats_in_bytes_that_divide_them(self, n_bytes, b):
        extractor = Imported("npz", dimensions=16, compare="unit")
        quantizer = DescriptorQuantizer.fit(self.LOCAL, n_bytes, extractor, seed=0)
        code_lb = quantizer.encode(7 * self.LOCAL[:500])
        assert (code_lb.shape, code_lb.dtype) == ((500, b), np.uint8)
        found_lf = quantizer.decode(code_lb)
        assert (found_lf.shape, found_lf.dtype) == ((500, 16), np.float32)
        assert cosines(found_lf, self.LOCAL[:500]).mean() > (0.99 if b > 4 else 0.95)
        again = DescriptorQuantizer(quantizer.piece_bkp.copy(), extractor)
        np.testing.assert_array_equal(again.decode(code_lb), found_lf)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 40), st.integers(0, 2**32 - 1))
    def test_what_is_given_back_is_encoded_as_it_was(self, l, seed):
        extractor = Sift()
        code_lb = np.random.default_rng(seed).integers(0, 256, (l, 32), np.uint8)
        pieces = np.random.default_rng(1).permutation(np.indices((4, 4, 4, 4)).reshape(4, 256).T)
        quantizer = DescriptorQuantizer(
            np.tile(40 * pieces.astype(np.uint8), (32, 1, 1)), extractor
        )
        descriptor_lf = quantizer.decode(code_lb)
        first_l4 = quantizer.piece_bkp[0][code_lb[:, 0]]
        np.testing.assert_array_equal(descriptor_lf[:, :4], first_l4)

    def test_that_of_sift_comes_with_the_package(self, photos):
        sift = Sift()
        quantizer = DescriptorQuantizer.shipped(32, sift)
        features = sift.read(photos / "coffee.jpg")
        code_lb = quantizer.encode(features.descriptor_lf)
        found_lf, local_lf = (
            sift.metric(each) for each in (quantizer.decode(code_lb), features.descriptor_lf)
        )
        assert cosines(found_lf, local_lf).mean() > 0.99
        assert DescriptorQuantizer.shipped(16, sift) is None
        for other in (Imported("npz", dimensions=128, compare="unit"),
                      Imported("npz", dimensions=64, compare="rootsift")):  # fmt: skip
            assert DescriptorQuantizer.shipped(32, other) is None

    def test_one_image_is_enough_for_it(self, tmp_path, photos):
        with Collection.create(tmp_path / "c", n_clusters=8) as collection:
            collection.add(photos / "coins.jpg")
            assert collection.index.store.features([1])[1].is_coded

    def test_none_of_few(self):
        extractor = Imported("npz", dimensions=16)
        assert DescriptorQuantizer.fit(self.LOCAL[:8191], 8, extractor, seed=0) is None
        assert DescriptorQuantizer.fit(self.LOCAL, 0, extractor, seed=0) is None

    @pytest.mark.parametrize("case", ["far", "zeros", "nan", "short"])
    def test_descriptors_that_it_does_not_suit_stay_as_they_are(self, case):
        extractor = Imported("npz", dimensions=16)
        quantizer = DescriptorQuantizer.fit(self.LOCAL, 8, extractor, seed=0)
        given = {
            "far": 50 * self.LOCAL[:9],
            "zeros": np.zeros((9, 16), np.float32),
            "nan": np.full((9, 16), np.nan, np.float32),
            "short": np.zeros((9, 8), np.uint8),
        }[case]
        with np.errstate(invalid="ignore"):
            assert quantizer.encode(given) is None
        one_l = np.ones(9, np.float32)
        features = Features(given, np.ones((9, 2), np.float32), one_l, one_l, one_l, 5, 5)
        kept = pack_features(features, quantizer)
        assert not kept.is_coded
        np.testing.assert_array_equal(unpack_features(kept).descriptor_lf, given)

    def test_recipe(self, tmp_path):
        with pytest.raises(ParameterError, match="keep_bytes"):
            Collection.create(tmp_path / "c", keep_bytes=-1)
