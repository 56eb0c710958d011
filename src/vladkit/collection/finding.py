"""Searching a collection with an image."""

import os
from collections.abc import Sequence
from typing import Any

from vladkit.collection.opened import Opened
from vladkit.collection.searching import Hit
from vladkit.core.arrays import Float32Array, FloatArray, Int64Array
from vladkit.errors import (
    ImageError,
    ParameterError,
)
from vladkit.features import Features, match_rule
from vladkit.features.imported import Imported
from vladkit.features.pool import extract, extract_data
from vladkit.geometry.verification import Model, Verification, verify_all
from vladkit.images import Region

__all__ = ["Finding"]


class Finding(Opened):
    """Searches, and the steps that they are made of."""

    def search(
        self,
        image: str | os.PathLike[str],
        top: int = 10,
        *,
        region: Region | None = None,
        rerank: int = 0,
        model: Model = "homography",
        expand: int = 0,
    ) -> list[Hit]:
        """The images most similar to one image, the best first.

        Parameters
        ----------
        image : path
            Any image file; it need not be in the collection, and if it is, it is found like
            any other. Or, if there is no such file, the path of an image of the collection, as
            `images` lists it: see `search_image`. Where features were found by another
            program, an indexed image is always searched by those.
        top : int
            How many; 0 ranks all.
        region : Region or None
            Search by this part of the image only. What is matched is given in px of the whole
            image all the same.
        rerank : int
            So many of the first are matched with the query feature by feature, and come in the
            order of what fits one geometry (see `vladkit.geometry.verification`); 0 does not. No
            image is opened for it.
        model : {"homography", "fundamental"}
            That geometry.
        expand : int
            Search again with the mean of the query and so many of its nearest images; with
            `rerank` of those among them that were verified. 0 does not.

        Raises
        ------
        ImageError
            If the image cannot be used.
        NothingToIndexError
            If the collection is empty.
        ParameterError
            If a number is negative, `rerank` is asked for and no features are kept, or the region
            is outside of the image.
        """
        self._describer.trained()
        if rerank:
            self._searching.check_keeps_features()
        options: dict[str, Any] = {"rerank": rerank, "model": model, "expand": expand}
        if isinstance(self.extractor, Imported) or not os.path.lexists(image):
            row = self.find(image)
            if row is not None:
                return self.search_image(row.image_id, top, region=region, **options)
        return self.search_features(self.extract(image, region=region), top, **options)

    def search_image(
        self,
        image_id: int,
        top: int = 10,
        *,
        region: Region | None = None,
        rerank: int = 0,
        model: Model = "homography",
        expand: int = 0,
    ) -> list[Hit]:
        """`search` by an image of the collection, from what is kept of it; no file is opened.

        Turned queries, `rerank` and `region` need kept features, and take those: a part of an
        image is described by the strongest of all its features.

        Raises
        ------
        ParameterError
            As `search`; or if there is no such image, or no features are kept of it where they
            are needed.
        ImageError
            If no kept feature is in the region.
        """
        row = self.image(image_id)
        if row.skipped is not None:
            raise ParameterError(f"{row.path} has no vector: {row.skipped}")
        if region is not None:
            self._searching.check_keeps_features()
        query_vD, features = self._searching.of_image(image_id)
        if features is not None and region is not None:
            features = features.within(region)
            if not len(features):
                raise ImageError(f"no feature that is kept of {row.path} is in {region}")
            query_vD = self.query_vectors([features])[0]
        options: dict[str, Any] = {"rerank": rerank, "model": model, "expand": expand}
        return self._search(query_vD, features, top, **options)

    def extract(
        self, image: str | os.PathLike[str] | bytes, *, region: Region | None = None
    ) -> Features:
        """Features of an image, or of a part of it, as the collection's are found.

        Parameters
        ----------
        image : path or bytes
            An image file, or what is in one.
        region : Region or None

        Raises
        ------
        ImageError
            If the image cannot be used.
        ParameterError
            If the region is outside of the image.
        """
        if isinstance(image, bytes):
            return extract_data(self.extractor, image, region)
        return extract(self.extractor, os.fspath(image), region)

    def words(
        self,
        image: str | os.PathLike[str] | bytes | Features,
        *,
        region: Region | None = None,
        vocabulary: int = 0,
    ) -> tuple[Features, Int64Array]:
        """The features of an image, and the visual word that each is summed into.

        Parameters
        ----------
        image : path, bytes or Features
            An image, which need not be in the collection, as `extract` takes it; or features that
            are there already, such as `features_of` gives.
        region : Region or None
            Only this part of the image; not with features.
        vocabulary : int
            Which codebook, where there are several (``n_vocabularies``).

        Returns
        -------
        features : Features
        label_l : int64 array (l,)
            Rows of the codebook's centroids, 0 to k - 1; `vladkit.viz.draw_words` draws them.

        Raises
        ------
        ImageError
            If the image cannot be used.
        NothingToIndexError
            If the collection is empty: it has no codebook yet.
        ParameterError
            If there is no such codebook, or the region does not fit.
        """
        self._describer.trained()
        if isinstance(image, Features):
            if region is not None:
                raise ParameterError("features are given: extract them with that region instead")
            features = image
        else:
            features = self.extract(image, region=region)
        return features, self._describer.words(features, vocabulary)

    def search_features(
        self,
        features: Features,
        top: int = 10,
        *,
        rerank: int = 0,
        model: Model = "homography",
        expand: int = 0,
    ) -> list[Hit]:
        """`search` for an image, or a part of one, whose features are there already."""
        options: dict[str, Any] = {"rerank": rerank, "model": model, "expand": expand}
        return self._search(self.query_vectors([features])[0], features, top, **options)

    def _search(
        self,
        query_vD: Float32Array,
        features: Features | None,
        top: int,
        *,
        rerank: int,
        model: Model,
        expand: int,
    ) -> list[Hit]:
        for name, value in (("top", top), ("rerank", rerank), ("expand", expand)):
            if value < 0:
                raise ParameterError(f"{name}={value}: give a number of images, 0 or more")
        n = max(top, rerank, expand) if top else 0
        if rerank and features is None:
            raise ParameterError("rerank: no features are kept of the query")
        with self._store.reading():
            (ranked,) = self._searching.nearest(query_vD[None], n)
            if rerank and features is not None:
                ranked = self._searching.reordered(features, ranked, rerank, model)
            if expand:
                near = self._searching.neighbors(ranked, expand)
                query_1D = self._searching.expanded(query_vD, near)
                (ranked,) = self._searching.nearest(query_1D[None], n)
                if rerank and features is not None:
                    ranked = self._searching.reordered(features, ranked, rerank, model)
            hits = self._searching.hits(ranked)
        return hits[:top] if top else hits

    def verify(
        self, features: Features, image_id: int, *, model: Model = "homography"
    ) -> Verification:
        """Match a query with one image, feature by feature; see `vladkit.verify`.

        Raises
        ------
        ParameterError
            If there is no such image, or no features are kept of it.
        """
        self._searching.check_keeps_features()
        other = self.features_of(image_id)
        if other is None:
            row = self.image(image_id)
            raise ParameterError(f"no features are kept of {row.path}")
        rule = match_rule(self.extractor)
        return verify_all(
            features,
            [other],
            self.extractor.metric,
            model=model,
            ratio=rule.ratio,
            min_cosine=rule.min_cosine,
            n_jobs=1,
        )[0]

    def query_vectors(self, features: Sequence[Features]) -> Float32Array:
        """Vectors (q, v, D) of query images: upright and, where that matters, turned.

        v is 4, for quarter turns (of the features: nothing is extracted again), or 1 where an
        image and the image turned have the same vector anyway.
        """
        return self._describer.query_vectors(features)

    def rank(self, query_qvD: Float32Array, top: int = 10) -> list[list[Hit]]:
        """The best images for each query; images of equal score in the order of their path.

        Raises
        ------
        ParameterError
            If `top` is negative.
        """
        with self._store.reading():
            ranked = self._searching.nearest(query_qvD, top)
            hits = [self._searching.hits(each) for each in ranked]
        return [each[:top] if top else each for each in hits]

    def scores(self, query_qvD: Float32Array) -> tuple[Int64Array, FloatArray]:
        """(image_id_n, score_qn): similarity of each query to every image.

        The larger of the upright vector's cosine and .8 times the best turned one's, to six
        digits.
        """
        return self._searching.scores(query_qvD)
