"""Geometric verification of a ranking: the first images in full, others where they may fit.

Nearly all time of a match is the product of the descriptors of two images. Far down a ranking
hardly any image shows the same thing, and the strongest features tell which cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from vladkit.core.arrays import AnyArray, Float32Array
from vladkit.core.threads import for_each, resolve_n_jobs
from vladkit.features import Features
from vladkit.geometry.matching import Matcher
from vladkit.geometry.verification import Model, Verification, nothing_found, verify

__all__ = ["verify_ranked"]

_IN_FULL: Final = 20
"""First images, which are matched with all features."""

_STRONGEST: Final = 500
"""Features of either image by which the others are tried. Of 11,027 images from the 21st on that
show something else 9 % remain, and of those that show the same none is lost
(docs/results/quality.md)."""


def verify_ranked(
    query: Features,
    others: Sequence[Features],
    metric: Callable[[AnyArray], Float32Array],
    *,
    model: Model = "homography",
    ratio: float,
    min_cosine: float,
    n_jobs: int | None = None,
) -> list[Verification]:
    """Match a query with the images of a ranking and verify, on threads.

    Parameters
    ----------
    query : Features
    others : sequence of Features
        The most similar first. From the 21st on an image that no homography of the 500 strongest
        features speaks for has 0 inliers, without being matched in full.
    metric, model, ratio, min_cosine, n_jobs
        See `vladkit.geometry.verification.verify_all`.

    Returns
    -------
    list of Verification
        In the order of `others`.
    """
    matcher_of = partial(Matcher, metric=metric, ratio=ratio, min_cosine=min_cosine)
    matcher = matcher_of(query.descriptor_lf)
    few = query.strongest(_STRONGEST)
    few_matcher = matcher_of(few.descriptor_lf)
    found: list[Verification] = [nothing_found(model)] * len(others)

    def may_fit(other: Features) -> bool:
        if len(query) * len(other) <= 2 * _STRONGEST**2:  # in full it takes hardly longer
            return True
        strong = other.strongest(_STRONGEST)
        matches = few_matcher.match(strong.descriptor_lf)
        return verify(few, strong, matches).n_inliers > 0

    def one(i: int) -> None:
        other = others[i]
        if i < _IN_FULL or may_fit(other):
            found[i] = verify(query, other, matcher.match(other.descriptor_lf), model=model)

    for_each(one, len(others), resolve_n_jobs(n_jobs))
    return found
