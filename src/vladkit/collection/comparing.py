"""What compares many images of a collection: duplicates, pairs, and measuring how good it is."""

import os
from functools import partial

from vladkit.collection.assessing import Answer, Assessing
from vladkit.collection.duplicates import DuplicateGroup, Grouping
from vladkit.collection.indexing import Progress
from vladkit.collection.opened import Opened
from vladkit.collection.pairs import Pairing, Pairs
from vladkit.errors import (
    ParameterError,
)
from vladkit.evaluation.metrics import GroundTruth, Scores, mean_scores
from vladkit.geometry.verification import Model

__all__ = ["Comparing"]


class Comparing(Opened):
    """Work on all images, or on many queries."""

    def duplicates(
        self,
        *,
        flips: bool = False,
        candidates: int = 30,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> list[DuplicateGroup]:
        """Groups of images that show the same shot: copies that were altered.

        Resized, re-compressed, cropped, turned, written over, brightened: not the same scene taken
        again. Nothing is changed or deleted.

        Parameters
        ----------
        flips : bool
            Look for mirrored copies, too; takes about twice as long.
        candidates : int
            Images of the nearest vectors that each is compared with, feature by feature.
        n_jobs : int or None
            Threads; None is one for each core.
        progress : callable or None
            See `Progress`; its step is "duplicates".

        Returns
        -------
        list of DuplicateGroup
            By the path of their reference, the largest image of each.

        Raises
        ------
        ParameterError
            If the collection keeps no features, or `candidates` is less than 1.
        NothingToIndexError
            If it is empty.

        Notes
        -----
        Found from what the collection keeps; only copies are opened, to say how they differ. Takes
        O(n^2 D) for the candidates, and some 5 ms for each of ``n * candidates / 2`` comparisons.
        """
        self._describer.trained()
        step = None if progress is None else partial(progress, "duplicates")
        with self._store.reading():
            grouping = Grouping(
                self._store,
                self._describer,
                self._searching,
                candidates=candidates,
                flips=flips,
                n_jobs=n_jobs,
            )
            return grouping.run(step)

    def pairs(
        self,
        top: int = 20,
        *,
        rerank: int = 0,
        model: Model = "homography",
        min_score: float | None = None,
        sequential: int = 0,
        connected: bool = False,
        rotated: bool = False,
        root: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> Pairs:
        """Images worth matching with each other, for a reconstruction: each pair once.

        Parameters
        ----------
        top : int
            So many of the most similar others of each image; 0 for `sequential` alone. An image
            is in more pairs if more others chose it.
        rerank : int
            The first so many candidates of each image are matched with it feature by feature, as
            in `search`, and its `top` are the first in the order that comes of it; 0 does not.
        model : {"homography", "fundamental"}
            See `search`.
        min_score : float or None
            Pairs of less similarity of their vectors (cosine) are left out, and not matched.
        sequential : int
            The so many images that follow each one in its folder, too, in natural order of names:
            for videos and walks.
        connected : bool
            Where the pairs leave groups of images unconnected, add the `top` best pairs that
            leave each group, whatever their similarity, until all are one.
        rotated : bool
            Images may lie on their side or head relative to each other without an EXIF entry that
            says so: compare in all quarter turns. Four times the work; needs kept features.
        root : path or None
            The folder that names are relative to: where hloc or COLMAP look for images. None is the
            indexed folder, or the deepest that holds all images if several were indexed.
        n_jobs : int or None
            Threads that match; None is one for each core.
        progress : callable or None
            See `Progress`; its steps are "pairs", "match" and "join".

        Returns
        -------
        Pairs
            `Pairs.write` makes the file for hloc and COLMAP.

        Raises
        ------
        ParameterError
            If a value is out of range or does not fit the others, features are needed and none are
            kept, or an image is not below `root`.
        NothingToIndexError
            If the collection is empty.

        Notes
        -----
        O(n^2 D), in batches whose vectors and scores take 64 MB each, whatever n; an index made by
        `build_ann` is used instead if it is there. Matching takes some 5 ms a pair.
        """
        with self._store.reading():
            pairing = Pairing(
                self._store,
                self._describer,
                self._searching,
                root=root,
                model=model,
                rotated=rotated,
                n_jobs=n_jobs,
                progress=progress,
            )
            return pairing.run(
                top,
                rerank=rerank,
                min_score=min_score,
                sequential=sequential,
                connected=connected,
            )

    def evaluate(
        self,
        truth: GroundTruth,
        *,
        rerank: int = 0,
        model: Model = "homography",
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[Scores, list[str]]:
        """Scores of this collection for a ground truth, and remarks on what did not fit.

        Only images of the ground truth's database are ranked, whatever else is indexed.
        Every query is extracted from its file, as `search` does; where features were found by
        another program, an indexed query is taken as it is in the collection.

        Parameters
        ----------
        truth : GroundTruth
        rerank, model
            See `search`.
        n_jobs : int or None
            Threads that extract; None is one for each core.
        progress : callable or None
            See `Progress`.

        Raises
        ------
        NothingToIndexError
            If no image of the ground truth's database is indexed.
        ParameterError
            If `rerank` does not fit.
        """
        answers, remarks = self.assess(
            truth, top=0, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress
        )
        return mean_scores([answer.result for answer in answers]), remarks

    def assess(
        self,
        truth: GroundTruth,
        *,
        top: int = 10,
        rerank: int = 0,
        model: Model = "homography",
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[list[Answer], list[str]]:
        """What is found for each query of a ground truth, and remarks on what did not fit.

        As `evaluate`, query by query. Of a ranking its first images are kept, and the ranks of
        those that were to be found.

        Parameters
        ----------
        truth : GroundTruth
        top : int
            Of each ranking so many images are kept, junk and the query itself not counted.
        rerank, model, n_jobs, progress
            See `evaluate`.

        Raises
        ------
        NothingToIndexError
            If no image of the ground truth's database is indexed.
        ParameterError
            If `top` is negative, or `rerank` does not fit.
        """
        if top < 0:
            raise ParameterError(f"top={top}: give a number of images, 0 or more")
        step = None if progress is None else partial(progress, "queries")
        return Assessing(self._store, self._describer, self._searching).run(
            truth, top=top, rerank=rerank, model=model, n_jobs=n_jobs, progress=step
        )
