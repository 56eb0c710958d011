"""`LanceStore`: rows in and out of a collection that Lance keeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.core.codes import Codes
from vladkit.core.names import is_text, real, spellings
from vladkit.core.remote import is_url
from vladkit.errors import FileFormatError, InputError, ParameterError, StorageError
from vladkit.store import trust
from vladkit.store.ann import AnnReport
from vladkit.store.blocks import BLOCK_BYTES, Layout
from vladkit.store.database import damaged
from vladkit.store.lance.ann import COLUMN, LanceAnn, build_index, measured
from vladkit.store.lance.place import SUFFIX as _SUFFIX
from vladkit.store.lance.place import Address, beside, imported, place_of, translated
from vladkit.store.lance.rows import (
    CODES,
    COLUMNS,
    KEPT,
    image_key,
    image_schema,
    row_of,
    source_key,
    table_of,
    vector_layout,
    vectors_of,
)
from vladkit.store.lance.state import SOURCE, WRITTEN, ConflictError, State, check_schema
from vladkit.store.packing import unpack_codes, unpack_kept
from vladkit.store.rows import ImageRow, KeptFeatures, Record, Source

__all__ = ["LanceStore"]

_TRIES: Final = 30
"""Commits of images that are tried, when others have changed the same rows each time."""

_STALE: Final = 0.05
"""Share of vectors that are not in the index from which on it takes them in."""

_OLD: Final = timedelta(hours=1)
"""Age of a version from which on nobody reads it: a search holds one for seconds."""

_BUFFER: Final = 2**26
"""Bytes that a scan reads ahead: by default Lance takes 2 GB."""

_AT_ONCE: Final = 2000
"""Keys in one filter."""


class LanceStore:
    """An open collection of Lance; see `vladkit.store.store.Store`, which it is used like.

    Any number of processes may read and write it at once. What `writing` gathers is committed when
    the block ends: arrays, then values and sources, then images, each of these whole or not at all,
    so that whoever is killed leaves a collection that can be read, and what refers to something
    comes after it. Within the block reads give what was there when it began, but for values and
    sources, which are as they will be.
    """

    learns_again = False
    batch_images = 256

    def __init__(self, place: Path, state: State, *, read_only: bool) -> None:
        self.path = place
        self.beside = beside(place)
        self.read_only = read_only
        self.layout = Layout(np.dtype(np.float16), 0)
        self.local_dimensions = 0
        self._state = state
        self._uri = f"{place}/image{_SUFFIX}"
        self._dataset: Any = None
        self._ann: tuple[int, LanceAnn] | None = None
        self._pinned = False
        self._changes: _Changes | None = None

    @classmethod
    def create(cls, path: str | os.PathLike[str], **about: Any) -> Self:
        """Make the collection with some values for `about`, or open the one that is there."""
        place = place_of(path)
        imported()
        if not isinstance(place, Address) and os.path.lexists(place):
            if not os.path.isdir(place):
                raise FileFormatError(
                    f"{place} is a file, no collection of Lance: give another name than .lance"
                )
            names = os.listdir(place)
            if names and not any(n.endswith(_SUFFIX) for n in names):
                raise FileFormatError(f"{place} is a folder of something else: give another name")
        with translated(place, "create"):
            State.create(place, about)
        return cls.open(path)

    @classmethod
    def is_there(cls, path: str | os.PathLike[str]) -> bool:
        """Whether a collection is at a path, or at an address of an object store."""
        place = place_of(path)
        with translated(place, "open"):
            return State(place).find()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> Self:
        """Open an existing collection."""
        place = place_of(path)
        state = State(place)
        with translated(place, "open"):
            state.open()
        return cls(place, state, read_only=read_only)

    def close(self) -> None:
        """Forget the datasets; nothing of them stays open."""
        self._dataset = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def n_bytes(self) -> int:
        """Bytes of the images as they are now, by Lance's figures."""
        images = self._images_now()
        if images is None:
            return 0
        with translated(self.path, "read"):
            return sum(
                file.file_size_bytes or 0
                for fragment in images.get_fragments()
                for file in fragment.data_files()
            )

    def check_can(self, what: str) -> None:
        """Raise ParameterError: a collection of Lance lacks this, in this version."""
        raise ParameterError(
            f"{self.path} is a collection of Lance, which this version cannot {what}: index the "
            "images into a file for that (-o photos.vlad)"
        )

    # -- states -----------------------------------------------------------------------

    def _refresh(self) -> None:
        if not self._pinned:
            self._state.refresh()

    def _images_now(self) -> Any:
        """Dataset of the images as it is now, or in `reading` was; None if there is none yet."""
        if self._pinned:
            return self._dataset
        with translated(self.path, "read"):
            if self._dataset is not None:
                self._dataset.checkout_latest()
                return self._dataset
            try:
                found = imported().dataset(self._uri)
            except (ValueError, OSError) as error:
                if "not found" not in str(error).lower():
                    raise
                return None
            check_schema(found, image_schema(vector_layout(found.schema)), self.path)
            self._dataset = found
        return self._dataset

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Snapshot: all reads within the block see one state, whoever writes meanwhile."""
        if self._pinned:
            yield
            return
        self._refresh()
        self._images_now()
        self._pinned = True
        try:
            yield
        finally:
            self._pinned = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Transaction: see the class. What others commit meanwhile stays.

        Raises
        ------
        StorageError
            If it may not be written, or others have changed the same values.
        """
        if self.read_only:
            raise StorageError(f"cannot write {self.path}: it may not be written (read-only)")
        with self.reading():
            self._changes = changes = _Changes()
            try:
                yield
            finally:
                self._changes = None
            with translated(self.path, "write"):
                if changes.values or changes.arrays:
                    self._state.commit(changes.values, changes.arrays)
                if changes.records:
                    self._upsert(changes.records)
                    self._state.commit({WRITTEN: True}, {})
                if changes.deleted:
                    self._delete(changes.deleted)

    @property
    def _pending(self) -> _Changes:
        assert self._changes is not None, "within `writing`"
        return self._changes

    def _upsert(self, records: dict[int, Record]) -> None:
        lance = imported()
        if self._dataset is None:
            schema = image_schema(self.layout)
            try:
                self._dataset = lance.write_dataset(
                    schema.empty_table(), self._uri, schema=schema, mode="create"
                )
            except OSError as error:  # another process was first
                if "already exists" not in str(error) and "onflict" not in str(error):
                    raise
                self._dataset = lance.dataset(self._uri)
        merge = self._dataset.merge_insert("image_id")
        merge.when_matched_update_all().when_not_matched_insert_all()
        merge.conflict_retries(_TRIES).execute(table_of(records.items(), self.layout))

    def _delete(self, ids: set[int]) -> None:
        if self._dataset is None:
            return
        self._dataset.checkout_latest()
        for some in _in_parts(sorted(ids)):
            self._dataset.delete(_is_in(some), conflict_retries=_TRIES)

    # -- about, arrays ----------------------------------------------------------------

    def _values(self) -> dict[str, Any]:
        self._refresh()
        values = self._state.values()
        if self._changes is not None:
            values |= self._changes.values
        return {name: value for name, value in values.items() if value is not None}

    def about(self) -> dict[str, Any]:
        """Values that are kept about the collection as a whole, by name."""
        return {n: v for n, v in self._values().items() if not n.startswith("~")}

    def set_about(self, **values: Any) -> None:
        """Keep JSON-able values by name; within `writing`."""
        self._pending.values.update(values)

    def stamp(self) -> str:
        """Name of the state that the vectors are in: caches with another stamp are stale."""
        images = self._images_now()
        return f"{self._values()['id']}:{0 if images is None else images.version}"

    def learned(self) -> dict[str, Any]:
        """State that what was learned is in, see `vladkit.store.store.Store.learned`."""
        found: dict[str, Any] = self.about().get("learned", {})
        return found

    def arrays(self, pattern: str = "[^~]*") -> dict[str, AnyArray]:
        """Arrays whose name fits a pattern (SQLite's GLOB), as they were before `writing`."""
        self._refresh()
        return self._state.arrays(pattern)

    def set_arrays(self, arrays: dict[str, AnyArray]) -> None:
        """Keep arrays by name; within `writing`."""
        self._pending.arrays.update(arrays)

    def forget(self, name: str, pattern: str) -> None:
        """Drop a value; what arrays there were with it cannot be dropped."""
        self.check_can(f"drop its {name}")

    # -- sources ----------------------------------------------------------------------

    def _source_values(self) -> dict[int, dict[str, Any]]:
        values = self._values()
        names = sorted(n for n in values if n.startswith(SOURCE))
        with damaged(self.path, "its sources"):
            return {int(n.removeprefix(SOURCE)): values[n] for n in names}

    def sources(self) -> dict[int, Source]:
        """All sources by their id, each where it is found now."""
        found = {}
        values = self._source_values()
        roots = {given.get("root") for given in values.values()}
        for source_id, given in values.items():
            with damaged(self.path, "its sources"):
                folder, own = None, given["mark"]
                now = self._where_now(given["root"], given["relative"])
                if now in roots:  # another source's, which this store cannot join with it
                    now = given["root"]
                if given.get("images"):
                    moved, relative, own = given["images"]
                    folder = self._where_now(moved, relative)
                is_own = trust.is_own("folder", folder or now, own)
                found[source_id] = Source(source_id, now, given["name"], folder, is_own)
        return found

    def _where_now(self, root: str, relative: str | None) -> str:
        if relative is not None and not is_url(root) and not os.path.exists(root):
            moved = os.path.normpath(self.path.parent / relative)
            if os.path.exists(moved):
                return os.path.realpath(moved)  # folders are kept without links
        return root

    def _relative(self, root: str) -> str | None:
        try:
            local = not isinstance(self.path, Address) and not is_url(root)
            return os.path.relpath(root, self.path.parent) if local else None
        except ValueError:  # another drive
            return None

    def add_source(self, root: str, name: str, own: str | None = None) -> Source:
        """Get the source of an absolute root, added if it is new; within `writing`."""
        own = trust.mark("folder", root) if own is None else own
        for source in self.sources().values():
            if source.root == root:
                if not source.is_own and own:
                    self._change_source(source.source_id, mark=own)
                return source
        held = self._source_values()
        attempts = (source_key(root, attempt) for attempt in count())
        # one of that key may have been another folder's once, and have moved
        source_id = next(i for i in attempts if i not in held or held[i]["root"] == root)
        given = {"root": root, "relative": self._relative(root), "name": name, "mark": own}
        self._change_source(source_id, **given)
        return Source(source_id, root, name)

    def _change_source(self, source_id: int, **given: Any) -> None:
        before = self._source_values().get(source_id, {})
        self._pending.values[f"{SOURCE}{source_id}"] = before | given

    def set_images(self, source_id: int, folder: str, own: str | None = None) -> None:
        """Remember the folder of the images of a source of features; within `writing`."""
        own = trust.mark("folder", folder) if own is None else own
        self._change_source(source_id, images=[folder, self._relative(folder), own])

    def folders(self) -> list[tuple[int, str]]:
        """Ids of sources, and their folders as they were when indexed."""
        sources = self._source_values().items()
        return [(i, (each.get("images") or [each["root"]])[0]) for i, each in sources]

    def own_folders(self) -> list[str]:
        """Folders of images that this user gave, links resolved."""
        sources = self.sources().values()
        return [real(each.folder) for each in sources if each.is_own]

    def move_source(self, source_id: int, folder: str) -> int:
        """Say where the images of a source are now; within `writing`."""
        given = self._source_values()
        if given[source_id].get("images"):
            self.set_images(source_id, folder)
        elif any(each["root"] == folder for i, each in given.items() if i != source_id):
            self.check_can(f"join what was indexed in two folders, of which one is {folder}")
        else:
            moved = {"root": folder, "relative": self._relative(folder), "name": folder}
            self._change_source(source_id, **moved, mark=trust.mark("folder", folder))
        return 0

    # -- images -----------------------------------------------------------------------

    def _scan(self, columns: Any, where: str | None = None, **options: Any) -> Any:
        """Table of some columns; None if there are no images yet."""
        images = self._images_now()
        if images is None:
            return None
        with translated(self.path, "read"):
            return images.to_table(columns=columns, filter=where, **options)

    def _by_id(self, columns: Sequence[str], ids: Sequence[int], where: str = "") -> list[Any]:
        """Rows (dicts) of some images, in the order in which these are given."""
        found: list[Any] = []
        for some in _in_parts(list(ids)):
            table = self._scan(["image_id", *columns], _is_in(some) + where)
            found += [] if table is None else table.to_pylist()
        place = {int(image_id): i for i, image_id in enumerate(ids)}
        return sorted(found, key=lambda row: place[row["image_id"]])

    def _there(self, keys: list[int]) -> list[int]:
        """Those of some ids that images have, or all: by one pass over all ids if they are many."""
        images = self._images_now()
        if images is None or len(keys) <= _AT_ONCE:
            return keys  # which a filter finds by the index, if there is one
        key_n, found = np.unique(keys), [np.zeros(0, np.int64)]
        with translated(self.path, "read"):
            for batch in images.to_batches(columns=["image_id"]):
                id_b = batch["image_id"].to_numpy()
                place_b = np.minimum(np.searchsorted(key_n, id_b), len(key_n) - 1)
                found.append(id_b[key_n[place_b] == id_b])
        there: list[int] = np.concatenate(found).tolist()
        return there

    def _rows(self, where: str | None, **options: Any) -> Iterator[ImageRow]:
        table = self._scan(COLUMNS, where, **options)
        if table is None:
            return
        if not options:
            table = table.sort_by([("source_id", "ascending"), ("path", "ascending")])
        folders = self._folders()
        for batch in table.to_batches(max_chunksize=4096):
            for values in batch.to_pylist():
                yield row_of(values, folders, self.path)

    def _folders(self) -> dict[int, str]:
        return {i: source.folder for i, source in self.sources().items()}

    def images(self) -> Iterator[ImageRow]:
        """All images, by source and path."""
        return self._rows(None)

    def indexed(self) -> Iterator[ImageRow]:
        """Images that have a vector, by source and path."""
        return self._rows("skipped IS NULL")

    def skipped(self) -> Iterator[ImageRow]:
        """Images without a vector, each with the reason, by source and path."""
        return self._rows("skipped IS NOT NULL")

    def by_path(
        self,
        path: str,
        source_id: int | None = None,
        *,
        spelled: Callable[[str], str] | None = None,
    ) -> list[ImageRow]:
        """Images that have a vector and this path, of one source or of all."""
        if not is_text(path):
            return []
        sources = self._source_values() if source_id is None else [source_id]
        if spelled is None:
            keys = [image_key(i, path, attempt) for i in sources for attempt in (0, 1)]
            rows = self._by_id(COLUMNS[:-1], keys, " AND skipped IS NULL")
            folders = self._folders()
            return [row_of(row, folders, self.path) for row in rows if row["path"] == path]
        wanted, where = spelled(path), "octet_length(path) > character_length(path)"
        images = self._rows(f"skipped IS NULL AND {where}")  # others are spelled in one way
        return [r for r in images if r.source_id in sources and spelled(r.path) == wanted]

    def state(self) -> tuple[object, ...]:
        """Another value whenever any row may have changed since; see `Store.state`."""
        stamp = self.stamp()  # which looks for what others have committed
        return stamp, self._state.version

    def ids_in(self, source_id: int, folder: str) -> set[int]:
        """Ids of the images of a source that are at a path or below it; see `Store.ids_in`."""
        return {
            row.image_id
            for row in self.images()
            if row.source_id == source_id
            and (not folder or row.path == folder or row.path.startswith(f"{folder}/"))
        }

    def images_by_id(self, image_ids: Sequence[int]) -> dict[int, ImageRow]:
        """Rows of some images by image id; unknown ones are left out."""
        folders = self._folders()
        rows = self._by_id(COLUMNS[:-1], image_ids)
        return {row["image_id"]: row_of(row, folders, self.path) for row in rows}

    def page(
        self, offset: int, limit: int, contains: str, *, skipped: bool
    ) -> tuple[int, list[ImageRow]]:
        """Number of paths that contain a text (letters of either case), and some of them."""
        images = self._images_now()
        if images is None:
            return 0, []
        where = f"skipped IS {'NOT ' * skipped}NULL"
        if contains:
            texts = [each.lower().replace("'", "''") for each in spellings(contains)]
            some = " OR ".join(f"contains(lower(path), '{text}')" for text in texts)
            where += f" AND ({some})"
        with translated(self.path, "read"):
            total = images.count_rows(where)
        order = ["source_id", "path"]
        if not limit:
            return total, []
        return total, list(self._rows(where, limit=limit, offset=offset, order_by=order))

    def put(self, records: Sequence[Record]) -> list[int]:
        """Add images, or replace what is kept of them, and give their ids; within `writing`."""
        ids = []
        places = [(record.row.source_id, record.row.path) for record in records]
        keys = [image_key(*place) for place in places]
        held = self._by_id(["source_id", "path"], self._there(keys))
        taken = {row["image_id"]: (row["source_id"], row["path"]) for row in held}
        for key, place, record in zip(keys, places, records, strict=True):
            if taken.setdefault(key, place) != place:  # two paths with one key
                key = image_key(*place, 1)
            self._pending.records[key] = record
            ids.append(key)
        return ids

    def rename(self, image_id: int, path: str) -> None:
        """Change the path of an image whose file goes by another name; within `writing`."""
        row = self.images_by_id([image_id])[image_id]
        record = self._record(image_id)
        moved = ImageRow(**{c: getattr(row, c) for c in COLUMNS[:-1]} | {"path": path})
        self.put([Record(moved, *record)])
        self._pending.deleted.add(image_id)

    def _record(self, image_id: int) -> tuple[Any, ...]:
        """All that is kept of an image, as `Record` takes it."""
        ids = [image_id]
        _, codes = self.codes(ids)
        vector_D, features = self.vectors(ids).get(image_id), self.features(ids).get(image_id)
        return vector_D, features, None, image_id in self.lifted(), codes

    def delete(self, image_ids: Iterable[int]) -> None:
        """Forget images, their vectors and features; within `writing`."""
        self._pending.deleted.update(int(i) for i in image_ids)

    def drop_vector(self, image_id: int, reason: str) -> None:
        """Skip an image that has a vector, until it is indexed again; within `writing`."""
        row = self.images_by_id([image_id])[image_id]
        values = {c: getattr(row, c) for c in COLUMNS[:-1]}
        changed = ImageRow(**values | {"skipped": reason, "transient": True})
        self._pending.records[image_id] = Record(changed)

    def lifted(self) -> set[int]:
        """Images whose features are those of a second try, see `vladkit.features.Sift`."""
        table = self._scan(["image_id"], "lifted")
        return set() if table is None else set(table["image_id"].to_pylist())

    def count(self) -> tuple[int, int]:
        """Numbers of images with a vector and of skipped images."""
        images = self._images_now()
        if images is None:
            return 0, 0
        with translated(self.path, "read"):
            skipped = images.count_rows("skipped IS NOT NULL")
            return images.count_rows() - skipped, skipped

    def lacks_images(self) -> bool:
        """Whether images were written, and their dataset is not there."""
        return self._images_now() is None and bool(self._state.values().get(WRITTEN))

    def batches(self, n: int) -> Iterator[Any]:
        """All that is kept of images, n at a time, for `check_lance`."""
        images = self._images_now()
        if images is not None:
            with translated(self.path, "read"):
                yield from images.to_batches(batch_size=n, batch_readahead=1)

    def keys_kept_twice(self) -> list[int]:
        """Keys that several rows have: none should be."""
        table = self._scan(["image_id"])
        if table is None:
            return []
        image_id_n, n_n = np.unique(table["image_id"].to_numpy(), return_counts=True)
        twice: list[int] = image_id_n[n_n > 1].tolist()
        return twice

    def count_local(self) -> int:
        """Number of local features of all images that have a vector."""
        import pyarrow.compute as pc

        table = self._scan(["n_local"], "skipped IS NULL")
        return 0 if table is None else int(pc.sum(table["n_local"]).as_py() or 0)

    def count_by_source(self) -> dict[int, tuple[int, int]]:
        """(images with a vector, images skipped) of each source that has any."""
        table = self._scan({"source_id": "source_id", "is_in": "skipped IS NULL"})
        found: dict[int, tuple[int, int]] = {}
        if table is not None and len(table):
            id_n, is_in_n = (table[n].to_numpy() for n in ("source_id", "is_in"))
            for source_id in np.unique(id_n).tolist():
                mine_n = is_in_n[id_n == source_id]
                found[source_id] = int(mine_n.sum()), int((~mine_n).sum())
        return found

    # -- vectors ----------------------------------------------------------------------

    def vector_blocks(self) -> Iterator[tuple[Int64Array, AnyArray]]:
        """All vectors, in blocks of about 1 MB: (image_id_n, vector_nD), read-only."""
        images = self._images_now()
        if images is None:
            return
        rows = max(1, BLOCK_BYTES // max(1, self.layout.row_bytes))
        options = {"columns": ["image_id", "vector"], "batch_size": rows, "batch_readahead": 4}
        options["io_buffer_size"] = _BUFFER
        with translated(self.path, "read"):
            for batch in images.to_batches(filter="vector IS NOT NULL", **options):
                if batch.num_rows:
                    vector_nD = self._fitting(vectors_of(batch.column("vector")))
                    yield batch.column("image_id").to_numpy(), vector_nD

    def _fitting(self, vector_nD: AnyArray) -> AnyArray:
        wanted = self.layout.n_dimensions, self.layout.dtype
        if (vector_nD.shape[1], vector_nD.dtype) != wanted:
            raise FileFormatError(
                f"{self.path} is damaged: its vectors have {vector_nD.shape[1]} dimensions "
                f"({vector_nD.dtype}), wanted {wanted[0]} ({wanted[1]}): index again into another"
            )
        return vector_nD

    def all_vectors(self) -> tuple[Int64Array, AnyArray]:
        """All vectors in memory: (image_id_n, vector_nD)."""
        blocks = list(self.vector_blocks())
        layout = self.layout
        image_id_n = np.concatenate([np.empty(0, np.int64), *(i for i, _ in blocks)])
        empty_nD = np.empty((0, layout.n_dimensions), layout.dtype)
        return image_id_n, np.concatenate([empty_nD, *(v for _, v in blocks)])

    def vectors(self, image_ids: Sequence[int]) -> dict[int, AnyArray]:
        """Vectors (D,) of some images by image id; unknown ones are left out."""
        found: dict[int, AnyArray] = {}
        images = self._images_now()
        if images is not None and self._ann is not None and self._ann[0] == images.version:
            near = self._ann[1].near
            found = {i: near[i] for i in image_ids if i in near}
        for some in _in_parts([i for i in image_ids if i not in found]):
            table = self._scan(["image_id", "vector"], f"{_is_in(some)} AND vector IS NOT NULL")
            if table is not None and len(table):
                vector_nD = self._fitting(vectors_of(table["vector"].combine_chunks()))
                found |= dict(zip(table["image_id"].to_pylist(), vector_nD, strict=True))
        return {i: found[i] for i in image_ids if i in found}

    # -- approximate search -----------------------------------------------------------

    def ann(self) -> LanceAnn | None:
        """Approximate index of the images as they are now, if `build_ann` has made one."""
        images, about = self._images_now(), self.about().get("ann")
        if images is None or about is None:
            return None
        with damaged(self.path, "value 'ann'"):
            self._ann = images.version, LanceAnn(images, AnnReport.stored(about), self.path)
        return self._ann[1]

    def build_ann(self, n_dimensions: int, seed: int) -> AnnReport:
        """Make the approximate index, of all vectors that are in, and measure its recall.

        Raises
        ------
        InputError
            If there are too few vectors.
        """
        n, _ = self.count()
        images = self._images_now()
        if images is None:
            raise InputError("no vectors to make an index of: add images first")
        with self.writing():
            with translated(self.path, "make an index of"):
                n_cells = build_index(images, n)
                images.checkout_latest()
                report = measured(images, self.vector_blocks, self.count()[0], n_cells, seed)
            self.set_about(ann=asdict(report))
        return report

    def freshen(self, n_dimensions: int, seed: int) -> None:
        """Take into the index what was added, if that is much; or make it again."""
        about, images = self.about().get("ann"), self._images_now()
        if about is None or images is None:
            return
        n = self.count()[0]
        if n >= 2 * about["n"]:
            with suppress(ConflictError):  # another process has just made it
                self.build_ann(n_dimensions, seed)
        elif n - self.n_indexed() > _STALE * n:
            with translated(self.path, "write"):
                images.optimize.optimize_indices()

    def n_indexed(self) -> int:
        """Number of vectors that are in the index; others are compared one by one."""
        images = self._images_now()
        with translated(self.path, "read"):
            found = [] if images is None else images.describe_indices()
        return sum(each.num_rows_indexed for each in found if each.name == COLUMN)

    # -- features, codes --------------------------------------------------------------

    def features(self, image_ids: Sequence[int]) -> dict[int, KeptFeatures]:
        """Kept features of some images by image id; those that have none are left out."""
        found = {}
        pieces = self._state.arrays("kept.pieces").get("kept.pieces")
        wanted = {"n_dimensions": self.local_dimensions}
        wanted["code_bytes"] = -1 if pieces is None else len(pieces)
        columns = ["width", "height", *KEPT]
        for row in self._by_id(columns, image_ids, " AND kept_n IS NOT NULL"):
            image_id, size = row["image_id"], (row["width"] or 0, row["height"] or 0)
            with damaged(self.path, f"the features of image {image_id}", repair=True):
                found[image_id] = unpack_kept([row[n] for n in KEPT], *size, **wanted)
        return found

    def codes(self, image_ids: Sequence[int]) -> tuple[list[int], Codes | None]:
        """Codes of some images, and the ids of these in order; None if none have any."""
        rows = self._by_id(CODES, image_ids, " AND code_word IS NOT NULL")
        if not rows:
            return [], None
        with damaged(self.path, "the codes of some images", repair=True):
            codes = unpack_codes(tuple(row[n] for n in CODES) for row in rows)
        return [row["image_id"] for row in rows], codes

    def compact(self) -> int:
        """Join what small commits have left, and drop versions that nobody reads any more.

        Others may read and write meanwhile: versions of the last hour stay. Returns the number of
        bytes that were freed.
        """
        lance, freed = imported(), 0
        if self.read_only:
            raise StorageError(f"cannot write {self.path}: it may not be written (read-only)")
        with translated(self.path, "compact"):
            images = self._images_now()
            if images is not None:
                images.optimize.compact_files()
                images.checkout_latest()
                images.optimize.optimize_indices()
            for name in ("about", "array", "image"):
                if name != "image" or images is not None:
                    dataset = lance.dataset(f"{self.path}/{name}{_SUFFIX}")
                    freed += dataset.cleanup_old_versions(older_than=_OLD).bytes_removed
        return int(freed)

    # -- what a collection of Lance lacks ---------------------------------------------

    def sums(self, image_ids: Sequence[int]) -> dict[int, tuple[AnyArray, AnyArray]]:
        """Nothing: a collection of Lance keeps no sums."""
        return {}

    def put_codes(self, image_id: int, codes: Codes | None) -> NoReturn:
        """Refuse, see `rewrite`."""
        self.rewrite(lambda _, vector_nD: vector_nD)

    def rewrite(
        self,
        change: Callable[[Int64Array, AnyArray], AnyArray],
        progress: Callable[[int, int], None] | None = None,
    ) -> NoReturn:
        """Refuse: ParameterError."""
        self.check_can("give other vectors to its images")
        raise AssertionError

    def copy(self, target: str | os.PathLike[str]) -> NoReturn:
        """Refuse: ParameterError."""
        self.check_can("copy: copy the folder as it is, while nobody writes; or")
        raise AssertionError


class _Changes:
    """Changes that a block of `LanceStore.writing` has gathered."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.arrays: dict[str, AnyArray] = {}
        self.records: dict[int, Record] = {}
        self.deleted: set[int] = set()


def _in_parts(ids: list[Any]) -> Iterator[list[Any]]:
    return (ids[i : i + _AT_ONCE] for i in range(0, len(ids), _AT_ONCE))


def _is_in(ids: Iterable[int]) -> str:
    return f"image_id IN ({', '.join(str(int(i)) for i in ids)})"
