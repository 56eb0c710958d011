"""NumPy's files: a folder with one for each image, or one .npz or .npy for all.

Nothing is unpickled. In a folder a ``.npy`` is an image's descriptors (l, f); a ``.npz`` has them
as ``descriptors``, and optionally ``keypoints`` (l, 2), ``sizes``, ``angles`` (degrees),
``scores`` (l,) and ``image_size`` (width, height). One ``.npz`` for all has them stacked, (N, f)
and so on, ``image_size`` (t, 2), with ``offsets`` (t + 1,) or ``lengths`` (t,) and ``names`` (t,);
or has only an array of descriptors for each name. One ``.npy`` has its offsets beside it, see
`vladkit.features.readers.stacked`.
"""

from __future__ import annotations

import os
import zipfile
from typing import Any, BinaryIO, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.errors import FileFormatError, ImageError, StorageError
from vladkit.features.readers.folder import FolderReader
from vladkit.features.readers.reader import HEAD_BYTES, Reader, SourceInfo, digest, features_from
from vladkit.features.readers.stacked import (
    StackedReader,
    checked_names,
    checked_start,
    numbered,
    rows_beside,
    starts_of,
)
from vladkit.features.types import Features

__all__ = ["ArchiveReader", "ArrayFolder", "NpyReader", "StackedNpzReader", "open_arrays"]

_BESIDE: Final = {
    "keypoints": "xy_l2",
    "sizes": "size_l",
    "angles": "angle_l",
    "scores": "score_l",
}

_MOST_PACKED: Final = 2**28
"""Most bytes of a compressed array, which has to be read whole: 256 MB."""


def open_arrays(path: str | os.PathLike[str]) -> Reader:
    """Open a folder or a file with the reader that fits.

    Raises
    ------
    FileFormatError
        If no reader fits.
    StorageError
        If it cannot be read.
    """
    where = os.fspath(path)
    if os.path.isdir(where):
        return ArrayFolder(where)
    if where.lower().endswith(".npy"):
        return NpyReader(where)
    members = _Archive(where).members
    return StackedNpzReader(where) if "descriptors" in members else ArchiveReader(where)


class _Archive:
    """A .npz file, read an array at a time; uncompressed ones are mapped."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._info = {i.filename: i for i in archive.infolist()}
        except FileNotFoundError as error:
            raise StorageError(f"cannot read {path}: there is no such file") from error
        except (OSError, zipfile.BadZipFile) as error:
            raise FileFormatError(f"{path} is not a .npz file: {error}") from error
        self.members = [n.removesuffix(".npy") for n in self._info if n.endswith(".npy")]

    def _opened(self, name: str) -> zipfile.ZipExtFile:
        """A member, open for reading.

        `zipfile.ZipFile` would read the directory again for each: hours for 20,000 of them.
        """
        info = self._info[name]
        if info.flag_bits & 1:
            raise ValueError("it is encrypted")
        file = open(self.path, "rb")  # noqa: SIM115
        try:
            file.seek(_data_offset(file, info))
            return zipfile.ZipExtFile(file, "r", info, None, True)
        except BaseException:
            file.close()
            raise

    def array(self, member: str) -> AnyArray:
        """Read an array of the archive; FileFormatError if it is damaged or pickled."""
        name = f"{member}.npy"
        try:
            with self._opened(name) as file:
                shape, order, dtype = _header(file)
                if dtype.hasobject:
                    raise FileFormatError(
                        f"{self.path}: {member} holds Python objects, which are never unpickled: "
                        "save plain arrays, and offsets for images of several sizes"
                    )
                info = self._info[name]
                if info.compress_type == zipfile.ZIP_STORED:
                    with open(self.path, "rb") as raw:
                        start = _data_offset(raw, info) + file.tell()
                    if not np.prod(shape):
                        return np.empty(shape, dtype)
                    mapped: AnyArray = np.memmap(
                        self.path, dtype, "r", start, shape, "F" if order else "C"
                    )
                    return mapped
                if info.file_size > _MOST_PACKED:
                    raise FileFormatError(
                        f"{self.path}: {member} is compressed and {info.file_size / 1e6:.0f} MB: "
                        "save it with numpy.savez, which can be read in pieces"
                    )
                data = np.frombuffer(file.read(), dtype)
                return data.reshape(shape, order="F" if order else "C")
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(f"{self.path}: {member} is damaged: {error}") from error

    def shape(self, member: str) -> tuple[tuple[int, ...], Any]:
        """Shape and dtype of an array, without reading it."""
        with self._opened(f"{member}.npy") as file:
            shape, _, dtype = _header(file)
        return shape, dtype


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _data_offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Offset of a member's bytes in the file: after its local header, of any length."""
    file.seek(info.header_offset)
    head = file.read(30)
    if head[:4] != b"PK\x03\x04":
        raise ValueError("no zip entry where the directory says")
    return (
        info.header_offset
        + 30
        + int.from_bytes(head[26:28], "little")
        + int.from_bytes(head[28:30], "little")
    )


def _matrix_of(array: AnyArray, where: str) -> AnyArray:
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind not in "fiu":
        raise FileFormatError(
            f"{where} has shape {array.shape} and dtype {array.dtype}, wanted (N, f) numbers"
        )
    return array


class NpyReader(StackedReader):
    """One .npy (N, f), mapped, with its offsets beside."""

    kind = "npz"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        try:
            local_Nf = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror or error}") from error
        except (ValueError, EOFError) as error:
            raise FileFormatError(f"{self.path} is not a plain .npy file: {error}") from error
        local_Nf = _matrix_of(local_Nf, self.path)
        self._stack(local_Nf, *rows_beside(self.path, len(local_Nf)))


class StackedNpzReader(StackedReader):
    """One .npz of stacked arrays."""

    kind = "npz"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        archive = _Archive(self.path)
        local_Nf = _matrix_of(archive.array("descriptors"), f"{self.path}: descriptors")
        if "offsets" in archive.members:
            start = archive.array("offsets")
        elif "lengths" in archive.members:
            start = starts_of(archive.array("lengths"))
        else:
            raise FileFormatError(
                f"{self.path} has descriptors and neither offsets (t + 1,) nor lengths (t,): add "
                "one, to tell which rows belong to which image"
            )
        start_T = checked_start(start, len(local_Nf), self.path)
        t = len(start_T) - 1
        names = numbered(t)
        if "names" in archive.members:
            names = checked_names(archive.array("names").astype(str).tolist(), t, self.path)
        columns = {
            ours: archive.array(theirs)
            for theirs, ours in _BESIDE.items()
            if theirs in archive.members
        }
        for what, array in columns.items():
            if array.shape[:1] != (len(local_Nf),):
                raise FileFormatError(
                    f"{self.path}: {what} has {array.shape} for {len(local_Nf)} descriptors"
                )
        image_size_t2 = None
        if "image_size" in archive.members:
            image_size_t2 = archive.array("image_size")
            if image_size_t2.shape != (t, 2):
                raise FileFormatError(
                    f"{self.path}: image_size has shape {image_size_t2.shape}, wanted ({t}, 2): "
                    "width and height of each image"
                )
        self._stack(local_Nf, names, start_T, image_size_t2, **columns)


class ArchiveReader(Reader):
    """One .npz with an array of descriptors for each image, called as the image is."""

    kind = "npz"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._archive = _Archive(self.path)
        if not self._archive.members:
            raise FileFormatError(f"{self.path} holds no arrays")

    def info(self) -> SourceInfo:
        """Kind and contents of the source, told from its first image that has features."""
        for name in self.names():
            shape, dtype = self._archive.shape(name)
            if len(shape) == 2 and shape[0] and shape[1] and dtype.kind in "fiu":
                return SourceInfo(self.kind, shape[1], "as-is", places=False)
        raise FileFormatError(
            f"{self.path} holds {', '.join(self._archive.members[:5])}: wanted descriptors (N, f) "
            "with offsets, or an array (l, f) for each image"
        )

    def names(self) -> list[str]:
        """Names of all images, sorted."""
        return sorted(self._archive.members)

    def status(self, name: str) -> tuple[int, int]:
        """Bytes of the image's features, and a digest of them."""
        try:
            array = self._archive.array(name)
        except FileFormatError:
            return -1, -1
        head = array.reshape(-1)[: HEAD_BYTES // array.dtype.itemsize]
        return array.nbytes, digest(str(array.shape), str(array.dtype), head.tobytes())

    def read(self, name: str) -> Features:
        """Read the features of one image."""
        try:
            return features_from(np.array(self._archive.array(name)))
        except FileFormatError as error:
            raise ImageError(str(error).removeprefix(f"{self.path}: ")) from error


class ArrayFolder(FolderReader):
    """A .npy or .npz for each image."""

    kind = "npz"
    ends = (".npy", ".npz")

    def describe(self, features: Features) -> SourceInfo:
        """Contents of the folder, told from the features of one image."""
        first = next(name for name in self.names() if self._found_in(name) is not None)
        found = self._found_in(first) or {}
        return SourceInfo(
            self.kind,
            features.descriptor_lf.shape[1],
            "as-is",
            places="keypoints" in found,
            directions="angles" in found,
            sizes="sizes" in found,
            image_sizes="image_size" in found,
        )

    def _found_in(self, name: str) -> dict[str, AnyArray] | None:
        try:
            return self._arrays(name)
        except ImageError:
            return None

    def _arrays(self, name: str) -> dict[str, AnyArray]:
        path = self.file(name)
        try:
            with open(path, "rb") as raw:  # np.load leaves a damaged file open
                loaded = np.load(raw, allow_pickle=False)
                if isinstance(loaded, np.ndarray):
                    return {"descriptors": loaded}
                return {each: loaded[each] for each in loaded.files}
        except FileNotFoundError as error:
            raise ImageError("cannot read: it has gone", transient=True) from error
        except PermissionError as error:
            raise ImageError(f"cannot read: {error.strerror}", transient=True) from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ImageError(f"not a plain array file: {error}") from error

    def read(self, name: str) -> Features:
        """Read the features of one image."""
        arrays = self._arrays(name)
        if "descriptors" not in arrays:
            raise ImageError(f"no array descriptors (l, f), but {', '.join(arrays) or 'none'}")
        return features_from(
            arrays["descriptors"],
            arrays.get("keypoints"),
            size_l=arrays.get("sizes"),
            angle_l=arrays.get("angles"),
            score_l=arrays.get("scores"),
            image_size=arrays.get("image_size"),
        )
