"""The vectors of a collection in files of other programs, block by block."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.files import check_writable, replace_file
from vladkit.core.remote import is_url
from vladkit.core.threads import faiss_threads
from vladkit.errors import FileFormatError, MissingDependencyError, ParameterError
from vladkit.images.exif import UNKNOWN
from vladkit.store.blocks import Layout
from vladkit.store.naming import names_below
from vladkit.store.photos import has_photos, photos
from vladkit.store.postgres.address import is_database, shown_url
from vladkit.store.protocol import CollectionStore
from vladkit.store.rows import LONGEST_PATH

__all__ = ["FORMATS", "check_target", "export"]

FORMATS: Final = (".npz", ".fvecs", ".faiss", ".h5", ".parquet")

_WRITERS: Final = {".h5": ("h5py", "hloc"), ".parquet": ("pyarrow", "parquet")}
"""Library that writes a format, and its extra."""

_WITH_PATHS: Final = (".fvecs", ".faiss")
"""Formats with their paths in a file beside, NAME.json."""

_NAMES: Final = 4096  # paths turned into an array's rows at a time


def check_target(target: str | os.PathLike[str]) -> str:
    """The format that a file's name asks for.

    Raises
    ------
    ParameterError
        If there is none of that name.
    MissingDependencyError
        If the library that writes it is not installed.
    """
    if is_url(target):
        check_writable(target)
    suffix = Path(target).suffix.lower()
    if suffix not in FORMATS:
        if is_database(target):
            raise ParameterError(f"{shown_url(target)} is a database: use export_postgres")
        raise ParameterError(f"{target}: the name of an export ends in {', '.join(FORMATS)}")
    if suffix in _WRITERS:
        module, extra = _WRITERS[suffix]
        try:
            import_module(module)
        except ImportError as error:
            raise MissingDependencyError(
                f"{target}: {module}, which writes it, is not installed: "
                f"pip install 'vladkit[{extra}]'",
                name=module,
            ) from error
    return suffix


def export(
    store: CollectionStore,
    target: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
) -> list[Path | str]:
    """Write all vectors and the paths they belong to, as they are when it begins.

    ============  ======================================================================
    ``.npz``      arrays ``vectors`` (n, D) in the collection's dtype and ``paths`` (n,),
                  Unicode; `numpy.load` reads it without pickle
    ``.fvecs``    for each vector int32 D, then D float32, all little-endian (texmex);
                  paths in order in ``NAME.fvecs.json``
    ``.faiss``    a flat inner-product index (float16 vectors stay float16), row i being
                  path i of ``NAME.faiss.json``
    ``.h5``       hloc's global descriptors: a group for each image, named as its path
                  below one folder, with dataset ``global_descriptor`` (D,) float32
    ``.parquet``  a row for each image: path, width, height (px), what its EXIF states
                  (taken, on the camera's clock; latitude, longitude; camera), and its
                  vector, float32
    ============  ======================================================================

    Paths are those that images were indexed by; where several sources have one path, all are those
    below the deepest folder that holds them all, as names in ``.h5`` are; or whole, where none
    does, as of several buckets.

    Parameters
    ----------
    store : CollectionStore
    target : path
        Replaced whole or not at all.
    root : path or None
        For ``.h5`` the folder that names are relative to, see `vladkit.store.naming.names_below`.

    Returns
    -------
    list of Path or str
        The files that were written; those elsewhere by their URLs.

    Raises
    ------
    ParameterError
        If the name ends in none of these, `root` does not fit, or a file to write is the collection
        or a source of it.
    MissingDependencyError
        See `check_target`.
    StorageError
        If a file cannot be written.
    """
    suffix = check_target(target)
    if root is not None and suffix != ".h5":
        raise ParameterError(f"root={root} is for .h5, {target} has paths as indexed")
    for end in ("", ".json") if suffix in _WITH_PATHS else ("",):
        name = f"{os.fspath(target)}{end}"
        check_writable(name, _made_from(store, name))
    with store.reading():
        path_of = {row.image_id: row.path for row in store.indexed()}
        if suffix == ".h5":
            path_of = names_below(store.indexed(), root)[1]
        elif len(set(path_of.values())) < len(path_of):
            path_of = _told_apart(store)
        if (longest := max(map(len, path_of.values()), default=0)) > LONGEST_PATH:
            raise FileFormatError(f"a path of {longest} letters is no path: no system has such")
        if suffix == ".parquet":
            with replace_file(target) as file:
                _write_parquet(file, store, path_of)
            return [os.fspath(target) if is_url(target) else Path(target)]
        return _write(store, target, suffix, path_of)


def _made_from(store: CollectionStore, target: str) -> list[str]:
    """Files that the vectors come from: the collection, and files of features."""
    found = [os.fspath(store.path)]
    for source in store.sources().values():
        name = os.path.relpath(os.path.realpath(target), os.path.realpath(source.root))
        stem = os.path.splitext(name)[0].replace(os.sep, "/")
        if not os.path.isdir(source.root):
            found.append(source.root)
        elif any(
            (each.source_id, each.path) == (source.source_id, stem) for each in store.images()
        ):
            found.append(target)  # a folder of features has a file for each image
    return found


def _told_apart(store: CollectionStore) -> dict[int, str]:
    """Paths by image id that differ as the files do; a file that is indexed twice is there once."""
    try:
        return names_below(store.indexed())[1]
    except ParameterError:  # no folder holds them all
        id_of: dict[str, int] = {}
        for row in store.indexed():
            id_of.setdefault(row.file, row.image_id)
        return {image_id: file for file, image_id in id_of.items()}


def _write(
    store: CollectionStore, target: str | os.PathLike[str], suffix: str, path_of: Mapping[int, str]
) -> list[Path | str]:
    """Write the vectors of the images in `path_of`."""
    written = os.fspath(target) if is_url(target) else Path(target)
    layout = store.layout
    paths: list[str] = []

    def chosen() -> Iterator[AnyArray]:
        paths.clear()
        for image_id_n, vector_nD in store.vector_blocks():
            names = [path_of.get(i) for i in image_id_n.tolist()]
            known_n = np.array([name is not None for name in names], bool)
            paths.extend(name for name in names if name is not None)
            yield vector_nD if known_n.all() else vector_nD[known_n]

    with replace_file(target) as file:
        if suffix == ".h5":
            _write_h5(file, chosen(), paths)
            return [written]
        if suffix == ".npz":
            n = sum(len(vector_nD) for vector_nD in chosen())
            _write_npz(file, chosen(), paths, n, layout)
            return [written]
        if suffix == ".fvecs":
            for vector_nD in chosen():
                d = layout.n_dimensions
                row_nD = np.empty(len(vector_nD), [("d", "<i4"), ("v", "<f4", d)])
                row_nD["d"], row_nD["v"] = d, vector_nD
                file.write(row_nD.tobytes())
        else:
            _write_faiss(file, chosen(), layout)
    beside = type(written)(f"{os.fspath(target)}.json")
    with replace_file(beside) as file:
        file.write(json.dumps(paths, ensure_ascii=False, indent=0).encode())
    return [written, beside]


def _write_npz(
    file: BinaryIO,
    vectors: Iterator[AnyArray],
    paths: Sequence[str],
    n: int,
    layout: Layout,
) -> None:
    """Write the file of `numpy.savez`, without the arrays in memory."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("vectors.npy", "w", force_zip64=True) as entry:
            _write_header(entry, (n, layout.n_dimensions), layout.dtype.newbyteorder("<"))
            for vector_nD in vectors:
                entry.write(np.ascontiguousarray(vector_nD).tobytes())
        longest = max(map(len, paths), default=1) or 1
        name_type = np.dtype(f"<U{longest}")
        with archive.open("paths.npy", "w", force_zip64=True) as entry:
            _write_header(entry, (len(paths),), name_type)
            for begin in range(0, len(paths), _NAMES):
                entry.write(np.array(paths[begin : begin + _NAMES], name_type).tobytes())


def _write_parquet(file: BinaryIO, store: CollectionStore, path_of: Mapping[int, str]) -> None:
    """Write a table, a block of vectors at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    d = store.layout.n_dimensions
    columns = [
        ("path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("taken", pa.timestamp("s")),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("camera", pa.string()),
        ("vector", pa.list_(pa.float32(), d)),
    ]
    row_of = {row.image_id: row for row in store.indexed()}
    with pq.ParquetWriter(file, pa.schema(columns)) as writer:
        for image_id_n, vector_nD in store.vector_blocks():
            at = [i for i, image_id in enumerate(image_id_n.tolist()) if image_id in path_of]
            ids = image_id_n[at].tolist()
            rows, known = [row_of[i] for i in ids], photos(store, ids) if has_photos(store) else {}
            facts = [known.get(i, UNKNOWN) for i in ids]
            flat = pa.array(np.ascontiguousarray(vector_nD[at], np.float32).ravel())
            values = [
                pa.array([path_of[i] for i in ids], pa.string()),
                pa.array([row.width for row in rows], pa.int32()),
                pa.array([row.height for row in rows], pa.int32()),
                pa.array([each.time() for each in facts], pa.timestamp("s")),
                pa.array([each.latitude for each in facts], pa.float64()),
                pa.array([each.longitude for each in facts], pa.float64()),
                pa.array([each.camera for each in facts], pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, d),
            ]
            writer.write_table(pa.table(values, schema=writer.schema))


def _write_header(file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    header = {"shape": shape, "fortran_order": False, "descr": dtype.str}
    np.lib.format.write_array_header_1_0(file, header)


def _write_faiss(file: BinaryIO, vectors: Iterator[AnyArray], layout: Layout) -> None:
    import faiss as untyped

    faiss: Any = untyped
    if layout.dtype == np.float16:
        kind = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexScalarQuantizer(layout.n_dimensions, *kind)
    else:
        index = faiss.IndexFlatIP(layout.n_dimensions)
    for vector_nD in filter(len, vectors):
        with faiss_threads(None):
            index.add(np.ascontiguousarray(vector_nD, np.float32))
    faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def _write_h5(file: BinaryIO, vectors: Iterator[AnyArray], paths: Sequence[str]) -> None:
    """`paths` grows with the vectors that are drawn."""
    import h5py

    watched = _Watched(file)
    n = 0
    try:
        with h5py.File(watched, "w") as h5:
            for vector_nD in vectors:
                for vector_D in vector_nD.astype(np.float32):
                    try:
                        group = h5.require_group(paths[n])  # there if a.jpg/b.jpg came first
                        group.create_dataset("global_descriptor", data=vector_D)
                    except (ValueError, TypeError) as error:
                        raise ParameterError(
                            f"{paths[n]!r} cannot be the name of a group in .h5 ({error}): export "
                            "to another format"
                        ) from error
                    n += 1
                if watched.error is not None:
                    break
    finally:  # whatever HDF5 makes of it
        if watched.error is not None:
            raise watched.error


class _Watched:
    """A file that remembers what went wrong, and goes on as if it had not.

    HDF5 writes much of a file when its objects are freed, where h5py can only print an error: a
    full disk left a broken file and no exception (h5py 3.16).
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def _tried(self, call: Callable[[], int | None], otherwise: int) -> int:
        try:
            return call() or 0
        except OSError as error:
            self.error = self.error or error
            return otherwise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._tried(lambda: self._file.seek(offset, whence), offset)

    def tell(self) -> int:
        return self._tried(self._file.tell, 0)

    def write(self, data: bytes) -> int:
        return self._tried(lambda: self._file.write(data), len(data))

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.error = self.error or error
            return bytes(size)

    def truncate(self, size: int) -> int:
        return self._tried(lambda: self._file.truncate(size), size)

    def flush(self) -> None:
        self._tried(self._file.flush, 0)
