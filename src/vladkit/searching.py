"""`Searching`: the pictures of a collection, ranked for query pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vladkit.axes import Float32Array, Int64Array
from vladkit.collection.ranking import best, score_all
from vladkit.collection.store import PictureRow, Source, Store, file_of
from vladkit.describe import Describer
from vladkit.errors import ParameterError

__all__ = ["Hit", "Searching"]

_TURNED: Final = 0.8
"""What a match of a turned query counts. At 1 mixed-up directions cost upright queries .025 mAP,
at 0 queries on their side lose .2; at .8 they lose .05, and upright ones .003."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that was found.

    ``path`` is as it was when indexed (relative to the source where that is a folder),
    ``score`` the cosine similarity of the vectors, -1 to 1, ``file`` where the picture is now.
    """

    path: str
    score: float
    file: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A picture in a ranking, before it is shown to anybody."""

    row: PictureRow
    score: float


class Searching:
    """Searches one open collection."""

    def __init__(self, store: Store, describer: Describer) -> None:
        self._store = store
        self._describer = describer

    def scores(self, query_qvD: Float32Array) -> tuple[Int64Array, Float32Array]:
        """(picture_id_n, score_qn): similarity of each query to every picture.

        The larger of the upright vector's cosine and `_TURNED` times the best turned one's.
        Rounded to six digits: beyond them it depends on the order of summation.
        """
        q, v, _ = query_qvD.shape
        blocks = self._store.vector_blocks(self._describer.dtype, self._describer.n_dimensions)
        picture_id_n, score_mn = score_all(query_qvD.reshape(q * v, -1), blocks)
        score_qvn = score_mn.reshape(q, v, -1)
        score_qvn[:, 1:] *= _TURNED
        return picture_id_n, score_qvn.max(axis=1).round(6)

    def rank(self, query_qvD: Float32Array, top: int) -> list[list[Ranked]]:
        """The best pictures for each query; pictures of equal score in the order of their path.

        Raises
        ------
        ParameterError
            If `top` is negative.
        """
        if top < 0:
            raise ParameterError(f"top={top}: give a number of pictures, or 0 for all")
        with self._store.reading():
            picture_id_n, score_qn = self.scores(query_qvD)
            ranked = []
            for score_n in score_qn:
                chosen = best(score_n, top)
                rows = self._store.pictures_by_id(picture_id_n[chosen].tolist())
                found = [Ranked(rows[int(picture_id_n[i])], float(score_n[i])) for i in chosen]
                found.sort(key=lambda each: (-each.score, each.row.path, each.row.source_id))
                ranked.append(found[:top] if top else found)
        return ranked

    def hits(self, ranked: Sequence[Ranked]) -> list[Hit]:
        """As they are shown."""
        sources: dict[int, Source] = self._store.sources()
        return [Hit(r.row.path, r.score, file_of(r.row, sources)) for r in ranked]
