"""`Searcher`: the images of a collection, ranked for query images."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Final, TypeAlias, TypeVar
from zlib import crc32

import numpy as np
import numpy.typing as npt

from vladkit.aggregation.query_expansion import alpha_query_expansion
from vladkit.collection.allowed import Allowed
from vladkit.collection.augmentation import Augmentation
from vladkit.collection.describer import Describer, Query
from vladkit.collection.kept_features import unpack_features
from vladkit.collection.ranked import Hit, Ranked, better, clearest, of_image_itself
from vladkit.collection.recoded import Recoded
from vladkit.collection.search_options import RERANK, SearchOptions, check_number
from vladkit.collection.where import Where
from vladkit.core.arrays import Float32Array, FloatArray, Int64Array
from vladkit.core.names import quoted
from vladkit.errors import DamageWarning, FileFormatError, ParameterError
from vladkit.features import Features, match_rule
from vladkit.geometry.ranked import verify_ranked
from vladkit.geometry.verification import Model, Verification, rescore, verify_all
from vladkit.store.ann import AnnIndex
from vladkit.store.exact import best, error_bound, estimate_all, score_all
from vladkit.store.protocol import Approximate, CollectionStore

__all__ = ["MOST", "SHORTLIST", "Searcher", "StaleQueryError", "by_vectors"]

Float64Array: TypeAlias = npt.NDArray[np.float64]

_Number = TypeVar("_Number", float, Float64Array)
_Float = TypeVar("_Float", np.float32, np.float64)

_ANN_TOP: Final = 1000
"""Longest ranking that an approximate index is asked for; longer ones are exact."""

_CANDIDATES: Final = 50
"""Fewest candidates that are scored exactly: codes of 8 bits rank nearly as the vectors do."""

_POSSIBLE: Final = 1000
"""Most images that are scored a second time; where more are in question, all are."""

_FEW: Final = 2000
"""Most images that a search is limited to which are read one by one, and scored exactly."""

_ALONE: Final = 8
"""Vectors that are read and scored with others in the time that one takes by itself."""

_ROTATED: Final = 0.8
"""Weight of a rotated query's score. At 1 mixed-up directions cost upright queries 0.025 mAP, at 0
queries on their side lose 0.2; at 0.8 they lose 0.05, and upright ones 0.003."""

SHORTLIST: Final = 500
"""Images that vectors find and codes rank."""

_BY_VECTORS: Final = 0.002
"""Agreement that is added to that of the codes: where no word is shared, vectors decide. Wrong
images have .001 to .003, three of four right ones more."""

_LEAST: Final = 0.001
"""Similarity that a lower one counts as, when it is multiplied by the evidence of inliers."""

MOST: Final = 1.1
"""Cosine that no two vectors have whose lengths are 1, within what float16 rounds."""

_ALPHA: Final = 1.0
"""Weight of a neighbour in an expanded query: its similarity to this power. With the paper's 3 the
small similarities of long vectors change nothing; with 0 wrong neighbours count in full."""


class StaleQueryError(Exception):
    """A query was made with what the collection had learned before it learned again."""


class Searcher:
    """Ranks the images of one open collection."""

    def __init__(self, store: CollectionStore, describer: Describer) -> None:
        self._store = store
        self._describer = describer
        # each for a state of the collection
        self._ann: tuple[str, Approximate | None] = ("", None)
        self._augmentation: tuple[object, Augmentation | None] = (None, None)
        self._allowed: tuple[object, Allowed] | None = None
        self._recoded: tuple[str, Recoded] = ("", Recoded())

    def search(
        self, queries: Sequence[Query], options: SearchOptions, allowed: Allowed | None = None
    ) -> list[Hit]:
        """Search by the vectors of queries, their match codes and, for re-ranking, features.

        Among all images, those that are `allowed`, or those of `options.where`.

        Several queries are images of one thing: see `together` for their rule. Those of mirror
        images are ranked by themselves, and an image has the better of its two scores.

        Raises
        ------
        ParameterError
            If features are needed, and a query or the collection has none.
        """
        if options.rerank and any(query.features is None for query in queries):
            raise ParameterError("rerank: no features are kept of the query")
        has_features = any(query.features is not None for query in queries)
        has_codes = any(query.codes is not None for query in queries)
        top, rerank = options.top, self.depth(options.rerank) if has_features else 0
        n = max(top, rerank, options.expand, SHORTLIST if has_codes else 0) if top else 0
        with self._store.reading():
            if self._store.learned() != self._describer.learned:
                raise StaleQueryError
            if options.where:
                allowed = self.allowed(options.where)
            ranked: list[Ranked] = []
            for mirrored in (False, True):
                some = [query for query in queries if (query.mirrored is not None) == mirrored]
                if some:
                    found = self._rank(some, options, n, rerank, allowed)
                    ranked = better(ranked, found)
            if 0 < top < len(ranked):  # with those of equal score, which are ordered by paths
                ranked = [each for each in ranked if each.score >= ranked[top - 1].score]
            hits = self.hits(ranked)
        return hits[:top] if top else hits

    def _rank(
        self,
        queries: Sequence[Query],
        options: SearchOptions,
        n: int,
        rerank: int,
        allowed: Allowed | None,
    ) -> list[Ranked]:
        """The first `n` for images of one thing, the first `rerank` of these matched."""
        matched: list[dict[int, Verification]] = [{} for _ in queries]
        has_codes = any(query.codes is not None for query in queries)

        def rank(views: Sequence[Float32Array]) -> list[Ranked]:
            ranked = self.nearest_together(views, n, allowed)
            if has_codes:
                ranked = self.by_codes(queries, self.settled(ranked, SHORTLIST))
            ranked = self.settled(ranked, rerank)
            if rerank:
                ids = [each.image_id for each in ranked[:rerank]]
                for query, known in zip(queries, matched, strict=True):
                    if query.features is not None:
                        new = [i for i in ids if i not in known]
                        self.match(query.features, new, options.model, known)
                ranked = self.by_inliers(ranked, rerank, clearest(matched))
            return ranked

        ranked = rank([query.vector_vD for query in queries])
        if options.expand:
            neighbors = self.neighbors(self.settled(ranked, options.expand), options.expand)
            if neighbors:
                ranked = rank([self.expanded(query.vector_vD, neighbors) for query in queries])
        return [of_image_itself(each, queries[each.query].mirrored) for each in ranked]

    # -- by vectors -------------------------------------------------------------------

    def scores(
        self, query_qvD: Float32Array, allowed: Allowed | None = None
    ) -> tuple[Int64Array, Float64Array]:
        """Similarity of each query to every image, or to those allowed: (image_id_n, score_qn).

        The larger of the upright vector's cosine and `_ROTATED` times the best rotated one's, to
        six digits: images that are closer together than that come in the order of their paths.
        """
        q, v, _ = query_qvD.shape
        augmentation = self.augmentation()
        blocks = self._store.vector_blocks()
        if allowed is not None and augmentation is None:  # which needs the scores of all
            blocks = allowed.blocks(blocks)
        query_mD = query_qvD.reshape(q * v, -1)
        image_id_n, score_mn = score_all(query_mD, blocks)
        score_mn = self.last_if_damaged(score_mn, query_mD)
        if augmentation is not None:
            score_mn = augmentation.scores(image_id_n, score_mn)
        image_id_n, score_mn = _only(allowed, image_id_n, score_mn)
        return image_id_n, _best_rotation(score_mn.reshape(q, v, -1)).round(6)

    def nearest(
        self, query_qvD: Float32Array, top: int, allowed: Allowed | None = None
    ) -> list[list[Ranked]]:
        """The `top` images of highest score for each query, and ties with the last; 0 ranks all.

        With `allowed`, of these only. Ties are in no order: see `settled`.

        Raises
        ------
        ParameterError
            If `top` is negative.
        """
        check_number("top", top)
        ids_q = self._candidates(query_qvD, top, allowed)
        if ids_q is None and top and len(query_qvD) == 1 and self.augmentation() is None:
            ids_q = self._possible(query_qvD, top, allowed)
        if ids_q is None:  # many queries: to score some vectors once more costs each its reading
            image_id_n, score_qn = self.scores(query_qvD, allowed)
            return [_ranked(image_id_n, score_n, top) for score_n in score_qn]
        return [self._rescored([q], ids, top) for q, ids in zip(query_qvD, ids_q, strict=True)]

    def nearest_together(
        self, views: Sequence[Float32Array], top: int, allowed: Allowed | None = None
    ) -> list[Ranked]:
        """The `top` images whose scores for several queries have the highest mean; 0 ranks all."""
        if len(views) == 1:
            return self.nearest(views[0][None], top, allowed)[0]
        ids_q = self._candidates(views, top, allowed)
        if ids_q is not None:
            return self._rescored(views, list(dict.fromkeys(chain(*ids_q))), top)
        image_id_n, score_qn = self.scores_of(views, allowed)
        return _ranked(image_id_n, score_qn.mean(axis=0).round(6), top)

    def scores_of(
        self, views: Sequence[Float32Array], allowed: Allowed | None = None
    ) -> tuple[Int64Array, Float64Array]:
        """`scores`, also where an indexed image without kept features has fewer views (v, D)."""
        if len({query_vD.shape for query_vD in views}) == 1:
            return self.scores(np.stack(views), allowed)
        scored = [self.scores(query_vD[None], allowed) for query_vD in views]
        return scored[0][0], np.concatenate([score_1n for _, score_1n in scored])

    def _candidates(
        self, views: Sequence[Float32Array] | Float32Array, top: int, allowed: Allowed | None
    ) -> list[list[int]] | None:
        """Ids of few images that are worth scoring, for each query; None where all are scored."""
        ann = self.ann() if 0 < top <= _ANN_TOP else None
        if allowed is not None and not isinstance(ann, AnnIndex):  # others look for all images
            ann = None
        if allowed is not None and len(allowed) <= _FEW and self.augmentation() is None:
            with_vectors = list(self._store.vectors(allowed.image_id_n.tolist()))
            return [with_vectors] * len(views)
        if ann is not None:
            return [_likely(query_vD, top, ann, allowed) for query_vD in views]
        return None

    def _of_no_image(self) -> FileFormatError:
        path = self._store.path
        return FileFormatError(
            f"{path} is damaged: it has a vector of no image: run vladkit check "
            f"{quoted(path)} --repair"
        )

    def last_if_damaged(
        self, score_mn: npt.NDArray[_Float], query_mD: Float32Array
    ) -> npt.NDArray[_Float]:
        """The scores, with -1 for vectors that are damaged: no other is as low, or NaN, or high.

        A query that is damaged itself has -1 everywhere, and says nothing of the others.
        """
        # no array as large as the scores, where all are fine
        if score_mn.size and not -MOST < score_mn.min() <= score_mn.max() < MOST:
            fine_mn = np.abs(score_mn) < MOST
            is_query_m = np.abs(np.einsum("md,md->m", query_mD, query_mD)) < MOST
            damaged_n = ~fine_mn[is_query_m].all(axis=0)
            n = max(int(damaged_n.sum()), int((~is_query_m).sum()))
            path = self._store.path
            warnings.warn(
                f"{path} is damaged: {n} of its vectors are no numbers, or too long, and rank "
                f"last: run vladkit check {quoted(path)} --repair",
                DamageWarning,
                stacklevel=2,
            )
            score_mn[:, damaged_n] = -1
            score_mn[~is_query_m] = -1
        return score_mn

    def _possible(
        self, query_qvD: Float32Array, top: int, allowed: Allowed | None
    ) -> list[list[int]] | None:
        """Ids that may be among the `top` of each query by estimated scores; None for many."""
        q, v, d = query_qvD.shape
        query_mD = query_qvD.reshape(q * v, d)
        blocks = self._store.vector_blocks()
        if allowed is not None:
            blocks = allowed.blocks(blocks)
        image_id_n, score_mn = estimate_all(query_mD, blocks)
        score_mn = self.last_if_damaged(score_mn, query_mD)
        image_id_n, score_mn = _only(allowed, image_id_n, score_mn)
        if len(image_id_n) <= top:
            return None
        score_qn = _best_rotation(score_mn.reshape(q, v, -1))
        limit_q = np.partition(score_qn, -top, axis=1)[:, -top]
        # The last of the true ones scores at least the limit less one bound, and to six digits.
        limit_q = limit_q - 2 * error_bound(d) - 1e-6
        inside_qn = score_qn >= limit_q[:, None]
        most = min(max(_POSSIBLE, 2 * top), len(image_id_n) // _ALONE)
        if inside_qn.sum(axis=1).max() > most:
            return None
        return [image_id_n[inside_n].tolist() for inside_n in inside_qn]

    def _rescored(
        self, views: Sequence[Float32Array], ids: Sequence[int], top: int
    ) -> list[Ranked]:
        """Rank some images by stored vectors, and the mean of the scores of several queries."""
        vector_of = self._store.vectors(ids)
        if len(vector_of) != len(ids):
            raise self._of_no_image()
        if not ids:
            return []
        image_id_n = np.array(list(vector_of), np.int64)
        vector_nD = np.stack(list(vector_of.values()))
        score_qn = []
        for query_vD in views:
            _, score_vn = score_all(query_vD, [(image_id_n, vector_nD)])
            score_vn = self.last_if_damaged(score_vn, query_vD)
            score_qn.append(_best_rotation(score_vn[None])[0].round(6))
        score_n = score_qn[0] if len(score_qn) == 1 else np.mean(score_qn, axis=0).round(6)
        return _ranked(image_id_n, score_n, top)

    def ann(self) -> Approximate | None:
        """Approximate index of the collection, if there is one and it is up to date."""
        stamp = self._store.stamp()
        if self._ann[0] != stamp or self._ann[1] is None:
            self._ann = stamp, self._store.ann()
        return self._ann[1]

    def augmentation(self) -> Augmentation | None:
        """Augmentation that `Collection.augment` made, if it is up to date."""
        state = self._store.state()  # not the stamp: it comes and goes while the vectors stay
        if self._augmentation[0] != state:
            self._augmentation = state, Augmentation.read(self._store)
        return self._augmentation[1]

    def state(self) -> str:
        """Name of all that an answer depends on: vectors, augmentation, index, paths of images."""
        about = self._store.about()
        made = about.get("augmentation"), self.ann() is not None, about.get("renamed")
        return f"{self._store.stamp()}:{crc32(json.dumps(made).encode()):08x}"

    def allowed(self, where: Where) -> Allowed:
        """Images that a search is limited to; found again only where something has changed."""
        key = where, self._store.state()
        if self._allowed is None or self._allowed[0] != key:
            skipped = [row.image_id for row in self._store.skipped()]
            ids = np.setdiff1d(where.ids(self._store), skipped, assume_unique=True)
            self._allowed = key, Allowed(ids)
        return self._allowed[1]

    def settled(self, ranked: Sequence[Ranked], n: int) -> list[Ranked]:
        """The ranking, with images that tie across place `n` in the order of their paths.

        The first `n` are the same then whatever order the store has them in.
        """
        ranked = list(ranked)
        if not 0 < n < len(ranked) or ranked[n - 1].score != ranked[n].score:
            return ranked
        score_n = -np.array([each.score for each in ranked])  # rises
        begin, end = (np.searchsorted(score_n, score_n[n], side) for side in ("left", "right"))
        rows = self._store.images_by_id([each.image_id for each in ranked[begin:end]])
        path_of = {image_id: (row.path, row.file) for image_id, row in rows.items()}
        ranked[begin:end] = sorted(
            ranked[begin:end], key=lambda each: path_of.get(each.image_id, ("", ""))
        )
        return ranked

    def neighbors(self, ranked: Sequence[Ranked], n: int) -> list[Ranked]:
        """The first `n`; of those that were matched only the verified."""
        return [each for each in ranked[:n] if each.verified is not False]

    def expanded(self, query_vD: Float32Array, neighbors: Sequence[Ranked]) -> Float32Array:
        """The query (1, D) joined with its nearest images, rotated as it matches them best."""
        ids = [each.image_id for each in neighbors]
        found = self._store.vectors(ids)
        if not found:
            return query_vD[:1]
        neighbor_rD = np.stack([found[i] for i in ids if i in found]).astype(np.float32)
        _, similarity_vr = score_all(query_vD, [(np.arange(len(neighbor_rD)), neighbor_rD)])
        similarity_vr[1:] *= _ROTATED
        query_D = query_vD[similarity_vr.max(axis=1).argmax()]
        return alpha_query_expansion(query_D[None], neighbor_rD[None], alpha=_ALPHA)

    def of_image(self, image_id: int) -> Query:
        """An indexed image as a query, with its kept features.

        Upright it is the stored vector; rotated, where that matters, what the kept features give,
        or nothing if none are kept.

        Raises
        ------
        ParameterError
            If the collection has no vector of that image.
        """
        stored_D = self._store.vectors([image_id]).get(image_id)
        if stored_D is None:
            raise ParameterError(f"{self._describer.name} has no vector of image {image_id}")
        if not np.isfinite(stored_D).all():
            name = self._describer.name
            raise FileFormatError(
                f"{name} is damaged: the vector of image {image_id} is no numbers: run vladkit "
                f"check {quoted(name)} --repair"
            )
        features = self.features([image_id]).get(image_id)
        if features is None:
            return self.of_codes(image_id, stored_D[None].astype(np.float32))
        return replace(self._describer.query(features, stored_D), of_kept=True)

    def of_codes(self, image_id: int, vector_vD: Float32Array) -> Query:
        """A query of vectors and of the codes that an indexed image has."""
        _, codes = self._store.codes([image_id])
        return Query(vector_vD, codes=codes, of_kept=image_id in self.recoded().image_ids)

    # -- by words ---------------------------------------------------------------------

    def by_codes(self, queries: Sequence[Query], ranked: Sequence[Ranked]) -> list[Ranked]:
        """The first `SHORTLIST` ordered by similarity and match codes together; then the rest.

        Scores fall from the first to the last. Of several queries the mean agreement counts.
        """
        queries = [query for query in queries if query.codes is not None]
        if not queries:
            return list(ranked)
        ids = [each.image_id for each in ranked[:SHORTLIST]]
        found = [self._agreements(query, ids) for query in queries]
        scored = []
        for each in ranked:
            known = [of[each.image_id] for of in found if each.image_id in of]
            agreement = sum(known) / len(queries) if known else None
            score = each.similarity * ((agreement or 0) + _BY_VECTORS) / (1 + _BY_VECTORS)
            scored.append(Ranked(each.image_id, round(score, 9), each.similarity, None, agreement))
        head = sorted(scored[:SHORTLIST], key=lambda each: -each.score)
        return head + scored[SHORTLIST:]

    def _agreements(self, query: Query, image_ids: Sequence[int]) -> dict[int, float]:
        """Similarity of a query's codes to those of some images, 1 for the same image."""
        ids, codes = self._store.codes(image_ids)
        asmk = self._describer.asmk
        if codes is None or asmk is None or query.codes is None or not query.own:
            return {}
        shapes = [(c.code_Nb.shape[1], c.angle_N is None) for c in (codes, query.codes)]
        if codes.n_words > len(asmk.centroids_) or shapes[0] != shapes[1]:
            path = self._store.path
            raise FileFormatError(
                f"{path} is damaged: codes of images are not those of its words: index the images "
                "into another file"
            )
        way = {"rotated": codes.angle_N is not None, "weight": _ROTATED, "n_jobs": 1}
        similarity_n = asmk._similarity(query.codes, codes, **way)[0] / query.own
        recoded = self.recoded()
        pairs = zip(ids, similarity_n.tolist(), strict=True)
        return {i: recoded.corrected(i, s, of_kept=query.of_kept) for i, s in pairs}

    def recoded(self) -> Recoded:
        """Images whose codes were made again, as the collection is now."""
        stamp = self._store.stamp()
        if self._recoded[0] != stamp:
            self._recoded = stamp, Recoded.read(self._store)
        return self._recoded[1]

    def own_agreement(self, image_id: int) -> float | None:
        """Agreement of an image's kept features with its own codes; None where it lacks them."""
        query = self.of_image(image_id)
        _, codes = self._store.codes([image_id])
        asmk = self._describer.asmk
        if query.features is None or codes is None or query.codes is None or not query.own:
            return None
        assert asmk is not None, "there are codes"
        return float(asmk._similarity(query.codes, codes, n_jobs=1)[0, 0]) / query.own

    # -- by geometry ------------------------------------------------------------------

    def reordered(
        self,
        features: Features,
        ranked: Sequence[Ranked],
        n: int,
        model: Model,
        matched: dict[int, Verification] | None = None,
    ) -> list[Ranked]:
        """The first `n` matched with the query and ordered by the outcome; then the rest.

        Scores still fall from the first to the last. `matched` holds, by image id, images that
        were matched with this query before, and takes those that are now.

        Raises
        ------
        ParameterError
            If `n` is negative, the model does not exist, or the collection keeps no features.
        """
        check_number("rerank", n)
        self.check_keeps_features()
        matched = {} if matched is None else matched
        ids = [each.image_id for each in ranked[:n]]
        self.match(features, [i for i in ids if i not in matched], model, matched)
        return self.by_inliers(ranked, n, clearest([matched]))

    def by_inliers(
        self, ranked: Sequence[Ranked], n: int, found: Mapping[int, tuple[int, Verification]]
    ) -> list[Ranked]:
        """The first `n` ordered by what was `found` with them, see `clearest`; then the rest."""
        head = list(ranked[:n])
        verified = [found.get(each.image_id, (0, None)) for each in head]
        inliers_n = np.array([v.n_inliers if v else 0 for _, v in verified], np.int64)
        base_n = np.array([each.score for each in head])
        score_n = rescore(base_n, inliers_n, least=self.least).round(9)
        reranked = [
            replace(each, score=score, verification=v, query=number)
            for each, score, (number, v) in zip(head, score_n.tolist(), verified, strict=True)
        ]
        reranked.sort(key=lambda each: -each.score)  # stable: equals stay in order
        return reranked + list(ranked[n:])

    def match(
        self,
        features: Features,
        image_ids: Sequence[int],
        model: Model,
        matched: dict[int, Verification],
    ) -> None:
        """Match a query with the images of a ranking, those that are told apart easily in part."""
        kept = self.features(image_ids)
        others = {i: kept[i] for i in image_ids if i in kept}
        rule = match_rule(self._describer.extractor)
        verified = verify_ranked(
            features,
            list(others.values()),
            self._describer.extractor.metric,
            model=model,
            ratio=rule.ratio,
            min_cosine=rule.min_cosine,
        )
        matched.update(zip(others, verified, strict=True))

    def verify(
        self,
        features: Features,
        others: Sequence[Features],
        model: Model,
        *,
        n_jobs: int | None = None,
    ) -> list[Verification]:
        """Match a query with other images, as the collection's features are matched."""
        rule = match_rule(self._describer.extractor)
        return verify_all(
            features,
            others,
            self._describer.extractor.metric,
            model=model,
            ratio=rule.ratio,
            min_cosine=rule.min_cosine,
            n_jobs=n_jobs,
        )

    def depth(self, rerank: int | None) -> int:
        """Number of first results to match; None is the usual, where features are kept.

        Raises
        ------
        ParameterError
            If there are none to match with, and a number is given.
        """
        if rerank is None:
            return RERANK if self._describer.recipe.keep_features else 0
        if rerank:
            self.check_keeps_features()
        return rerank

    @property
    def least(self) -> float:
        """Score that a lower one counts as, when inliers speak for an image."""
        return _LEAST if self._describer.asmk is None else by_vectors(_LEAST)

    def check_keeps_features(self) -> None:
        """Raise ParameterError if there are no features to match with."""
        if self._describer.recipe.is_alone:
            raise ParameterError(
                f"{self._describer.name} has one vector for an image and no local features, which "
                "this compares: index the images into another file with both (--features sift "
                "--vectors ...)"
            )
        if not self._describer.recipe.keep_features:
            raise ParameterError(
                f"{self._describer.name} keeps no features to match with: index the images into "
                "another file (--keep-features 1000), or search without --rerank"
            )

    def features(self, image_ids: Sequence[int]) -> dict[int, Features]:
        """Kept features of some images by id; those that have none are left out."""
        kept = self._store.features(image_ids)
        if self._describer.quantizer is None and any(each.is_coded for each in kept.values()):
            # another process has learned it since
            self._describer.restore({}, self._store.arrays("kept.*"))
        return {i: unpack_features(each, self._describer.quantizer) for i, each in kept.items()}

    # -- for people -------------------------------------------------------------------

    def hits(self, ranked: Sequence[Ranked]) -> list[Hit]:
        """The images with their paths; those of equal score in the order of these."""
        rows = self._store.images_by_id([each.image_id for each in ranked])
        hits = []
        for each in ranked:
            row = rows.get(each.image_id)
            if row is None:
                raise self._of_no_image()
            values = {field.name: getattr(each, field.name) for field in fields(Ranked)}
            hits.append(Hit(**values, path=row.path, file=row.file))
        return sorted(hits, key=lambda hit: (-hit.score, hit.path, hit.file))


def by_vectors(similarity: _Number) -> _Number:
    """Score of images whose match codes have nothing in common with the query's."""
    return similarity * (_BY_VECTORS / (1 + _BY_VECTORS))


def _only(
    allowed: Allowed | None, image_id_n: Int64Array, score_mn: npt.NDArray[_Float]
) -> tuple[Int64Array, npt.NDArray[_Float]]:
    """Ids and scores of the images that are allowed."""
    if allowed is None:
        return image_id_n, score_mn
    allowed_n = allowed.of(image_id_n)
    if allowed_n.all():
        return image_id_n, score_mn
    return image_id_n[allowed_n], score_mn[:, allowed_n]


def _likely(
    query_vD: Float32Array, top: int, ann: Approximate, allowed: Allowed | None
) -> list[int]:
    """Candidates of an approximate index for one query, the likeliest first."""
    n = max(_CANDIDATES, min(3 * top, top + 200))
    if allowed is not None and isinstance(ann, AnnIndex):
        candidate_vn, score_vn = ann.search(query_vD, n, allowed.image_id_n)
    else:
        candidate_vn, score_vn = ann.search(query_vD, n)
    score_vn[1:] *= _ROTATED
    likeliest = np.argsort(-score_vn, axis=None)
    found = dict.fromkeys(candidate_vn.ravel()[likeliest].tolist())
    return [i for i in found if i >= 0][:n]  # -1: no more were found


def _best_rotation(score_qvn: npt.NDArray[_Float]) -> npt.NDArray[_Float]:
    """Scores (q, n) of the rotation that is most similar."""
    score_qvn[:, 1:] *= _ROTATED
    best_qn: npt.NDArray[_Float] = score_qvn.max(axis=1)
    return best_qn


def _ranked(image_id_n: Int64Array, score_n: FloatArray, top: int) -> list[Ranked]:
    chosen = best(score_n, top)
    pairs = zip(image_id_n[chosen].tolist(), score_n[chosen].tolist(), strict=True)
    return [Ranked(i, score, score) for i, score in pairs]
