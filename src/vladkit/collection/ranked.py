"""`Ranked` and `Hit`: images in a ranking; and rankings that become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vladkit.geometry.mirrored import unmirrored
from vladkit.geometry.verification import Verification
from vladkit.images import Region

__all__ = ["Hit", "Ranked", "better", "clearest", "of_image_itself"]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Image in a ranking.

    Parameters
    ----------
    image_id : int
        Its key in the collection, as in `Collection.image`.
    score : float
        The number that the ranking goes by. Without match codes that is the similarity; with them
        ``similarity (agreement + 0.002) / 1.002``, less where agreement is not known. After
        re-ranking it is what `vladkit.geometry.verification.rescore` makes of it and the inliers.
    similarity : float
        Cosine of the vectors, -1 to 1.
    verification : Verification or None
        For images that were matched in re-ranking: inliers, the transform from query to image,
        and the points that matched, in px of the original images.
    agreement : float or None
        Similarity of the match codes (`vladkit.ASMK`), 1 for the query image itself; None for
        images whose codes were not compared.
    query : int
        Number, from 0, of the query image that `verification` is of, where several were searched
        with together.
    mirrored : bool
        Whether the mirror image of the query was found (`mirrored` of a search). `verification` is
        in px of the query itself all the same.
    """

    image_id: int
    score: float
    similarity: float
    verification: Verification | None = None
    agreement: float | None = None
    query: int = 0
    mirrored: bool = False

    @property
    def inliers(self) -> int | None:
        """Number of matches that fit one geometry; None if this image was not matched."""
        return None if self.verification is None else self.verification.n_inliers

    @property
    def verified(self) -> bool | None:
        """Whether enough matches fit one geometry to show the same thing; None if not matched."""
        return None if self.verification is None else self.verification.verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit(Ranked):
    """Image that a search found: `Ranked`, and which file it is.

    Parameters
    ----------
    image_id, score, similarity, verification, agreement, query, mirrored
        See `Ranked`.
    path : str
        Its path when it was indexed, relative to the source where that is a folder.
    file : str
        Its file, absolute, where it is found now.

    Examples
    --------
    >>> hit = Hit(image_id=3, score=0.8, similarity=0.8, path="a.jpg", file="/photos/a.jpg")
    >>> hit.path, hit.inliers, hit.verified  # not matched: `Collection.search` with rerank=0
    ('a.jpg', None, None)
    """

    path: str
    file: str


def clearest(
    matched: Sequence[Mapping[int, Verification]],
) -> dict[int, tuple[int, Verification]]:
    """By image id the number of the query that most matches fit with, and its verification."""
    found: dict[int, tuple[int, Verification]] = {}
    for number, verifications in enumerate(matched):
        for image_id, verification in verifications.items():
            if image_id not in found or verification.n_inliers > found[image_id][1].n_inliers:
                found[image_id] = number, verification
    return found


def better(upright: Sequence[Ranked], mirrored: Sequence[Ranked]) -> list[Ranked]:
    """One ranking of two, each image by its better score; of equals as in the first."""
    if not upright:
        return list(mirrored)
    best = {each.image_id: each for each in upright}
    for each in mirrored:
        if each.image_id not in best or each.score > best[each.image_id].score:
            best[each.image_id] = each
    return sorted(best.values(), key=lambda each: -each.score)


def of_image_itself(ranked: Ranked, mirrored: Region | None) -> Ranked:
    """A result of the mirror image of a part of a query, in px of the query itself."""
    if mirrored is None:
        return ranked
    found = ranked.verification
    found = None if found is None else unmirrored(found, mirrored)
    return replace(ranked, verification=found, mirrored=True)
