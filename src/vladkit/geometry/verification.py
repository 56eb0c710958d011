"""Geometric verification: how many matches of two images fit one geometry, and which.

Axes: ``m`` matches, ``2`` is x, y. All coordinates that come out are px of the original images,
the origin at the centre of the top-left pixel; so are those of features that go in, unless they are
of a `region`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, Float32Array, FloatArray, IntArray, as_array
from vladkit.core.params import Interval, StrOptions, check_parameter, check_type
from vladkit.core.threads import for_each, resolve_n_jobs
from vladkit.errors import ParameterError
from vladkit.features import Features, check_features
from vladkit.geometry.hypotheses import FRAME_SIDE, MAX_SCALE, Frame, consistent_matches
from vladkit.geometry.matching import MIN_COSINE, MUTUAL, RATIO, Matcher, Matches
from vladkit.images.region import RegionLike, as_region

__all__ = [
    "MIN_INLIERS",
    "Model",
    "Verification",
    "nothing_found",
    "rescore",
    "verify",
    "verify_all",
]

Model: TypeAlias = Literal["homography", "fundamental"]

MIN_INLIERS: Final = 8
"""Number of inliers from which two images show the same thing. Of 140 queries for paintings,
photographed in a museum, 98 % had that many with one of 50 images; of ten for paintings that were
not in the database none; from 5 to 11 it makes no difference."""

_TOLERANCE: Final = 8 / FRAME_SIDE
_MIN_MATCHES: Final[dict[Model, int]] = {"homography": 4, "fundamental": 8}  # that determine it

_MAX_STRETCH: Final = 6.0  # of one direction against the other: a plane seen from 80 degrees aside
_MIN_SPREAD: Final = 2.0  # px of 640 across the line that inliers lie along
_MAX_ITER: Final = 2000  # draws of MAGSAC++ at most; it stops at this confidence before
_CONFIDENCE: Final = 0.999


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """Geometry of two images: the model that their matches fit, and the inliers.

    Parameters
    ----------
    n_inliers : int
        Number of matches that fit, each point counted once; 0 where no geometry was found.
    transform_33 : float64 array (3, 3) or None
        Homography that takes points of the query to points of the other image, with 1 at the
        bottom right; or the fundamental matrix F of norm 1, ``match^T F query = 0``. None with
        0 inliers.
    query_xy_m2, match_xy_m2 : float32 arrays (m, 2)
        The inliers' points, in px of the original images, the clearest match first.
    model : {"homography", "fundamental"}

    Examples
    --------
    >>> import numpy as np
    >>> xy_m2 = np.array([[0, 0], [9, 0], [9, 9], [0, 9]], np.float32)
    >>> found = Verification(4, np.diag([2.0, 2, 1]), xy_m2, 2 * xy_m2, "homography")
    >>> found.verified, found.outline_42((0, 0, 10, 10)).tolist()
    (False, [[-1.0, -1.0], [19.0, -1.0], [19.0, 19.0], [-1.0, 19.0]])
    """

    n_inliers: int
    transform_33: npt.NDArray[np.float64] | None
    query_xy_m2: Float32Array
    match_xy_m2: Float32Array
    model: Model

    @property
    def verified(self) -> bool:
        """Whether enough matches fit to show the same thing, most likely: 8 or more."""
        return self.n_inliers >= MIN_INLIERS

    def outline_42(self, shown: RegionLike) -> npt.NDArray[np.float64] | None:
        """Corners of the query, or of a part of it, in the other image.

        Parameters
        ----------
        shown : Region or (left, top, width, height)
            The whole query (from 0, 0) or the part of it that was searched by.

        Returns
        -------
        float64 array (4, 2) or None
            px of the other image, from the query's top left clockwise; may lie outside of the
            image. None without a homography, or if a corner is beyond its horizon.
        """
        shown = as_region(shown)
        if self.transform_33 is None or self.model != "homography" or shown is None:
            return None
        left, top = shown.left - 0.5, shown.top - 0.5  # the outer edges of its px
        right, bottom = left + shown.width, top + shown.height
        corner_43 = np.array(
            [[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]]
        )
        mapped_43 = corner_43 @ self.transform_33.T
        # The horizon is where the third coordinate changes its sign.
        inside = (self.transform_33 @ [*self.query_xy_m2.mean(axis=0), 1])[2]
        if (mapped_43[:, 2] * np.sign(inside) < 1e-9).any():
            return None
        return np.asarray(mapped_43[:, :2] / mapped_43[:, 2:], np.float64)


def verify(
    query: Features,
    other: Features,
    matches: Matches,
    *,
    model: Model = "homography",
    tolerance: float = _TOLERANCE,
) -> Verification:
    """Find the geometry that most matches of two images agree on.

    Parameters
    ----------
    query, other : Features
    matches : Matches
        Rows of the two, see `vladkit.geometry.matching.match`.
    model : {"homography", "fundamental"}
        A plane or a far scene; or any rigid scene, which says less, as a point then only has to lie
        on a line.
    tolerance : float, default=0.0125
        Largest error of an inlier, as a share of the longest side: 8 px of 640. Measured in the
        image that shows the thing larger.

    Returns
    -------
    Verification
        Equal for equal input, on any thread. Too few matches, or matches that fit only what no
        camera does (mirrored, inside out, all on a line, 16 times as large, stretched sixfold),
        give 0 inliers, not an error.

    Raises
    ------
    ParameterError
        The model does not exist, ``tolerance`` is not between 0 and 1, the arguments are other
        objects, or the matches are those of other images.

    Notes
    -----
    Two steps. Each of the 150 clearest matches is a hypothesis: the similarity that its two
    features state by position, direction and size. The hypothesis wins that most matches agree
    with, to 40 px of 640, in direction to 45 degrees and in size to a factor of 2
    (`vladkit.geometry.hypotheses`). To those matches MAGSAC++ fits the model. The first step finds
    8 right matches among 300 without luck, in a fraction of a millisecond; the second alone would
    need thousands of draws of four.

    Where one image's features state neither direction nor size (all have the same, as those of
    networks do), each two of the 32 clearest matches are a hypothesis instead, and the others
    agree by position alone.

    References
    ----------
    Philbin et al., *Object retrieval with large vocabularies and fast spatial matching*, CVPR 2007
    (one match as a hypothesis). Jegou et al., *Hamming embedding and weak geometric consistency*,
    ECCV 2008 (agreement in direction and size). Barath et al., *MAGSAC++*, CVPR 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from vladkit.features import Features
    >>> rng = np.random.default_rng(0)
    >>> xy_l2 = rng.uniform(0, 100, (20, 2)).astype(np.float32)
    >>> one_l, zero_l = np.ones(20, np.float32), np.zeros(20, np.float32)
    >>> a = Features(np.eye(20, 128), xy_l2, one_l, zero_l, one_l, width=100, height=100)
    >>> b = Features(np.eye(20, 128), 2 * xy_l2, 2 * one_l, zero_l, one_l, width=200, height=200)
    >>> from vladkit.geometry.matching import match
    >>> found = verify(a, b, match(a.descriptor_lf, b.descriptor_lf))
    >>> found.n_inliers, abs(found.transform_33.round(3)).tolist()
    (20, [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    """
    check_parameter("model", model, StrOptions(*_MIN_MATCHES))
    check_parameter("tolerance", tolerance, Interval(float, 0, 1, closed="neither"))
    check_type("matches", matches, Matches, "vladkit.match")
    query_m = _checked_rows("query", query, matches.query_m)
    other_m = _checked_rows("other", other, matches.other_m)
    if len(query_m) != len(other_m):
        raise ParameterError(
            f"matches have {len(query_m)} rows of query, {len(other_m)} of other: wanted pairs"
        )
    query_m, other_m = _each_point_once(query, other, query_m, other_m)
    query_frame, other_frame = Frame(query), Frame(other)
    agree_m, scale = consistent_matches(query_frame, other_frame, query_m, other_m)
    query_m, other_m = query_m[agree_m], other_m[agree_m]
    if len(query_m) < _MIN_MATCHES[model]:
        return nothing_found(model)
    # Where the other image shows it smaller, all of the query would fit into the tolerance.
    swapped = scale < 1
    source_m2, target_m2 = query_frame.xy(query_m), other_frame.xy(other_m)
    if swapped:
        source_m2, target_m2 = target_m2, source_m2
    fitted = _fit(source_m2, target_m2, model, FRAME_SIDE * tolerance)
    if fitted is None:
        return nothing_found(model)
    transform_33, inlier_m = fitted
    if swapped:
        backwards = transform_33.T if model == "fundamental" else np.linalg.inv(transform_33)
        transform_33 = np.asarray(backwards, np.float64)
    transform_33 = _in_pixels(transform_33, query_frame, other_frame, model)
    if not np.isfinite(transform_33).all():  # the top-left pixel is on the horizon
        return nothing_found(model)
    return Verification(
        n_inliers=int(inlier_m.sum()),
        transform_33=transform_33,
        query_xy_m2=query_frame.xy_in_image(query_m[inlier_m]),
        match_xy_m2=other_frame.xy_in_image(other_m[inlier_m]),
        model=model,
    )


def verify_all(
    query: Features,
    others: Iterable[Features],
    metric: Callable[[AnyArray], Float32Array],
    *,
    model: Model = "homography",
    tolerance: float = _TOLERANCE,
    ratio: float = RATIO,
    mutual: bool = MUTUAL,
    min_cosine: float = MIN_COSINE,
    n_jobs: int | None = None,
) -> list[Verification]:
    """Match a query with each of many images and verify, on threads.

    Parameters
    ----------
    query : Features
    others : iterable of Features
    metric : callable
        `Extractor.metric` of the extractor that made them.
    model, tolerance
        See `verify`.
    ratio, mutual, min_cosine
        See `vladkit.geometry.matching.match`.
    n_jobs : int or None
        Threads; None is one for each core.

    Returns
    -------
    list of Verification
        In the order of `others`.

    Raises
    ------
    ParameterError
        The arguments are other objects, or `verify` or `match` refuses a parameter.

    Examples
    --------
    >>> import numpy as np
    >>> from vladkit.features import Features, Sift
    >>> rng = np.random.default_rng(0)
    >>> xy_l2 = rng.uniform(0, 100, (20, 2)).astype(np.float32)
    >>> one_l, descriptor_lf = np.ones(20, np.float32), 200 * np.eye(20, 128, dtype=np.uint8)
    >>> a = Features(descriptor_lf, xy_l2, one_l, one_l, one_l, width=100, height=100)
    >>> other = Features(descriptor_lf[::-1], xy_l2, one_l, one_l, one_l, width=100, height=100)
    >>> [found.n_inliers for found in verify_all(a, [a, other], Sift().metric)]
    [20, 0]
    """
    check_features("query", query)
    if isinstance(others, Features):
        raise ParameterError("others is one Features: give a list of them")
    if not isinstance(others, Iterable):
        raise ParameterError(f"others is a {type(others).__name__}: give a list of Features")
    others = list(others)
    for i, other in enumerate(others):
        check_features(f"others[{i}]", other)
    if not callable(metric):
        raise ParameterError(f"metric={metric!r}: give the `metric` of an extractor")
    matcher = Matcher(
        query.descriptor_lf, metric, ratio=ratio, mutual=mutual, min_cosine=min_cosine
    )
    found: list[Verification | None] = [None] * len(others)

    def one(i: int) -> None:
        matches = matcher.match(others[i].descriptor_lf)
        found[i] = verify(query, others[i], matches, model=model, tolerance=tolerance)

    for_each(one, len(others), resolve_n_jobs(n_jobs))
    return [each for each in found if each is not None]


def rescore(
    score_n: FloatArray, n_inliers_n: IntArray, *, least: float = 0.001
) -> npt.NDArray[np.float64]:
    """Combine similarity with the inliers: ``score * (1 + log(1 + b))``.

    b are the inliers beyond 4.

    Parameters
    ----------
    score_n : array (n,)
        Similarity, as cosines of vectors.
    n_inliers_n : int array (n,)
        `Verification.n_inliers` of each.
    least : float, above 0
        Lower scores, also negative ones, count as this where inliers speak for an image.

    Returns
    -------
    float64 array (n,)
        Scores to sort by, the highest first.

    Notes
    -----
    A homography goes through any four points, so that only those beyond are evidence. The product,
    and not the inliers alone, because images of places that repeat themselves (corridors,
    facades) have many inliers with the wrong ones too; and because it asks for no unit of its own,
    while the level of the scores differs from collection to collection. The logarithm, because the
    tenth inlier says more than the hundredth: with ``score * (1 + b)`` mAP is 0.01 less among
    distractors (docs/results/quality.md).

    Examples
    --------
    >>> import numpy as np
    >>> rescore(np.array([0.2, 0.1, 0.3]), np.array([4, 30, 0])).round(3)
    array([0.2 , 0.43, 0.3 ])
    """
    beyond_n = np.maximum(np.asarray(n_inliers_n) - 4, 0)
    base_n = np.asarray(score_n, np.float64)
    raised_n = np.maximum(base_n, least) * (1 + np.log1p(beyond_n))
    return np.where(beyond_n > 0, raised_n, base_n)


def nothing_found(model: Model) -> Verification:
    """Verification of two images that no geometry takes to each other."""
    empty_m2 = np.empty((0, 2), np.float32)
    return Verification(0, None, empty_m2, empty_m2, model)


def _checked_rows(name: str, features: Features, rows: Any) -> IntArray:
    """Rows of matches; ParameterError unless they are rows of the features."""
    check_features(name, features)
    row_m = as_array(rows)
    if row_m.ndim != 1 or (row_m.size and row_m.dtype.kind not in "iu"):
        raise ParameterError(
            f"matches have rows of {name} of shape {row_m.shape} and dtype {row_m.dtype}, wanted "
            "an integer for each match"
        )
    if len(row_m) and not 0 <= row_m.min() <= row_m.max() < len(features):
        raise ParameterError(
            f"matches name features {row_m.min()} to {row_m.max()} of {name}, which has "
            f"{len(features)}: they are of other images"
        )
    return row_m.astype(np.int64, copy=False)


def _each_point_once(
    query: Features, other: Features, query_m: IntArray, other_m: IntArray
) -> tuple[IntArray, IntArray]:
    """Keep the clearest match at each point: SIFT describes a point once per direction."""
    finite_m = np.isfinite(query.xy_l2[query_m]).all(axis=1)
    finite_m &= np.isfinite(other.xy_l2[other_m]).all(axis=1)
    query_m, other_m = query_m[finite_m], other_m[finite_m]
    for features, side in ((query, 0), (other, 1)):
        xy_m2 = features.xy_l2[(query_m, other_m)[side]].astype(np.float64)
        _, once = np.unique(xy_m2[:, 0] + 1j * xy_m2[:, 1], return_index=True)
        once.sort()
        query_m, other_m = query_m[once], other_m[once]
    return query_m, other_m


def _fit(
    source_m2: npt.NDArray[np.float64],
    target_m2: npt.NDArray[np.float64],
    model: Model,
    tolerance: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None:
    """Fit the model by MAGSAC++; None unless it is one that a camera can see."""
    import cv2

    # Its USAC starts its own generator from the same state at each call.
    try:
        if model == "homography":
            found, mask = cv2.findHomography(
                source_m2,
                target_m2,
                cv2.USAC_MAGSAC,
                tolerance,
                maxIters=_MAX_ITER,
                confidence=_CONFIDENCE,
            )
        else:
            found, mask = cv2.findFundamentalMat(
                source_m2, target_m2, cv2.USAC_MAGSAC, tolerance, _CONFIDENCE, _MAX_ITER
            )
    except cv2.error:  # for points that determine nothing, by version
        return None
    if found is None or mask is None or found.shape != (3, 3) or not np.isfinite(found).all():
        return None
    inlier_m = mask.ravel().astype(bool)
    if inlier_m.sum() < _MIN_MATCHES[model]:
        return None
    points = source_m2[inlier_m], target_m2[inlier_m]
    if any(_spread(xy_m2) < _MIN_SPREAD for xy_m2 in points):
        return None
    transform_33 = np.asarray(found, np.float64)
    if model == "homography" and not _is_sane(transform_33, points[0]):
        return None
    return transform_33, inlier_m


def _in_pixels(
    transform_33: npt.NDArray[np.float64], query: Frame, other: Frame, model: Model
) -> npt.NDArray[np.float64]:
    """Transform between px of the original images, from one between px of frames."""
    query_33, other_33 = query.from_pixels_33(), other.from_pixels_33()
    if model == "fundamental":
        f_33 = other_33.T @ transform_33 @ query_33
        return np.asarray(f_33 / np.linalg.norm(f_33), np.float64)
    h_33 = np.linalg.inv(other_33) @ transform_33 @ query_33
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(h_33 / h_33[2, 2], np.float64)


def _spread(xy_m2: npt.NDArray[np.float64]) -> float:
    """Standard deviation of points across the line that they lie along."""
    centred_m2 = xy_m2 - xy_m2.mean(axis=0)
    return float(np.linalg.svd(centred_m2, compute_uv=False)[1] / math.sqrt(len(xy_m2)))


def _is_sane(homography_33: npt.NDArray[np.float64], xy_m2: npt.NDArray[np.float64]) -> bool:
    """Whether a camera can see a plane so: at no point mirrored, torn or crushed."""
    h = homography_33
    w_m = xy_m2 @ h[2, :2] + h[2, 2]
    if not (np.all(w_m > 0) or np.all(w_m < 0)):
        return False
    mapped_m2 = (xy_m2 @ h[:2, :2].T + h[:2, 2]) / w_m[:, None]
    jacobian_m22 = (h[None, :2, :2] - mapped_m2[:, :, None] * h[None, 2:, :2]) / w_m[:, None, None]
    value_m2 = np.linalg.svd(jacobian_m22, compute_uv=False)
    scale_m = np.sqrt(value_m2.prod(axis=1))
    return bool(
        np.all(np.linalg.det(jacobian_m22) > 0)
        and np.all((scale_m > 1 / MAX_SCALE) & (scale_m < MAX_SCALE))
        and np.all(value_m2[:, 0] < _MAX_STRETCH * value_m2[:, 1])
    )
