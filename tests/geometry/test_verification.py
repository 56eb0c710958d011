"""Verification: homographies made by hand, real images with known ones, and what cannot be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import numpy as np
import pytest

from paths import SHARED
from vladkit.errors import ParameterError
from vladkit.features import Features, Sift
from vladkit.geometry import verification
from vladkit.geometry.matching import Matcher, Matches
from vladkit.geometry.verification import Verification, rescore, verify, verify_all
from vladkit.images import Region

AFFINE = SHARED / "data" / "affine"
H_33 = np.array([[0.8, -0.45, 150.0], [0.5, 0.9, -60.0], [1e-4, -5e-5, 1.0]])


def mapped(h_33, xy_m2):
    h_m3 = np.c_[xy_m2, np.ones(len(xy_m2))] @ h_33.T
    return h_m3[:, :2] / h_m3[:, 2:]


def local_similarity(h_33, xy_m2):
    """(scale, degrees) by which a homography enlarges and turns around each point."""
    step_m2 = mapped(h_33, xy_m2 + np.array([0.01, 0])) - mapped(h_33, xy_m2)
    return np.hypot(*step_m2.T) / 0.01, np.rad2deg(np.arctan2(step_m2[:, 1], step_m2[:, 0])) % 360


def features(xy_l2, size_l, angle_l, width=640, height=480):
    l = len(xy_l2)
    arrays = (np.asarray(a, np.float32) for a in (xy_l2, size_l, angle_l, np.ones(l)))
    return Features(np.zeros((l, 1), np.uint8), *arrays, width=width, height=height)


def pair(n_right, n_wrong=0, h_33=H_33, noise=0.5, seed=0, zoom=1.0):
    """Two images whose rows match in order: right ones by `h_33`, the others anywhere."""
    rng = np.random.default_rng(seed)
    n = n_right + n_wrong
    a_m2 = rng.uniform((20, 20), (620, 460), (n, 2))
    b_m2 = mapped(h_33, a_m2) + rng.normal(0, noise, (n, 2))
    size_m, angle_m = rng.uniform(2, 20, n), rng.uniform(0, 360, n)
    scale_m, turn_m = local_similarity(h_33, a_m2)
    b_size_m = size_m * scale_m * rng.uniform(0.9, 1.1, n)
    b_angle_m = (angle_m + turn_m + rng.normal(0, 3, n)) % 360
    wrong = slice(n_right, n)
    b_m2[wrong] = rng.uniform((0, 0), (640, 480), (n_wrong, 2))
    b_angle_m[wrong] = rng.uniform(0, 360, n_wrong)
    order_m = rng.permutation(n)
    a = features(a_m2[order_m], size_m[order_m], angle_m[order_m])
    size = int(640 * zoom), int(480 * zoom)
    b_m2 = (b_m2 + 0.5) * zoom - 0.5
    b = features(b_m2[order_m], zoom * b_size_m[order_m], b_angle_m[order_m], *size)
    return a, b, in_order(n), order_m < n_right


def in_order(n):
    return Matches(np.arange(n), np.arange(n), np.linspace(0.1, 0.8, n, dtype=np.float32))


def check_empty(found, model="homography"):
    assert isinstance(found, Verification)
    assert (found.n_inliers, found.transform_33, found.model) == (0, None, model)
    assert found.query_xy_m2.shape == found.match_xy_m2.shape == (0, 2)


class TestHomography:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(
        ("n_right", "n_wrong"), [(300, 0), (60, 60), (20, 200), (10, 300), (8, 8)]
    )
    def test_is_found_among_wrong_matches(self, n_right, n_wrong, seed):
        a, b, matches, is_right_m = pair(n_right, n_wrong, seed=seed)
        found = verify(a, b, matches)
        right = {tuple(xy) for xy in a.xy_l2[is_right_m]}
        inliers = {tuple(xy) for xy in found.query_xy_m2}
        assert len(inliers & right) >= 0.9 * n_right
        assert len(inliers - right) <= 0.02 * n_wrong + 1
        assert found.n_inliers == len(found.query_xy_m2) == len(found.match_xy_m2)
        error_m = np.hypot(*(mapped(found.transform_33, found.query_xy_m2) - found.match_xy_m2).T)
        assert np.all(error_m < 8.01)
        if n_right > n_wrong:
            corner_42 = np.array([[50, 50], [590, 50], [590, 430], [50, 430.0]])
            off = mapped(found.transform_33, corner_42) - mapped(H_33, corner_42)
            assert np.abs(off).max() < 1.5
            assert found.transform_33[2, 2] == 1

    @pytest.mark.parametrize("zoom", [0.25, 5.0])
    def test_the_tolerance_goes_with_the_size_of_the_image(self, zoom):
        """8 px of 640 are 40 px of 3200; noise that would fail 8 px there passes."""
        a, b, matches, _ = pair(80, 20, noise=1.5, zoom=zoom)
        found = verify(a, b, matches)
        assert found.n_inliers == pytest.approx(verify(*pair(80, 20, noise=1.5)[:3]).n_inliers, 3)
        assert found.n_inliers >= 76
        back = mapped(found.transform_33, found.query_xy_m2) - found.match_xy_m2
        assert np.hypot(*back.T).max() < 8.01 * zoom

    def test_both_ways(self):
        a, b, matches, _ = pair(100, 50)
        there, back = verify(a, b, matches), verify(b, a, matches)
        assert there.n_inliers == pytest.approx(back.n_inliers, 3)
        corner_42 = np.array([[50, 50], [590, 50], [590, 430], [50, 430.0]])
        around_42 = mapped(back.transform_33, mapped(there.transform_33, corner_42))
        np.testing.assert_allclose(around_42, corner_42, atol=1)

    @pytest.mark.parametrize("degrees", [0, 33, 90, 180, 271])
    @pytest.mark.parametrize("scale", [0.2, 1, 4])
    def test_rotated_and_scaled(self, degrees, scale):
        h_33 = np.vstack([cv2.getRotationMatrix2D((320, 240), degrees, scale), [0, 0, 1]])
        a, b, matches, _ = pair(40, 40, h_33=h_33, noise=0.2)
        found = verify(a, b, matches)
        assert found.n_inliers >= 39
        np.testing.assert_allclose(found.transform_33[:2, :2], h_33[:2, :2], atol=0.03 * scale)

    @pytest.mark.parametrize("scale", [0.3, 1 / 0.3])
    def test_error_counts_where_the_thing_is_larger(self, scale):
        """Off by 20 px there is off by 6 px in the smaller one, which would pass."""
        a, b, matches, _ = pair(80, h_33=np.diag([scale, scale, 1]), noise=0)
        larger, smaller = (a, b) if scale < 1 else (b, a)
        xy_l2 = larger.xy_l2 + np.where(np.arange(80) < 20, 20, 0)[:, None] * [[1, 0]]
        moved = features(xy_l2, larger.size_l, larger.angle_l)
        found = verify(*((moved, smaller) if scale < 1 else (smaller, moved)), matches)
        assert found.n_inliers == 60

    def test_repeats_to_the_bit_in_any_thread(self):
        cases = [pair(15, 80, seed=s)[:3] for s in range(6)]
        once = [verify(*case) for case in cases]
        cv2.setRNGSeed(7)
        with ThreadPoolExecutor(4) as pool:
            again = list(pool.map(lambda case: verify(*case), cases * 5))
        for i, found in enumerate(again):
            np.testing.assert_array_equal(found.transform_33, once[i % 6].transform_33)
            np.testing.assert_array_equal(found.query_xy_m2, once[i % 6].query_xy_m2)

    def test_several_descriptors_of_one_point_count_once(self):
        a, b, _, _ = pair(30)
        rows = np.repeat(np.arange(30), 3)
        repeated = [
            Features(f.descriptor_lf[rows], f.xy_l2[rows], f.size_l[rows], f.angle_l[rows],
                     f.score_l[rows], width=640, height=480) for f in (a, b)
        ]  # fmt: skip
        found = verify(*repeated, in_order(90))
        assert found.n_inliers == verify(a, b, in_order(30)).n_inliers == 30


class TestNoMatch:
    @pytest.mark.parametrize("n", [0, 1, 2, 3])
    def test_too_few(self, n):
        a, b, matches, _ = pair(n)
        check_empty(verify(a, b, matches))
        check_empty(verify(a, b, matches, model="fundamental"), "fundamental")

    def test_on_a_line(self):
        t = np.linspace(0, 400, 30)
        a = features(np.c_[t + 50, t], np.full(30, 5), np.zeros(30))
        check_empty(verify(a, a, in_order(30)))

    def test_at_one_point(self):
        a = features(np.full((30, 2), 77), np.full(30, 5), np.zeros(30))
        check_empty(verify(a, a, in_order(30)))

    def test_mirrored(self):
        a, _, matches, _ = pair(60)
        mirrored_l2 = a.xy_l2 * [-1, 1] + [639, 0]
        for angle_l in (a.angle_l, (180 - a.angle_l) % 360):
            b = features(mirrored_l2, a.size_l, angle_l)
            assert verify(a, b, matches).n_inliers < 8
        upright = features(a.xy_l2, np.full(60, 5), np.zeros(60))
        assert verify(upright, features(mirrored_l2, np.full(60, 5), np.zeros(60)),
                      matches).n_inliers < 8  # fmt: skip

    @pytest.mark.parametrize("scale", [1 / 40, 40])
    def test_forty_times_as_large(self, scale):
        h_33 = np.diag([scale, scale, 1])
        a, b, matches, _ = pair(50, h_33=h_33, noise=0)
        check_empty(verify(a, b, matches))

    def test_stretched_tenfold(self):
        rng = np.random.default_rng(0)
        a_m2 = rng.uniform(0, 400, (50, 2))
        size_l, angle_l = np.full(50, 5), np.zeros(50)
        a = features(a_m2, size_l, angle_l)
        b = features(a_m2 * [1, 0.1], size_l, angle_l)
        assert verify(a, b, in_order(50)).n_inliers < 8
        c = features(a_m2 * [1, 0.5], size_l, angle_l)  # twofold is an oblique view
        assert verify(a, c, in_order(50)).n_inliers > 40

    def test_by_chance(self):
        counts = [verify(*pair(0, 100, seed=s)[:3]).n_inliers for s in range(40)]
        assert max(counts) < 8

    def test_values_that_are_not_finite(self):
        a, b, matches, _ = pair(40)
        xy_l2 = a.xy_l2.copy()
        xy_l2[:5] = np.nan
        xy_l2[5] = np.inf
        found = verify(features(xy_l2, a.size_l, a.angle_l), b, matches)
        assert 30 <= found.n_inliers <= 34
        every = features(np.full((40, 2), np.nan), a.size_l, a.angle_l)
        check_empty(verify(every, b, matches))
        for bad in (np.nan, 0, np.inf):
            size_l = a.size_l.copy()
            size_l[::2] = bad
            angle_l = a.angle_l.copy()
            angle_l[1::4] = np.nan
            verify(features(a.xy_l2, size_l, angle_l), b, matches)

    def test_what_opencv_may_answer(self, monkeypatch):
        a, b, matches, _ = pair(40)
        mask = np.ones((40, 1), np.uint8)
        answers = [(None, None), (np.full((3, 3), np.nan), mask), (np.zeros((3, 3)), mask),
                   (np.zeros((3, 0)), mask), (np.diag([1, -1, 1.0]), mask)]  # fmt: skip
        for answer in answers:
            monkeypatch.setattr(cv2, "findHomography", lambda *_, answer=answer, **__: answer)
            check_empty(verify(a, b, matches))

    def test_refusals(self):
        a, b, matches, _ = pair(10)
        with pytest.raises(ParameterError, match="fundamental"):
            verify(a, b, matches, model="affine")
        for tolerance in (0, 1, -1, float("nan")):
            with pytest.raises(ParameterError, match="tolerance"):
                verify(a, b, matches, tolerance=tolerance)

    def test_other_objects(self):
        a, b, matches, _ = pair(10)
        metric = Sift().metric

        def of(query, other):
            return Matches(query, np.array(other), np.ones(1))

        cases = [
            ("query is a ndarray, wanted Features", lambda: verify(np.eye(3), b, matches)),
            ("other is a NoneType, wanted Features", lambda: verify(a, None, matches)),
            ("matches is a ndarray, wanted Matches", lambda: verify(a, b, np.arange(4))),
            ("query is a str, wanted Features", lambda: verify_all("a.jpg", [b], metric)),
            (r"others\[1\] is a NoneType", lambda: verify_all(a, [b, None], metric)),
            ("others is one Features: give a list", lambda: verify_all(a, b, metric)),
            ("metric=None: give the `metric` of", lambda: verify_all(a, [b], None)),
            ("others is a int: give a list", lambda: verify_all(a, 3, metric)),
            ("matches have 1 rows of query, 2 of other", lambda: verify(a, b, of([0], [0, 1]))),
            (r"rows of other of shape \(1, 1\)", lambda: verify(a, b, of([0], [[0]]))),
            ("rows of query of shape .* dtype float64", lambda: verify(a, b, of([0.5], [0]))),
        ]
        for message, call in cases:
            with pytest.raises(ParameterError, match=message):
                call()

    def test_matches_of_other_images(self):
        a, b, matches, _ = pair(10)
        n, one_m = len(b), np.zeros(1, np.int64)
        for wrong in (n, -1):
            far = Matches(one_m, one_m + wrong, np.ones(1))
            with pytest.raises(ParameterError, match=f"matches name features {wrong} to {wrong}"):
                verify(a, b, far)
        last = Matches(one_m, one_m + n - 1, np.ones(1))
        assert verify(a, b, last).n_inliers == 0
        assert verify(a, b, matches).n_inliers == 10
        lists = Matches(*(each.tolist() for each in (matches.query_m, matches.other_m)), None)
        assert verify(a, b, lists).n_inliers == 10


@pytest.mark.parametrize("swap", [False, True])
def test_fundamental_matrix_of_two_views_of_a_solid(swap):
    """Points in depth, a camera that steps aside: no homography holds them all."""
    rng = np.random.default_rng(0)
    n = 120
    point_m3 = np.c_[rng.uniform(-2, 2, (n, 2)), rng.uniform(8, 14, n)]
    k_33 = np.array([[600, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
    shift_3 = np.array([0.4, 0.05, 0.1])
    turn_33 = cv2.Rodrigues(np.array([0.02, 0.03, 0.15]))[0]
    a_m3, b_m3 = point_m3 @ k_33.T, (point_m3 @ turn_33.T + shift_3) @ k_33.T
    a_m2, b_m2 = a_m3[:, :2] / a_m3[:, 2:], b_m3[:, :2] / b_m3[:, 2:]
    size_l, angle_l = np.full(n, 6), rng.uniform(0, 360, n)
    a, b = features(a_m2, size_l, angle_l), features(b_m2, size_l, angle_l)
    if swap:
        a, b = b, a
    found = verify(a, b, in_order(n), model="fundamental", tolerance=1 / 640)
    assert found.n_inliers > 110
    x, y, z = shift_3
    cross_33 = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    wanted_33 = np.linalg.inv(k_33).T @ cross_33 @ turn_33 @ np.linalg.inv(k_33)
    wanted_33 = wanted_33.T if swap else wanted_33
    wanted_33 /= np.linalg.norm(wanted_33)
    sign = np.sign((wanted_33 * found.transform_33).sum())
    np.testing.assert_allclose(sign * found.transform_33, wanted_33, atol=0.02)


def test_rescore():
    score_n = np.array([0.3, 0.05, 0.2, -0.1])
    wanted_n = [0.3, 0.05 * (1 + np.log(11)), 0.2 * (1 + np.log(2)), 0.001 * (1 + np.log(97))]
    np.testing.assert_allclose(rescore(score_n, np.array([3, 14, 5, 100])), wanted_n)
    none_n = np.array([-0.1, 0.0002])  # no inliers speak for them: they stay the last
    np.testing.assert_array_equal(rescore(none_n, np.array([4, 0])), none_n)


@cache
def read(file):
    return Sift().read(file)


@pytest.mark.skipif(not AFFINE.is_dir(), reason="the affine image sets are not on this machine")
@pytest.mark.parametrize(
    ("name", "number", "least"),
    [("graf", 2, 200), ("graf", 3, 80), ("boat", 2, 300), ("boat", 4, 60), ("boat", 5, 60),
     ("wall", 3, 300), ("wall", 5, 40)],
)  # fmt: skip
def test_real_images_with_known_homographies(name, number, least):
    def file(i):
        return next((AFFINE / name).glob(f"img{i}.png"))

    a, b = read(file(1)), read(file(number))
    (found,) = verify_all(a, [b], Sift().metric)
    assert found.n_inliers >= least
    wanted = mapped(np.loadtxt(AFFINE / name / f"H1to{number}p"), found.query_xy_m2)
    error_m = np.hypot(*(wanted - found.match_xy_m2).T)
    assert np.mean(error_m < 10 * b.width / 640) > 0.95
    off_m = np.hypot(*(mapped(found.transform_33, found.query_xy_m2) - wanted).T)
    assert np.median(off_m) < 1.5 * b.width / 640
    elsewhere = read(AFFINE / ("graf" if name == "wall" else "wall") / "img1.png")
    (other_scene,) = verify_all(a, [elsewhere], Sift().metric)
    assert other_scene.n_inliers < 8


def test_many_on_threads_equal_their_singles():
    rng = np.random.default_rng(0)
    noise_yx = rng.integers(0, 256, (60, 80), dtype=np.uint8)
    from vladkit.images import Image

    big_yx = cv2.resize(noise_yx, (320, 240), interpolation=cv2.INTER_CUBIC)
    sift = Sift()

    def of(gray_yx):
        h, w = gray_yx.shape
        return sift.extract(Image(np.ascontiguousarray(gray_yx), width=w, height=h))

    a, rotated, half = of(big_yx), of(np.rot90(big_yx)), of(big_yx[:, :160])
    found = verify_all(a, iter([a, rotated, half]), sift.metric, n_jobs=3)
    matcher = Matcher(a.descriptor_lf, sift.metric)
    for other, each in zip((a, rotated, half), found, strict=True):
        single = verify(a, other, matcher.match(other.descriptor_lf))
        assert each.n_inliers == single.n_inliers > 50
        np.testing.assert_array_equal(each.transform_33, single.transform_33)
    np.testing.assert_allclose(found[0].transform_33, np.eye(3), atol=1e-3)
    # a quarter turn anticlockwise: (x, y) -> (y, 319 - x)
    np.testing.assert_allclose(
        mapped(found[1].transform_33, np.array([[40.0, 100]])), [[100, 279]], atol=0.5
    )
    np.testing.assert_allclose(found[2].transform_33, np.eye(3), atol=0.02)


def test_the_outline_is_where_the_corners_go():
    points_m2 = np.array([[10, 10], [600, 20], [300, 400]], np.float32)
    found = Verification(
        3, H_33, points_m2, mapped(H_33, points_m2).astype(np.float32), "homography"
    )
    edges_42 = np.array([[-0.5, -0.5], [639.5, -0.5], [639.5, 479.5], [-0.5, 479.5]])
    outline_42 = found.outline_42(Region(0, 0, 640, 480))
    np.testing.assert_allclose(outline_42, mapped(H_33, edges_42))
    part_42 = found.outline_42(Region(100, 50, 200, 100))
    np.testing.assert_allclose(part_42[2], mapped(H_33, np.array([[299.5, 149.5]]))[0])
    # any multiple is the same homography
    negative = Verification(3, -2 * H_33, points_m2, found.match_xy_m2, "homography")
    np.testing.assert_allclose(negative.outline_42(Region(0, 0, 640, 480)), outline_42)


def test_no_outline_beyond_the_horizon_nor_without_a_homography():
    tilted_33 = np.array([[1, 0, 0], [0, 1, 0], [-1 / 500, 0, 1]])  # x = 500 goes to infinity
    points_m2 = np.array([[10, 10], [100, 100]], np.float32)
    found = Verification(2, tilted_33, points_m2, points_m2, "homography")
    assert found.outline_42(Region(0, 0, 640, 480)) is None
    assert found.outline_42(Region(0, 0, 400, 480)) is not None
    for transform_33, model in ((None, "homography"), (np.eye(3), "fundamental")):
        found = Verification(2, transform_33, points_m2, points_m2, model)
        assert found.outline_42(Region(0, 0, 640, 480)) is None


class TestWithoutDirectionsAndSizes:
    """Features as networks give them: pairs of matches say what single ones do for SIFT."""

    def plain(self, *arguments, **options):
        a, b, matches, right_m = pair(*arguments, **options)
        l = len(a)
        bare = [
            features(each.xy_l2, np.ones(l), np.zeros(l), each.width, each.height)
            for each in (a, b)
        ]
        return *bare, matches, right_m

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(
        ("n_right", "n_wrong"), [(300, 0), (60, 60), (40, 160), (20, 100), (10, 60), (8, 8)]
    )
    def test_rotated_and_scaled(self, n_right, n_wrong, seed):
        a, b, matches, right_m = self.plain(n_right, n_wrong, seed=seed, zoom=0.7)
        found = verify(a, b, matches)
        assert found.n_inliers >= 0.9 * n_right
        kept = {tuple(xy_2) for xy_2 in found.query_xy_m2.tolist()}
        wrong = {tuple(xy_2) for xy_2 in a.xy_l2[~right_m].tolist()} & kept
        assert len(wrong) <= 0.1 * n_right + 0.05 * n_wrong
        middle_2 = (mapped(found.transform_33, np.array([[320, 240]])) + 0.5) / 0.7 - 0.5
        assert middle_2 == pytest.approx(mapped(H_33, np.array([[320, 240]])), abs=3)

    def test_by_single_matches_it_would_not_be_found(self, monkeypatch):
        """What the rule for SIFT makes of them: equal directions, so nothing is ever rotated."""
        a, b, matches, _ = self.plain(40, 160, zoom=0.7)
        monkeypatch.setattr(verification.Frame, "states_regions", lambda _: True)
        assert verify(a, b, matches).n_inliers < 10

    @pytest.mark.parametrize("n", [0, 1, 2, 3])
    def test_too_few(self, n):
        a, b, matches, _ = self.plain(n)
        check_empty(verify(a, b, matches))

    def test_all_in_one_place(self):
        a, b, matches, _ = self.plain(30)
        a.xy_l2[:] = a.xy_l2[0] + np.arange(30)[:, None] * 1e-3
        assert verify(a, b, matches).n_inliers == 0

    @pytest.mark.parametrize("seed", range(5))
    def test_wrong_matches_alone(self, seed):
        a, b, matches, _ = self.plain(0, 150, seed=seed)
        assert verify(a, b, matches).n_inliers < 8

    def test_fundamental(self):
        a, b, matches, _ = self.plain(80, 60)
        assert verify(a, b, matches, model="fundamental").n_inliers >= 60
