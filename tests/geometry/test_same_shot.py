"""Copies of one shot and photos of one scene: altered in every way, and what is no copy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from photos import photo
from vladkit.errors import ParameterError
from vladkit.features import Features, Sift
from vladkit.geometry import same_shot as module
from vladkit.geometry.same_shot import same_shot
from vladkit.images import Image, decode_image

SIFT = Sift(max_features=800, max_side=400)


def features_of(image, quality=90) -> Features:
    data = cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return SIFT.extract(decode_image(data[1].tobytes(), max_side=SIFT.max_side))


@pytest.fixture(scope="module")
def coffee():
    image = photo("coffee")
    return image, features_of(image)


def tilted(image):
    """Seen from the side, as a second photo of a plane would be."""
    h, w = image.shape[:2]
    corner_42 = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    to_42 = np.array([[0, 0], [w, h * 0.08], [w, h * 0.92], [0, h]], np.float32)
    return cv2.warpPerspective(image, cv2.getPerspectiveTransform(corner_42, to_42), (w, h))


def rotated(image, degrees):
    h, w = image.shape[:2]
    return cv2.warpAffine(image, cv2.getRotationMatrix2D((w / 2, h / 2), degrees, 1), (w, h))


ALTERED = {
    "resized": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "cropped": lambda image: image[:, image.shape[1] // 2 :],
    "rotated": lambda image: np.rot90(image),
    "rotated+cropped": lambda image: rotated(image, 7),
    "altered": lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=10),
    "resized+cropped": lambda image: cv2.resize(image[60:, 80:], None, fx=1.3, fy=1.3),
}


class TestSameShot:
    @pytest.mark.parametrize("kinds", ALTERED)
    def test_altered(self, coffee, kinds):
        image, original = coffee
        difference = same_shot(original, features_of(ALTERED[kinds](image)), SIFT)
        assert difference is not None
        assert "+".join(difference.kinds) == kinds
        assert difference.residual < 0.42

    def test_affinity_is_in_pixels_of_the_originals(self, coffee):
        image, original = coffee
        difference = same_shot(original, features_of(image[50:, 70:]), SIFT)
        np.testing.assert_allclose(difference.affine_23, [[1, 0, -70], [0, 1, -50]], atol=0.5)
        assert difference.overlap == pytest.approx(1, abs=0.02)

    def test_compressed_and_identical(self, coffee):
        image, original = coffee
        assert same_shot(original, features_of(image, quality=30), SIFT).kinds == ("altered",)
        assert same_shot(original, original, SIFT).kinds == ("identical",)

    def test_flipped_only_where_asked_for(self, coffee):
        image, original = coffee
        flipped = features_of(image[:, ::-1])
        assert same_shot(original, flipped, SIFT) is None
        difference = same_shot(original, flipped, SIFT, flips=True)
        assert difference.kinds == ("flipped",)
        np.testing.assert_allclose(difference.affine_23, [[1, 0, 0], [0, 1, 0]], atol=0.5)
        upside_down = features_of(image[::-1])
        assert same_shot(original, upside_down, SIFT, flips=True).kinds == ("flipped", "rotated")

    def test_another_view_and_another_image_are_not(self, coffee, monkeypatch):
        image, original = coffee
        assert same_shot(original, features_of(tilted(image)), SIFT, flips=True) is None
        assert same_shot(original, features_of(photo("chelsea")), SIFT, flips=True) is None
        for limit in ("_MAX_RESIDUAL", "_MAX_RESIDUAL_STRETCHED", "_CLOSE"):
            monkeypatch.setattr(module, limit, 100)  # it is these that refuse the view
        assert same_shot(original, features_of(tilted(image)), SIFT) is not None

    def test_the_same_text_over_two_images_is_not(self, monkeypatch):
        written = []
        for name in ("coffee", "chelsea"):
            image = cv2.resize(photo(name), (400, 300))
            for text, y in (("SAMPLE 2026", 45), ("IMAGES", 285)):
                image[y - 40 : y + 10] = 0
                cv2.putText(image, text, (20, y), cv2.FONT_HERSHEY_SIMPLEX, 1.6, (255,) * 3, 3)
            written.append(features_of(image))
        assert same_shot(*written, SIFT) is None
        monkeypatch.setattr(module, "_MIN_SPREAD", 0)  # it is this that refuses them
        assert same_shot(*written, SIFT) is not None

    def test_nothing_to_go_by(self, coffee):
        _, original = coffee
        for n in (0, 1, 3, 10):
            few = original.strongest(n)
            assert same_shot(few, original, SIFT) is None
            assert same_shot(original, few, SIFT, flips=True) is None

    def test_other_objects(self, coffee):
        _, original = coffee
        for message, given in (
            ("a is a NoneType, wanted Features", (None, original, SIFT)),
            ("b is a str, wanted Features", (original, "b.jpg", SIFT)),
            ("extractor is a NoneType: give the one", (original, original, None)),
        ):
            with pytest.raises(ParameterError, match=message):
                same_shot(*given)

    def test_an_extractor_that_cannot_mirror(self, coffee):
        _, original = coffee

        class Other:
            name = "other"
            metric = staticmethod(SIFT.metric)

        few = original.strongest(3)
        assert same_shot(few, few, Other()) is None
        with pytest.raises(ParameterError, match="'other' cannot mirror"):
            same_shot(few, few, Other(), flips=True)


def test_mirrored_is_what_sift_finds_in_the_flipped_image():
    gray_yx = cv2.cvtColor(photo("coffee"), cv2.COLOR_BGR2GRAY)
    h, w = gray_yx.shape
    sift = Sift(max_features=500)
    a = sift.mirrored(sift.extract(Image(gray_yx, width=w, height=h)))
    b = sift.extract(Image(np.ascontiguousarray(gray_yx[:, ::-1]), width=w, height=h))
    off = []
    for i in range(len(a)):
        near_l = np.hypot(*(b.xy_l2 - a.xy_l2[i]).T) < 0.5
        near_l &= np.abs((b.angle_l - a.angle_l[i] + 180) % 360 - 180) < 3
        near_l &= np.abs(b.size_l / a.size_l[i] - 1) < 0.05
        if near_l.any():
            d_lf = b.descriptor_lf[near_l].astype(float) - a.descriptor_lf[i]
            off.append(np.linalg.norm(d_lf, axis=1).min())
    assert len(off) > 400
    assert np.median(off) < 5  # unlike descriptors are some 500 apart
    again = sift.mirrored(a)
    np.testing.assert_array_equal(sift.mirrored(again).descriptor_lf, a.descriptor_lf)
