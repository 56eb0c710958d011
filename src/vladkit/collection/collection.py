"""`Collection`: images in, ranked images out. The work is done by the other modules here.

Those that a search has no use for are imported where they are used: it would wait 30 ms for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from vladkit.collection.add_report import AddReport, Progress
from vladkit.collection.describer import Codebook
from vladkit.collection.index import Index
from vladkit.collection.query import (
    QueryImage,
    QueryImages,
    extract_query,
    extracted_ahead,
    features_from,
    mirror_of,
    queries_of,
)
from vladkit.collection.ranked import Hit
from vladkit.collection.recipe import Recipe
from vladkit.collection.search_options import SearchOptions
from vladkit.collection.searching import StaleQueryError
from vladkit.collection.where import Where
from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.core.files import as_paths
from vladkit.core.params import Interval
from vladkit.core.remote import is_url
from vladkit.core.settings import one_blas_thread
from vladkit.errors import ImageError, ParameterError
from vladkit.features import Extractor, Features
from vladkit.geometry.mirrored import unmirrored
from vladkit.geometry.verification import Model, Verification
from vladkit.images.exif import UNKNOWN, Photo
from vladkit.images.forms import InMemory, is_in_memory
from vladkit.images.region import RegionLike, as_region
from vladkit.kernels.loading import as_one_call
from vladkit.store.opening import check_store
from vladkit.store.paths import find_image, ids_below
from vladkit.store.photos import photos
from vladkit.store.rows import ImageRow
from vladkit.store.store import Store

if TYPE_CHECKING:
    from vladkit.collection.duplicates import DuplicateGroup
    from vladkit.collection.evaluation import Answer
    from vladkit.collection.learn_codebook import CodebookReport
    from vladkit.collection.localize import Localization
    from vladkit.collection.merge import MergeReport
    from vladkit.collection.pair_list import Names, Pairs
    from vladkit.collection.positions import Positions
    from vladkit.collection.sample import Shard
    from vladkit.collection.sfm_model import SfmModel
    from vladkit.evaluation.benchmark import Benchmark, Outcome
    from vladkit.store.ann import AnnReport
    from vladkit.store.check import Finding
    from vladkit.store.postgres.export import PostgresExport
    from vladkit.store.relocate import Relocation

__all__ = ["AddReport", "Collection", "Hit", "Progress"]


class Collection:
    """Images with their vectors in one file, to be searched with an image.

    Make one with `create`, open it with `open`; use it as a context manager or `close` it.

    Attributes
    ----------
    index : Index
        The open file with what makes and ranks its vectors, for other modules of vladkit.

    Notes
    -----
    What methods have in common: ``n_jobs`` is a number of threads, None one for each core;
    ``progress`` a callable, see `Progress`. `ParameterError` is raised for an option out of range,
    `NothingToIndexError` where images are needed and none is in, and `StorageError` where the file
    cannot be read or written; a method that was to change it then leaves it as it was.

    Examples
    --------
    >>> import tempfile, cv2, numpy as np
    >>> temporary = tempfile.TemporaryDirectory()
    >>> folder = temporary.name
    >>> rng = np.random.default_rng(0)
    >>> for i in range(3):
    ...     _ = cv2.imwrite(f"{folder}/{i}.png", rng.integers(0, 256, (96, 96), dtype=np.uint8))
    >>> with Collection.create(f"{folder}/all.vlad", n_clusters=8) as collection:
    ...     report = collection.add([folder])
    ...     hits = collection.search(f"{folder}/1.png", top=2)
    >>> report.indexed, hits[0].path, round(hits[0].similarity, 2)
    (3, '1.png', 1.0)
    >>> temporary.cleanup()
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self._store = index.store
        self._describer = index.describer
        self._searcher = index.searcher

    # -- opening ----------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        recipe: Recipe | None = None,
        *,
        codebook: str | os.PathLike[str] | None = None,
        device: str | None = None,
        batch: int | None = None,
        **fields: Any,
    ) -> Self:
        """Make a collection file, or open the one that is there.

        Parameters
        ----------
        path : path
        recipe : Recipe or None
            Recipe of the vectors, if it was made already; None makes one of the fields.
        codebook : path or None
            File that `learn` wrote: recipe and codebook are those, and nothing is learned again.
        device : {"cpu", "cuda", "coreml", "directml", "openvino", "auto"} or None
            Device that networks run on while the collection is open; "auto" takes the first that
            is there, which ``extractor.device`` then names. None is the CPU. The file does not
            depend on it, but vectors differ in their last digits (docs/how-to/networks.md).
        batch : int or None
            Images that a network is given at a time; None is 1 on the CPU, 8 elsewhere.
        **fields
            Fields of `Recipe` that are chosen, and compared where a collection is there.

        Raises
        ------
        RecipeMismatchError
            If a collection is there, or a codebook given, that was made with other values than
            those given, or the collection has another codebook.
        FileFormatError
            If there is another kind of file at `path`; it is left as it is.
        """
        return cls(Index.create(path, fields, recipe, codebook, device=device, batch=batch))

    @staticmethod
    def learn(
        target: str | os.PathLike[str],
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        recipe: Recipe | None = None,
        *,
        n_jobs: int | None = None,
        progress: Progress | None = None,
        **fields: Any,
    ) -> CodebookReport:
        """Learn from a sample of images what collections of them need, and write it to one file.

        Collections that are made with this file can be searched as one: merge them.

        Parameters
        ----------
        target : path
            .npz file to write, without pickle; it replaces an older one when all went well.
        sources : path or iterable of path
            As in `add`; up to 2,048 images of them are read, those with the smallest hash of seed
            and path.
        recipe : Recipe or None
            None makes one of the fields.
        **fields
            Fields of `Recipe`.

        Raises
        ------
        NothingToIndexError
            If a source does not exist, or no image can be used.
        StorageError
            If the file cannot be written.

        Examples
        --------
        >>> import tempfile, cv2, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     words = f"{folder}/words.npz"
        ...     for i in range(4):
        ...         image = rng.integers(0, 256, (96, 96), dtype=np.uint8)
        ...         _ = cv2.imwrite(f"{folder}/{i}.png", image)
        ...     learned = Collection.learn(words, folder, n_clusters=8)
        ...     n = []
        ...     for i in (1, 2):
        ...         with Collection.create(f"{folder}/{i}.vlad", codebook=words) as collection:
        ...             n.append(collection.add(folder, shard=(i, 2)).indexed)
        >>> learned.images, learned.clusters, sum(n)
        (4, 8, 4)
        """
        from vladkit.collection.learn_codebook import learn_codebook

        made = Recipe.make(fields) if recipe is None else recipe
        return learn_codebook(target, as_paths(sources), made, n_jobs=n_jobs, progress=progress)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        trust: bool = False,
        device: str | None = None,
        batch: int | None = None,
    ) -> Self:
        """Open a collection; with `read_only` also one that may not be written.

        Parameters
        ----------
        path : path
            File; or with `read_only` the URL of a collection that `export_postgres` wrote,
            ``postgresql://USER@HOST/DATABASE?schema=NAME``, which can only be searched.
        read_only : bool
        trust : bool
            Show images of all folders, and run the network, that the file names. Otherwise only
            what this user indexed with is used: the file may be somebody else's.
        device, batch : str, int or None
            See `create`.

        Raises
        ------
        FileFormatError
            If there is no collection at `path`, or one of another format version.
        """
        return cls(Index.open(path, read_only=read_only, trust=trust, device=device, batch=batch))

    @staticmethod
    def merge(
        target: str | os.PathLike[str],
        files: Iterable[str | os.PathLike[str]],
        *,
        progress: Progress | None = None,
    ) -> MergeReport:
        """Merge collections that were made with one codebook, such as shards, into a new file.

        It is equal, row for row, to what one process makes of all images with that codebook. An
        augmentation and an approximate index are not merged: make them again.

        Parameters
        ----------
        target : path
            File to make; it is there when all went well, and not before.
        files : iterable of path
            Collections; they stay as they are. An image that several of them have is kept once, as
            it is in the file that has the latest change of it.

        Raises
        ------
        RecipeMismatchError
            If a file has another recipe or codebook than the first.
        FileFormatError
            If a file is no collection, or damaged.
        StorageError
            If there is something at `target`, or it cannot be written.

        Examples
        --------
        >>> import tempfile, cv2, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for i in range(4):
        ...         image = rng.integers(0, 256, (96, 96), dtype=np.uint8)
        ...         _ = cv2.imwrite(f"{folder}/{i}.png", image)
        ...     _ = Collection.learn(f"{folder}/words.npz", folder, n_clusters=8)
        ...     for i in (1, 2):
        ...         path = f"{folder}/{i}.vlad"
        ...         with Collection.create(path, codebook=f"{folder}/words.npz") as collection:
        ...             _ = collection.add(folder, shard=(i, 2))
        ...     files = [f"{folder}/1.vlad", f"{folder}/2.vlad"]
        ...     report = Collection.merge(f"{folder}/all.vlad", files)
        >>> report.files, report.images, report.twice
        (2, 4, 0)
        """
        from vladkit.collection.merge import merge

        return merge(target, as_paths(files), progress=progress)

    def close(self) -> None:
        """Close the file."""
        self.index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- contents ---------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of images that have a vector."""
        return self._store.count()[0]

    def __reduce__(self) -> NoReturn:
        raise ParameterError(
            f"{self.path} is open in this process, and cannot be pickled or copied as an object: "
            "send the path, and open it there"
        )

    def __repr__(self) -> str:
        try:
            n = f"{len(self)} images"
        except OSError:  # closed, or the file is damaged
            n = "closed"
        return f"Collection({os.fspath(self.path)!r}, {n})"

    @property
    def path(self) -> Path:
        """Path of the file, absolute."""
        return self._store.path

    @property
    def recipe(self) -> Recipe:
        """Recipe of the vectors."""
        return self._describer.recipe

    @property
    def extractor(self) -> Extractor:
        """Extractor of the images' features."""
        return self._describer.extractor

    @property
    def vlad(self) -> Codebook | None:
        """Fitted estimator; None before the first image is in."""
        return self._describer.vlad

    @property
    def n_dimensions(self) -> int:
        """Number of dimensions of a vector, D."""
        return self._describer.n_dimensions

    def stamp(self) -> str:
        """Name of the state that the vectors are in; caches with another stamp are stale."""
        return self._store.stamp()

    def info(self) -> dict[str, Any]:
        """Size, sources, recipe and versions, JSON-able."""
        self.index.refresh()
        return self.index.info()

    def images(self) -> Iterator[ImageRow]:
        """Images that have a vector, by source and path."""
        return self._store.indexed()

    def skipped(self) -> Iterator[ImageRow]:
        """Images that have no vector, each with the reason, by source and path."""
        return self._store.skipped()

    def vectors(self) -> tuple[Int64Array, AnyArray]:
        """All vectors, in memory; `export` writes them without.

        Returns
        -------
        image_id_n : int64 array (n,)
            Keys of the images, see `image`.
        vector_nD : array (n, D)
            Vectors of unit length, float16 or float32 as the recipe's dtype.
        """
        self.index.refresh()
        self.index.check_ready()
        return self._store.all_vectors()

    def folders_to_show(self) -> list[str] | None:
        """Folders, without links, whose images may be shown; None for all.

        Those that this user indexed, unless the collection was opened with ``trust``.
        """
        return None if self.index.trust else self._store.own_folders()

    def lost_folders(self) -> list[str]:
        """Folders of images that are not there; see `relocate`."""
        folders = [each.folder for each in self._store.sources().values()]
        return [each for each in folders if not is_url(each) and not os.path.exists(each)]

    def strangers(self, *, images: bool = True) -> list[str]:
        """Network, and with `images` folders, that the file names and this user did not give."""
        found = self.index.strange_networks()
        if images:
            sources = self._store.sources().values()
            found += [each.folder for each in sources if not each.is_own]
        return found

    def page(
        self, offset: int = 0, limit: int = 100, *, contains: str = "", skipped: bool = False
    ) -> tuple[int, list[ImageRow]]:
        """Number of images, and `limit` of them from `offset` on, by source and path.

        Only those whose path contains a text (upper and lower case of ASCII are equal, and letters
        with accents however they are spelled); those that have a vector, or with `skipped` those
        that have none.
        """
        if not all(each in Interval(int, 0, 2**63 - 1) for each in (offset, limit)):
            raise ParameterError(f"offset={offset!r}, limit={limit!r}: give numbers from 0")
        return self._store.page(offset, limit, contains, skipped=skipped)

    def image(self, image_id: int) -> ImageRow:
        """One image by the key that `Hit` and `images` give; ParameterError without one."""
        is_key = image_id in Interval(int, 0, 2**63 - 1)
        row = self._store.images_by_id([image_id]).get(image_id) if is_key else None
        if row is None:
            raise ParameterError(f"{self.path} has no image {image_id!r:.100}")
        return row

    def find(self, name: str | os.PathLike[str]) -> ImageRow | None:
        """Find the image of that path, as it was indexed, or of that file; None without one.

        ParameterError if several sources have an image of that path.
        """
        return find_image(self._store, name)

    def photo(self, image_id: int) -> Photo:
        """When and where an image was taken, and by which camera; see `vladkit.images.Photo`."""
        return photos(self._store, [image_id]).get(image_id, UNKNOWN)

    def features_of(self, image_id: int) -> Features | None:
        """Kept features of an image, the strongest first; None if none are kept.

        See `Recipe.keep_features`; for all of them extract the image again.
        """
        self.index.refresh()
        return self._searcher.features([image_id]).get(image_id)

    # -- adding and removing ----------------------------------------------------------

    def add(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Mapping[str, InMemory],
        *,
        prune: bool = False,
        images: str | os.PathLike[str] | None = None,
        force: bool = False,
        shard: Shard | None = None,
        n_jobs: int | None = None,
        executor: Any = None,
        vectors: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Index the new and changed images of folders and files.

        Parameters
        ----------
        sources : path or iterable of path
            Folders are searched with their subfolders. Or features that another program found
            (``colmap:database.db``, ...), if the collection was made with the recipe of
            `vladkit.collection.import_recipe.recipe_for`.

            Or a mapping of names to images in memory, in the forms that `search` takes: they are
            indexed as if they were files of that path, which need not be there. Then they are
            found, compared and matched by what is kept of them, but not shown. Names that are
            given again with the same image are unchanged.
        prune : bool
            Forget images below the given folders whose file is gone.
        images : path or None
            Folder of the images whose features are given; searching does not need them.
        force : bool
            Do what looks like a mistake: forget most images of a folder, or index images once more
            whose folder seems to have moved (see `relocate`).
        shard : (int, int) or None
            ``(i, n)``: only every image whose hash of seed and path is that of shard i, from 1, of
            n. Each image is in one of them, whatever the others are. The collection was made with
            a `codebook`.
        executor : object or None
            Workers read and describe the images, and this process commits what they give back: an
            executor of `concurrent.futures`, a ``distributed.Client``, or whatever has their
            ``submit``. They see the images at the same paths. What is learned first is learned
            here, from a sample, by `n_jobs` threads. All rows are equal to those without
            (docs/how-to/scale.md). None uses threads.
        vectors : str or None
            ``hloc:global.h5`` with the vectors of the images, by their paths, for a collection
            that was made with such vectors beside local features. Images that it lacks are skipped.

        Raises
        ------
        NothingToIndexError
            If a source does not exist, or there is no image that can be used at all; or, without
            `force`, for what looks like a mistake.
        RecipeMismatchError
            If the features given are not of the kind that the collection holds.
        WorkerError
            If workers end before they have an image in hand.
        """
        from vladkit.collection.indexing import Indexer

        self.index.refresh()
        held = sources if isinstance(sources, Mapping) else None
        return Indexer(self.index).add(
            as_paths(sources) if held is None else [],
            held,
            prune=prune,
            images=images,
            force=force,
            shard=shard,
            n_jobs=n_jobs,
            executor=executor,
            vectors=vectors,
            progress=progress,
        )

    def remove(self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> int:
        """Forget images; the files stay where they are.

        One path or several: those that images were indexed by, or files; a folder stands for all
        that is below it. Returns the number of images that were forgotten: none, with a
        ParameterError, if one of the paths is not in the collection.
        """
        with self._store.writing():
            ids = ids_below(self._store, as_paths(paths))
            self._store.delete(ids)
        return len(ids)

    def relocate(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> Relocation:
        """Say that images have moved, with their folder, to another place; none is read again.

        Where the images are in the collection a second time, because their new folder was indexed
        too, each is in it once afterwards.

        Parameters
        ----------
        old : path
            Folder that was indexed, or one above: all that were below it move.
        new : path
            Where it is now.

        Raises
        ------
        ParameterError
            If nothing was indexed in `old`.
        NothingToIndexError
            If `new` is not a folder, or holds none of the images. Nothing is changed then.
        """
        from vladkit.store.relocate import relocate

        return relocate(self._store, old, new)

    # -- searching --------------------------------------------------------------------

    def search(
        self,
        image: QueryImages,
        top: int = 10,
        *,
        region: RegionLike = None,
        rerank: int | None = None,
        model: Model = "homography",
        expand: int = 0,
        where: Where | None = None,
        together: bool = False,
        mirrored: bool = False,
    ) -> list[Hit]:
        """The images most similar to one image, the best first.

        Parameters
        ----------
        image : path, bytes, open file, array, Pillow's Image, Features or ImageRow
            Any image; it need not be in the collection, and if it is, it is found like any other.
            An array holds uint8 pixels, gray (y, x) or RGB (y, x, 3); a file is open with mode
            "rb"; Features are searched by without an image. If there is no file at a path, it may
            be the path of an image of the collection, as `images` lists it. Such an image, and one
            that is given as its row, is searched by what the collection keeps of it: no file is
            opened, and `rerank`, `region` and rotated queries use the kept features. Where features
            were found by another program, an indexed image is always searched by those.
            With `together` a list of such: images of one thing, which give one ranking.
        top, rerank, expand, model, together, mirrored
            See `SearchOptions`.
        region : Region, (left, top, width, height) or None
            Part of the image, or of each, to search by, in px; not with features.
        where : Where or None
            Folder, time or place that the images are of which are ranked, such as
            ``Where(under="trip", after="2024-05", near=(48.2, 16.37, 5))``; None ranks all.

        Raises
        ------
        ImageError
            If the image cannot be used, or no kept feature is in the region.
        ParameterError
            If an option is out of range, `rerank` needs features and none are kept, the region
            is outside of the image, or the image is of another kind.

        Notes
        -----
        Among others, several images of one thing find more than each alone, and mirror images are
        not found without `mirrored`: docs/results/quality.md has figures of both.
        """
        options = SearchOptions(
            top,
            rerank=rerank,
            expand=expand,
            model=model,
            region=region,
            where=where,
            together=together,
            mirrored=mirrored,
        )
        return self._found(image, options)

    def search_many(
        self,
        images: Iterable[QueryImage | Features | ImageRow],
        top: int = 10,
        *,
        region: RegionLike = None,
        rerank: int | None = None,
        model: Model = "homography",
        expand: int = 0,
        where: Where | None = None,
        mirrored: bool = False,
        n_jobs: int | None = None,
    ) -> Iterator[list[Hit] | ImageError]:
        """The images most similar to each of many, one ranking after the other.

        The same as `search` with each image, but features are extracted on `n_jobs` threads while
        others are ranked.

        Parameters
        ----------
        images : iterable
            Images as `search` takes one.
        top, region, rerank, model, expand, where, mirrored
            See `search`.

        Yields
        ------
        list of Hit, or ImageError
            Ranking of each image in order; the error of an image that cannot be used, or not with
            these options: a region that is outside of it, a name that two folders have.

        Raises
        ------
        ParameterError
            If an option is out of range, or `images` is a single one: at once. As `search` where
            there is one image only.

        """
        options = SearchOptions(
            top,
            rerank=rerank,
            expand=expand,
            model=model,
            region=region,
            where=where,
            mirrored=mirrored,
        )
        is_one = isinstance(images, Features | ImageRow | os.PathLike | str) or is_in_memory(images)
        if is_one or not isinstance(images, Iterable):
            raise ParameterError(
                f"images is one {type(images).__name__}: give a list of images, or use search"
            )
        return self._found_ahead(list(images), options, n_jobs)

    def _found_ahead(
        self,
        images: Sequence[QueryImage | Features | ImageRow],
        options: SearchOptions,
        n_jobs: int | None,
    ) -> Iterator[list[Hit] | ImageError]:
        self.index.refresh()
        with extracted_ahead(self.index, images, options, n_jobs) as results:
            for image, result in zip(images, results, strict=True):
                if isinstance(result, ImageError):
                    yield result
                    continue
                try:
                    hits: list[Hit] | ImageError = self._found(image, options, result)
                except ImageError as error:
                    hits = error
                except ParameterError as error:
                    if len(images) == 1:
                        raise
                    hits = ImageError(str(error))  # it holds of this image: options were checked
                yield hits

    def _found(
        self, image: QueryImages, options: SearchOptions, features: Features | None = None
    ) -> list[Hit]:
        while True:
            self.index.refresh()
            # stale: it has learned just now
            with suppress(StaleQueryError), as_one_call(), one_blas_thread():
                queries = queries_of(self.index, image, options, features)
                return self._searcher.search(queries, options)

    def extract(self, image: QueryImage, *, region: RegionLike = None) -> Features:
        """Extract the features of an image, or of a part of it, as those of the collection were.

        Parameters and errors are those of `search`.
        """
        return extract_query(self.extractor, image, as_region(region))

    def words(
        self, image: QueryImage | Features, *, region: RegionLike = None, vocabulary: int = 0
    ) -> tuple[Features, Int64Array]:
        """The features of an image, and the visual word that each is summed into.

        Parameters
        ----------
        image, region
            See `search`.
        vocabulary : int
            Number of the codebook, from 0, where there are several (``n_vocabularies``).

        Returns
        -------
        features : Features
        label_l : int64 array (l,)
            Rows of the codebook's centroids, 0 to k - 1; `vladkit.viz.draw_words` draws them.
        """
        self.index.refresh()
        self.index.check_ready()
        features = features_from(self.extractor, image, as_region(region))
        return features, self._describer.words(features, vocabulary)

    def verify(
        self,
        image: QueryImage | Features,
        image_id: int,
        *,
        region: RegionLike = None,
        model: Model = "homography",
        mirrored: bool = False,
    ) -> Verification:
        """Match a query with one image, feature by feature; see `vladkit.verify`.

        Parameters
        ----------
        image, region, model
            See `search`.
        image_id : int
            Key of the image, as `Hit` has it.
        mirrored : bool
            Match the mirror image of the query. The result is in px of the query itself.

        Raises
        ------
        ImageError
            If the query cannot be used.
        ParameterError
            If there is no such image, or no features are kept of it; or for `mirrored` of features
            that cannot be mirrored.
        """
        self._searcher.check_keeps_features()
        other = self.features_of(image_id)
        if other is None:
            raise ParameterError(f"no features are kept of {self.image(image_id).path}")
        part = as_region(region)
        if mirrored:
            features, flipped = mirror_of(self.extractor, image, part)
            (found,) = self._searcher.verify(features, [other], model, n_jobs=1)
            return unmirrored(found, flipped)
        features = features_from(self.extractor, image, part)
        return self._searcher.verify(features, [other], model, n_jobs=1)[0]

    def localize(
        self,
        image: QueryImage,
        model: str | os.PathLike[str] | SfmModel,
        *,
        top: int = 20,
        camera: str | None = None,
        root: str | os.PathLike[str] | None = None,
    ) -> Localization:
        """Where an image was taken, in a model by COLMAP of images of this collection.

        Parameters
        ----------
        image : path, bytes, open file, array or Pillow's Image
        model : path or SfmModel
            Folder of the model (images.bin or .txt); for many queries read it once, with
            `vladkit.collection.sfm_model.SfmModel`. It may be of any features: depths are taken
            from it, places from the features that are kept here.
        top : int
            Most similar images of the model that the query is matched with.
        camera : str or None
            COLMAP's name of a camera model and its parameters, in px of the image, such as
            "SIMPLE_RADIAL,1380,768,512,0". None takes that of the model's images of the same size;
            else the focal length of the image's EXIF, refined; else it is estimated.
        root : path or None
            Folder that the model's names are relative to; None as in `pairs`. Images that are not
            below it are not in the model.

        Returns
        -------
        Localization
            Its pose is None if none fits.

        Raises
        ------
        ImageError
            If the image cannot be used, or has features of another program without its size, and
            no camera is given.
        ParameterError
            If no features are kept, an option is out of range, or no image is in the model.
        FileFormatError
            If there is no model.
        MissingDependencyError
            Without pycolmap: ``pip install 'vladkit[sfm]'``.
        """
        from vladkit.collection.localize import localize
        from vladkit.collection.sfm_model import SfmModel

        read = model if isinstance(model, SfmModel) else SfmModel(model)
        while True:
            self.index.refresh()
            with suppress(StaleQueryError), as_one_call():
                return localize(self.index, image, read, top=top, camera=camera, root=root)

    # -- comparing all images ---------------------------------------------------------

    def duplicates(
        self,
        *,
        flips: bool = False,
        candidates: int = 30,
        keep: str = "largest",
        against: Collection | None = None,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> list[DuplicateGroup]:
        """Groups of images that show the same shot: altered copies, not the same scene again.

        Resized, re-compressed, cropped, rotated, written over, brightened. No file is changed:
        that is `vladkit.collection.duplicate_files`.

        Parameters
        ----------
        flips : bool
            Also find mirrored copies; takes about twice as long.
        candidates : int
            Number of nearest images that each image is matched with, 1 or more.
        keep : {"largest", "oldest", "first"}
            Reference of a group: of the most pixels, then the largest file; the file that was
            changed longest ago; or the first in the order of sources and paths.
        against : Collection or None
            Reference collection: groups are an image of it, and the images of this collection that
            show the same shot. Images of one shot in this collection alone are not listed.

        Notes
        -----
        Needs kept features; only copies are opened, to tell how they differ. Takes O(n^2 D) for the
        candidates, and some 5 ms for each of ``n * candidates / 2`` comparisons.
        """
        from vladkit.collection.duplicates import find_duplicates

        with self._store.reading(), one_blas_thread():
            self.index.refresh()
            self.index.check_ready()
            step = _step(progress, "duplicates")
            find = partial(
                find_duplicates,
                self.index,
                candidates=candidates,
                flips=flips,
                keep=keep,
                n_jobs=n_jobs,
                progress=step,
            )
            if against is None:
                return find()
            with against._store.reading():
                against.index.refresh()
                against.index.check_ready()
                return find(against=against.index)

    def tell_apart(self, *images: str | os.PathLike[str]) -> int:
        """Say that no two of these images are the same shot; `duplicates` remembers it.

        By what the files hold: it holds for a file that is moved, not for one that is changed.

        Parameters
        ----------
        *images : path
            Two or more images of the collection.

        Returns
        -------
        n : int
            Number of pairs that were not known to be different.

        Raises
        ------
        ParameterError
            If one is not in the collection or cannot be read, or two have the same bytes.
        """
        from vladkit.collection.verdicts import tell_apart

        return tell_apart(self._store, images)

    def pairs(
        self,
        top: int = 20,
        *,
        rerank: int = 0,
        model: Model = "homography",
        min_score: float | None = None,
        sequential: int = 0,
        quadratic: bool = False,
        rigs: bool = False,
        gps: int = 0,
        positions: Positions = None,
        connected: bool = False,
        rotated: bool = False,
        queries: Names = None,
        database: Names = None,
        root: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> Pairs:
        """Pairs of images worth matching for a reconstruction; `Pairs.write` makes hloc's file.

        Parameters
        ----------
        top : int
            Most similar others of each image; 0 for `sequential` or `gps` alone. An image is in
            more pairs if more others chose it.
        rerank : int
            Candidates of each image that are matched with it feature by feature, as in `search`;
            its `top` are the first in the order that comes of it. 0 does not match.
        model : {"homography", "fundamental"}
            See `SearchOptions`.
        min_score : float or None
            Of the `top` ones, pairs of less similarity of their vectors (cosine) are left out, and
            not matched; `sequential`, `gps` and `connected` add theirs whatever it is.
        sequential : int
            Number of images that follow in the folder, in natural order of names, that each image
            is also paired with: for videos and walks.
        quadratic, rigs : bool
            Those that follow 1, 2, 4, 8, ... images later, too; and those of all cameras of a rig
            at once, whose images of one moment have one name in folders beside each other.
        gps, positions : int; path, mapping of str to (x, y, z) or None
            Number of images that each image is also paired with because they are the nearest in
            space; and where they are: pose priors of a COLMAP database, or metres by name.
        connected : bool
            Where the pairs leave groups of images unconnected, add the `top` best pairs that
            leave each group, whatever their similarity, until all are one.
        rotated : bool
            Compare in all quarter turns: for images that are rotated without an EXIF entry that
            says so. Four times the work; needs kept features.
        queries, database : str, path, iterable of str or None
            Images that ask for others, and those that they are paired with; None is all. A string
            is the beginning of names, such as "query/"; a path (`pathlib.Path`) is a file with a
            name a line, which hloc's lists are, too, or the folder of a model by COLMAP, whose
            images are meant (needs pycolmap). A query is the first of its pairs. Not with
            `connected`.
        root : path or None
            The folder that names are relative to: where hloc or COLMAP look for images. None is the
            indexed folder, or the deepest that holds all images if several were indexed.

        Notes
        -----
        O(n^2 D), in batches whose vectors and scores take 64 MB each, whatever n; an index made by
        `build_ann` is used instead if it is there. Matching takes some 5 ms a pair.
        """
        from vladkit.collection.pairs import select_pairs

        with self._store.reading(), one_blas_thread():
            self.index.refresh()
            return select_pairs(
                self.index,
                top,
                rerank=rerank,
                model=model,
                min_score=min_score,
                sequential=sequential,
                quadratic=quadratic,
                rigs=rigs,
                gps=gps,
                positions=positions,
                connected=connected,
                rotated=rotated,
                queries=queries,
                database=database,
                root=root,
                n_jobs=n_jobs,
                progress=progress,
            )

    def evaluate(
        self,
        benchmark: Benchmark,
        *,
        rerank: int | None = None,
        model: Model = "homography",
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> Outcome:
        """Figures of this collection in a benchmark, such as mAP and recall.

        Only images of the benchmark's database are ranked, whatever else is indexed; images of
        equal score come in the order of their files. Every query is extracted from its file, or
        from the part of it that the benchmark asks with; where features were found by another
        program, an indexed query is taken as it is in the collection. `rerank` and `model` are
        those of `SearchOptions`.

        A benchmark is had from `read_ground_truth` or `ground_truth` of
        `vladkit.evaluation.benchmark`, or `vladkit.evaluation.datasets.read_benchmark`.
        """
        self.index.refresh()
        answers, remarks = self.assess(
            benchmark, top=0, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress
        )
        return benchmark.outcome([answer.ranks for answer in answers], remarks)

    def assess(
        self,
        benchmark: Benchmark,
        *,
        top: int = 10,
        rerank: int | None = None,
        model: Model = "homography",
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[list[Answer], list[str]]:
        """`evaluate` query by query: the first `top` images that count of each ranking; remarks."""
        from vladkit.collection.evaluation import ask

        self.index.refresh()
        asked = self.index, benchmark
        return ask(*asked, top=top, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress)

    # -- the vectors in another form --------------------------------------------------

    def adapt(self, *, progress: Progress | None = None) -> None:
        """Adapt the codebook: move each centroid to the mean of its descriptors in all images.

        For a collection whose images have drifted from those that the codebook was learned from.
        No image is opened: all vectors are computed again from kept sums (``keep_sums``), unless
        they are whitened: adapt first. See Arandjelović, Zisserman, "All about VLAD", CVPR 2013,
        section 3.2.
        """
        from vladkit.collection.reencode import adapt

        self.index.refresh()
        adapt(self.index, progress=_step(progress, "adapt"))

    def whiten(
        self,
        n_components: int | None = None,
        *,
        exponent: float | None = None,
        power: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Reduce all vectors to fewer dimensions by PCA learned from themselves.

        Images that are added later, and queries, are reduced in the same way; the collection does
        not learn again by itself. The long vectors are gone then (`copy` first to keep them);
        `compact` gives their space back.

        Parameters
        ----------
        n_components : int or None
            Dimensions, fewer than there are images. None is 128, or a third as many as there are
            images: the weakest of n - 1 axes are single images.
        exponent, power
            See `vladkit.Whitening`, whose defaults None stands for.
        """
        from vladkit.collection.reencode import whiten

        self.index.refresh()
        step = _step(progress, "whiten")
        whiten(self.index, n_components, exponent=exponent, power=power, progress=step)

    def augment(self, n_neighbors: int = 2, *, alpha: float = 1.0) -> None:
        """Let images be found through those of the collection that look like them.

        From then on `search` compares a query not with an image's vector alone but with the
        mean of it and its `n_neighbors` nearest ones, each weighted by its similarity to the power
        `alpha` (database-side augmentation), as long as no image is added, changed or removed; then
        augment again. 0 neighbours remove it. Vectors stay as they are. Approximate search does
        without it. Takes O(n^2 D); docs/results/defaults.md has the gain.
        """
        from vladkit.collection.augmentation import augment

        self._store.check_can("augment")
        self.index.refresh()
        self.index.check_ready()
        if n_neighbors:
            self.index.check_not_empty()
        augment(self._store, n_neighbors, alpha)

    def build_ann(self) -> AnnReport:
        """Make an index for approximate search, in FILE.ann beside the collection.

        `search` uses it as long as no image is added, changed or removed; then build it
        again. It is a cache and may be deleted at any time. docs/explanation/search-cost.md has
        the size from which it is worth it. The report has its recall against exact search, for
        stored vectors.
        """
        self.index.refresh()
        return self._store.build_ann(self.n_dimensions, self.recipe.seed)

    # -- the file ---------------------------------------------------------------------

    def check(self, *, repair: bool = False, progress: Progress | None = None) -> list[Finding]:
        """Check every page, row, vector and feature of the file; returns what is wrong.

        With `repair` drop what is damaged; images that lose their vector are indexed again by the
        next `add`.
        """
        step = _step(progress, "check")
        return check_store(self._store, repair=repair, begin=self.index.refresh, progress=step)

    def compact(self) -> int:
        """Give the space of removed images back; returns how many bytes smaller the file became.

        Needs room on the disk for a second copy of the file while it runs.

        Raises
        ------
        StorageError
            If there is no room, or the file cannot be written; it is then as before.
        """
        self.index.refresh()
        return self._store.compact()

    def copy(self, target: str | os.PathLike[str]) -> None:
        """Write the collection as it is now to another file, whole or not at all.

        Raises
        ------
        StorageError
            If there is something at `target`, or it cannot be written.
        """
        self._store.copy(target)

    def export(
        self, target: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None
    ) -> list[Path | str]:
        """Write all vectors for other programs; returns the files that were written.

        Parameters
        ----------
        target : path
            The suffix decides the format: .npz, .fvecs, .faiss, .h5 or .parquet, see
            `vladkit.store.export`.
        root : path or None
            For .h5 the folder that names are relative to, as in `pairs`. The others have the paths
            that images were indexed by, and names as .h5 where several sources have one path.

        Raises
        ------
        MissingDependencyError
            If the library that writes the format is not installed.
        """
        self.index.refresh()
        self.index.check_ready()
        from vladkit.store.export import export

        return export(self._store, target, root)

    def export_postgres(
        self, url: str, *, schema: str | None = None, progress: Progress | None = None
    ) -> PostgresExport:
        """Write all that a search needs to PostgreSQL with pgvector, or what has changed there.

        `open` with the same URL then searches it; a person's own tables are joined with its view
        ``images``. All is written in one transaction: after an error, the database is as it was.

        Parameters
        ----------
        url : str
            ``postgresql://USER@HOST/DATABASE``, as libpq takes it. Passwords are better left to
            PGPASSWORD or ~/.pgpass.
        schema : str or None
            Schema that holds the tables, one for each collection; None is that of the URL,
            ``?schema=NAME``, or "vladkit".

        Raises
        ------
        MissingDependencyError
            If psycopg is not installed.
        FileFormatError
            If the schema holds another collection, or tables of another program.
        """
        self.index.refresh()
        self.index.check_ready()
        self._store.check_can("export to PostgreSQL")
        assert isinstance(self._store, Store)
        from vladkit.store.postgres.address import Address
        from vladkit.store.postgres.export import export_postgres

        address = Address.parse(url, schema)
        return export_postgres(self._store, address, _step(progress, "export"))


def _step(progress: Progress | None, name: str) -> partial[None] | None:
    return None if progress is None else partial(progress, name)
