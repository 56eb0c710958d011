"""`Searching`: the images of a collection, ranked for query images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from vladkit.aggregation.query_expansion import alpha_query_expansion
from vladkit.collection.augmentation import Augmentation
from vladkit.collection.describer import Describer
from vladkit.core.arrays import AnyArray, Float32Array, FloatArray, Int64Array
from vladkit.errors import ParameterError
from vladkit.features import Features, match_rule
from vladkit.geometry.verification import MIN_INLIERS, Model, Verification, rescore, verify_all
from vladkit.store.ann import AnnIndex, open_ann
from vladkit.store.exact import best, error_bound, estimate_all, score_all
from vladkit.store.store import ImageRow, KeptFeatures, Store, file_of

__all__ = ["Hit", "Ranked", "Searching", "ann_path", "features_of"]

Float64Array: TypeAlias = npt.NDArray[np.float64]

_Float = TypeVar("_Float", np.float32, np.float64)

_ANN_TOP: Final = 100
"""An approximate index is asked for so many at most; longer rankings are exact."""

_CANDIDATES: Final = 50
"""So many at least are scored exactly: codes of 8 bits rank nearly as the vectors do."""

_POSSIBLE: Final = 1000
"""Images that are scored once more at most; where more are in question, all are."""

_TURNED: Final = 0.8
"""What a match of a turned query counts. At 1 mixed-up directions cost upright queries .025 mAP,
at 0 queries on their side lose .2; at .8 they lose .05, and upright ones .003."""

_ALPHA: Final = 1.0
"""Weight of a neighbour in an expanded query: its similarity to this power. With the paper's 3 the
small similarities of long vectors change nothing; with 0 wrong neighbours count in full."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that was found.

    Parameters
    ----------
    path : str
        As it was when indexed, relative to the source where that is a folder.
    score : float
        What the ranking goes by: the similarity, or after re-ranking what
        `vladkit.geometry.verification.rescore` makes of it and the inliers.
    file : str
        Where the image is now.
    similarity : float
        Cosine of the vectors, -1 to 1.
    verification : Verification or None
        After re-ranking, of the images that were matched: inliers, the transform from query to
        image, and the points that matched, in px of the original images.
    image_id : int
        Its key in the collection, as in `Collection.image`.
    """

    path: str
    score: float
    file: str
    similarity: float
    verification: Verification | None = None
    image_id: int = 0

    @property
    def inliers(self) -> int | None:
        """Matches that fit one geometry; None if this image was not matched."""
        return None if self.verification is None else self.verification.n_inliers


@dataclass(frozen=True, slots=True)
class Ranked:
    """An image in a ranking, before it is shown to anybody; fields as in `Hit`."""

    image_id: int
    score: float
    similarity: float
    verification: Verification | None = None


class Searching:
    """Searches one open collection."""

    def __init__(self, store: Store, describer: Describer) -> None:
        self._store = store
        self._describer = describer
        # for a state of the collection:
        self._ann: tuple[str, AnnIndex | None] = ("", None)
        self._augmentation: tuple[str, Augmentation | None] = ("", None)

    # -- by vectors -------------------------------------------------------------------

    def scores(self, query_qvD: Float32Array) -> tuple[Int64Array, Float64Array]:
        """(image_id_n, score_qn): similarity of each query to every image.

        The larger of the upright vector's cosine and `_TURNED` times the best turned one's, to six
        digits: what is closer together than that is in the order of the paths.
        """
        q, v, _ = query_qvD.shape
        image_id_n, score_mn = score_all(query_qvD.reshape(q * v, -1), self._blocks())
        augmentation = self.augmentation()
        if augmentation is not None:
            score_mn = augmentation.scores(image_id_n, score_mn)
        return image_id_n, _best_turn(score_mn.reshape(q, v, -1)).round(6)

    def nearest(self, query_qvD: Float32Array, top: int) -> list[list[Ranked]]:
        """The `top` images of highest score for each query, ties by id; 0 ranks all.

        Raises
        ------
        ParameterError
            If `top` is negative.
        """
        if top < 0:
            raise ParameterError(f"top={top}: give a number of images, or 0 for all")
        ann = self.ann() if 0 < top <= _ANN_TOP else None
        ids_q: list[list[int]] | None
        if ann is not None:
            ids_q = [_likely(query_vD, top, ann) for query_vD in query_qvD]
        elif top and len(query_qvD) == 1 and self.augmentation() is None:
            ids_q = self._possible(query_qvD, top)
        else:  # many queries: to score some vectors once more costs each its reading
            ids_q = None
        if ids_q is None:
            image_id_n, score_qn = self.scores(query_qvD)
            return [_ranked(image_id_n, score_n, top) for score_n in score_qn]
        return [self._rescored(*pair, top) for pair in zip(query_qvD, ids_q, strict=True)]

    def _possible(self, query_qvD: Float32Array, top: int) -> list[list[int]] | None:
        """Ids that are among the `top` of each query, whatever the estimate's error; None: many."""
        q, v, d = query_qvD.shape
        image_id_n, score_mn = estimate_all(query_qvD.reshape(q * v, d), self._blocks())
        if len(image_id_n) <= top:
            return None
        score_qn = _best_turn(score_mn.reshape(q, v, -1))
        limit_q = np.partition(score_qn, -top, axis=1)[:, -top]
        # The last of the true ones scores at least the limit less one bound, and to six digits.
        limit_q = limit_q - 2 * error_bound(d) - 1e-6
        inside_qn = score_qn >= limit_q[:, None]
        if inside_qn.sum(axis=1).max() > max(_POSSIBLE, 2 * top):
            return None
        return [image_id_n[inside_n].tolist() for inside_n in inside_qn]

    def _rescored(self, query_vD: Float32Array, ids: Sequence[int], top: int) -> list[Ranked]:
        """The `top` of some images, by their stored vectors."""
        vector_of = self._store.vectors(ids, self._describer.dtype, self._describer.n_dimensions)
        if not vector_of:
            return []
        image_id_n = np.array(list(vector_of), np.int64)
        vector_nD = np.stack(list(vector_of.values()))
        _, score_vn = score_all(query_vD, [(image_id_n, vector_nD)])
        return _ranked(image_id_n, _best_turn(score_vn[None])[0].round(6), top)

    def _blocks(self) -> Iterator[tuple[Int64Array, AnyArray]]:
        return self._store.vector_blocks(self._describer.dtype, self._describer.n_dimensions)

    def ann(self) -> AnnIndex | None:
        """The approximate index beside the collection, if there is one and it is up to date."""
        stamp = self._store.stamp()
        if self._ann[0] != stamp or self._ann[1] is None:
            self._ann = stamp, open_ann(ann_path(self._store.path), stamp)
        return self._ann[1]

    def augmentation(self) -> Augmentation | None:
        """What `Collection.augment` made, if it is up to date."""
        stamp = self._store.stamp()
        if self._augmentation[0] != stamp:
            self._augmentation = stamp, Augmentation.read(self._store)
        return self._augmentation[1]

    def neighbors(self, ranked: Sequence[Ranked], n: int) -> list[Ranked]:
        """The first `n`; of those that were matched only the verified."""
        first = ranked[:n]
        return [
            r for r in first if r.verification is None or r.verification.n_inliers >= MIN_INLIERS
        ]

    def expanded(self, query_vD: Float32Array, neighbors: Sequence[Ranked]) -> Float32Array:
        """The query (1, D) joined with its nearest images, in the turn that matches them best."""
        ids = [each.image_id for each in neighbors]
        d = self._describer.n_dimensions
        found = self._store.vectors(ids, self._describer.dtype, d)
        if not found:
            return query_vD[:1]
        neighbor_rD = np.stack([found[i] for i in ids if i in found]).astype(np.float32)
        _, similarity_vr = score_all(query_vD, [(np.arange(len(neighbor_rD)), neighbor_rD)])
        similarity_vr[1:] *= _TURNED
        query_D = query_vD[similarity_vr.max(axis=1).argmax()]
        return alpha_query_expansion(query_D[None], neighbor_rD[None], alpha=_ALPHA)

    def of_image(self, image_id: int) -> tuple[Float32Array, Features | None]:
        """An indexed image as a query: vectors (v, D), and what is kept of its features.

        Upright it is the stored vector; turned, where that matters, what the kept features give,
        or nothing if none are.
        """
        d = self._describer.n_dimensions
        stored_D = self._store.vectors([image_id], self._describer.dtype, d)[image_id]
        features = self.features([image_id]).get(image_id)
        if features is None:
            return stored_D[None].astype(np.float32), None
        query_vD = self._describer.query_vectors([features])[0]
        query_vD[0] = stored_D
        return query_vD, features

    # -- by geometry ------------------------------------------------------------------

    def reordered(
        self, features: Features, ranked: Sequence[Ranked], n: int, model: Model
    ) -> list[Ranked]:
        """The first `n` matched with the query and in the order of what came of it; then the rest.

        Scores still fall from the first to the last.

        Raises
        ------
        ParameterError
            If `n` is negative, the model does not exist, or the collection keeps no features.
        """
        if n < 0:
            raise ParameterError(f"rerank={n}: give a number of images, or 0 for none")
        self.check_keeps_features()
        head = list(ranked[:n])
        others = self.features([each.image_id for each in head])
        known = [each for each in head if each.image_id in others]
        rule = match_rule(self._describer.extractor)
        verified = verify_all(
            features,
            [others[each.image_id] for each in known],
            self._describer.extractor.metric,
            model=model,
            ratio=rule.ratio,
            min_cosine=rule.min_cosine,
        )
        by_id = {each.image_id: v for each, v in zip(known, verified, strict=True)}
        inliers_n = np.array(
            [by_id[each.image_id].n_inliers if each in known else 0 for each in head], np.int64
        )
        score_n = rescore(np.array([each.similarity for each in head]), inliers_n).round(6)
        matched = [
            Ranked(each.image_id, score, each.similarity, by_id.get(each.image_id))
            for each, score in zip(head, score_n.tolist(), strict=True)
        ]
        matched.sort(key=lambda each: -each.score)  # stable: equals stay in order
        return matched + list(ranked[n:])

    def check_keeps_features(self) -> None:
        """Raise ParameterError if there are no features to match with."""
        if not self._describer.recipe.keep_features:
            raise ParameterError(
                f"{self._describer.name} keeps no features to match with: index the images into "
                "another file (--keep-features 1000), or search without --rerank"
            )

    def features(self, image_ids: Sequence[int]) -> dict[int, Features]:
        """The kept features of some images, by id; those that have none are left out."""
        rows = self._store.images_by_id(image_ids)
        kept = self._store.features(list(rows))
        return {i: features_of(rows[i], each) for i, each in kept.items()}

    # -- for people -------------------------------------------------------------------

    def hits(self, ranked: Sequence[Ranked]) -> list[Hit]:
        """With paths; images of equal score in the order of these."""
        sources = self._store.sources()
        rows = self._store.images_by_id([each.image_id for each in ranked])
        hits = []
        for each in ranked:
            row = rows[each.image_id]
            file = file_of(row, sources)
            found = each.similarity, each.verification, each.image_id
            hits.append(Hit(row.path, each.score, file, *found))
        return sorted(hits, key=lambda hit: (-hit.score, hit.path, hit.file))


def ann_path(path: Path) -> Path:
    """Where the approximate index of a collection is."""
    return Path(f"{path}.ann")


def _likely(query_vD: Float32Array, top: int, ann: AnnIndex) -> list[int]:
    """Candidates of an approximate index for one query, the likeliest first."""
    n = max(_CANDIDATES, 3 * top)
    candidate_vn, score_vn = ann.search(query_vD, n)
    score_vn[1:] *= _TURNED
    likeliest = np.argsort(-score_vn, axis=None)
    return list(dict.fromkeys(candidate_vn.ravel()[likeliest].tolist()))[:n]


def _best_turn(score_qvn: npt.NDArray[_Float]) -> npt.NDArray[_Float]:
    """Scores (q, n) of the turn that is most similar."""
    score_qvn[:, 1:] *= _TURNED
    best_qn: npt.NDArray[_Float] = score_qvn.max(axis=1)
    return best_qn


def _ranked(image_id_n: Int64Array, score_n: FloatArray, top: int) -> list[Ranked]:
    chosen = best(score_n, top)
    pairs = zip(image_id_n[chosen].tolist(), score_n[chosen].tolist(), strict=True)
    return [Ranked(i, score, score) for i, score in pairs]


def features_of(row: ImageRow, kept: KeptFeatures) -> Features:
    """What the collection keeps of an image, as an extractor gives it."""
    xy_l2, (size_l, angle_l, score_l) = kept.geometry_l5[:, :2], kept.geometry_l5[:, 2:].T
    width, height = row.width or 1, row.height or 1
    return Features(kept.descriptor_lf, xy_l2, size_l, angle_l, score_l, width=width, height=height)
