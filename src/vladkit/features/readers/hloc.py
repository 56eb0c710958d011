"""hloc's ``features.h5``: one HDF5 group for each image.

The group's path is the image's, so ``a/b.jpg`` nests. In it ``descriptors`` (D, N);
``keypoints`` (N, 2), in px of the original image with the origin at the centre of the top-left
px, as ours; ``scores`` (N,) and ``image_size`` (width, height), where the extractor gave them;
``scales`` and ``oris`` (degrees) from some extractors. float16 is common.
Or one vector for each image, ``global_descriptor`` (D,), as hloc's ``extract_features`` writes them
for retrieval.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import numpy as np

from vladkit.errors import FileFormatError, ImageError, MissingDependencyError, StorageError
from vladkit.features.readers.reader import HEAD_BYTES, Reader, SourceInfo, digest, features_from
from vladkit.features.types import Features

__all__ = ["HlocReader"]

_SAMPLED: Final = 8
"""Number of images that tell the layout of a file: each group takes a millisecond to open."""

_DEEPEST: Final = 100
"""Most groups within each other, of names with folders: HDF5's time grows with their square."""

_GLOBAL: Final = "global_descriptor"

_TAKEN: Final = (errno.EAGAIN, errno.EACCES)
"""Error numbers of a lock that another program has."""


class HlocReader(Reader):
    """Features in hloc's layout; `descriptor_lf` is (N, D), in the dtype of the file.

    Local features where it holds such; else, or with `vectors`, the global descriptors.
    """

    kind = "hloc"

    def __init__(self, path: str | os.PathLike[str], *, vectors: bool = False) -> None:
        super().__init__(path)
        self._is_global = vectors
        try:
            import h5py
        except ImportError as error:
            raise MissingDependencyError("hloc: needs h5py: pip install 'vladkit[hloc]'") from error
        self._dataset, self._group = h5py.Dataset, h5py.Group
        if os.path.isdir(self.path):
            raise FileFormatError(f"{self.path} is a folder, wanted hloc's features.h5")
        try:
            with open(self.path, "rb") as file:
                if not file.read(1):
                    raise FileFormatError(f"{self.path} is empty, wanted hloc's features.h5")
            self._file = _opened(h5py, self.path)
        except OSError as error:
            if isinstance(error, FileFormatError):
                raise
            if "unable to lock" in str(error):
                raise StorageError(
                    f"cannot read {self.path}: another program has it open for writing: run again "
                    "when that has ended"
                    if error.errno in _TAKEN
                    else f"cannot read {self.path}: its file system has no locks: set "
                    "HDF5_USE_FILE_LOCKING=FALSE"
                ) from error
            if error.errno is not None:
                raise StorageError(f"cannot read {self.path}: {error.strerror}") from error
            raise FileFormatError(f"{self.path}: {_reason(error)}") from error
        try:
            with self._whole_file():
                self._names = sorted(self._images())
            self._info = self._look()
        except BaseException:
            self._file.close()
            raise

    def _images(self) -> list[str]:
        """Paths of the groups that hold no groups, or features beside such; `read` checks them.

        Found from paths alone as far as possible: to open 5,000 groups took 6.7 s, to list their
        paths 0.6 s. A link to a group within the file is one more name of that; one that leads
        nowhere or to another file is a name, too, which `read` refuses.
        """
        paths: set[str] = set()

        def note(path: str) -> None:
            if path.count("/") > _DEEPEST:
                raise ValueError(f"groups are nested more than {_DEEPEST} deep")
            paths.add(path)

        self._file.visit(note)  # one path of each object
        objects = set(paths)
        self._file.visit_links(note)  # and the others
        full = {path.rpartition("/")[0] for path in paths}
        linked = {p: self._class_behind(p) for p in paths - objects}
        full |= {path for path, found in linked.items() if found is self._group}
        outer = {path.rpartition("/")[0] for path in full if path}
        # what is empty may be a group, of a writer that was killed, or an array
        alone = [p for p in paths if p not in full and p.rpartition("/")[0] in outer | {""}]
        empty = [p for p in alone if p in objects and self._class_behind(p) is self._group]
        self._lost = {p for p in alone if p in linked and linked[p] is None}
        arrays = paths - full
        both = {p for p in outer if {f"{p}/descriptors", f"{p}/{_GLOBAL}"} & arrays}
        return [*(full - (outer - both) - {""}), *empty, *self._lost]

    def _class_behind(self, path: str) -> Any:
        """Class of an object of the file; None where a link leads nowhere or to another file."""
        if _leads_outside(self._file, path):
            return None
        is_link = type(self._file.get(path, getlink=True)).__name__ == "SoftLink"
        if is_link and self._file.get(path) is None:  # its class would be a RuntimeError
            return None
        return self._file.get(path, getclass=True)

    def _look(self) -> SourceInfo:
        with self._whole_file():
            if not self._names and any(isinstance(v, self._dataset) for v in self._file.values()):
                raise FileFormatError(f"{self.path}: no group for each image: not hloc's layout")
            full = (
                self._file[n]
                for n in self._names
                if not (self._is_global or n in self._lost) and all(_shape(self._file[n]))
            )
            if some := list(islice(full, _SAMPLED)):
                self._check_layout(some)
                group = some[0]
                return SourceInfo(
                    features="hloc",
                    dimensions=_shape(group)[0],
                    compare="unit",
                    places="keypoints" in group,
                    directions="oris" in group,
                    sizes="scales" in group,
                    image_sizes="image_size" in group,
                )
            if n_dimensions := self._global_dimensions():
                self._is_global = True
                return SourceInfo("hloc-global", n_dimensions, "unit", places=False)
            first = next((n for n in self._names if n not in self._lost), None)
            found = ", ".join(self._file[first]) if first else "nothing"
        wanted = "local features, datasets descriptors (D, N) and keypoints (N, 2) for each image"
        either = f"{wanted}; or global descriptors, a dataset global_descriptor (D,)"
        if self._is_global:
            either = "global descriptors, a dataset global_descriptor (D,) for each image"
        raise FileFormatError(
            f"{self.path} holds no {'vectors' if self._is_global else 'descriptors'} (an image "
            f"has {found}): wanted hloc's {either}"
        )

    def _global_dimensions(self) -> int:
        """Dimension of global descriptors, that of most of the first; 0 if there are none.

        Raises
        ------
        FileFormatError
            If all of these have another shape.
        """
        groups = (self._file[n] for n in self._names if n not in self._lost)
        with_one = (group for group in groups if _GLOBAL in group)
        some = [(g.name[1:], _inside(g, _GLOBAL).shape) for g in islice(with_one, _SAMPLED)]
        sizes = [shape[0] for _, shape in some if len(shape) == 1 and shape[0]]
        if some and not sizes:
            name, shape = some[0]
            raise FileFormatError(
                f"{self.path}: {_GLOBAL} of {name} has shape {shape}, wanted (D,), one vector for "
                "an image: write each array's .ravel()"
            )
        return max(sizes, key=sizes.count, default=0)

    def _check_layout(self, groups: list[Any]) -> None:
        """Raise FileFormatError if arrays are transposed, by the first group that can tell.

        The number of keypoints tells; without any the axis whose length varies. Where neither does,
        as with as many features as dimensions, it is hloc's layout.
        """
        for group in groups:
            (a, b), (n, two) = _shape(group), _shape(group, "keypoints")
            what = "descriptors" if n == a != b and two == 2 else ""
            what = "keypoints" if n == 2 != two and two in (a, b) else what
            if what:
                self._refuse_transposed(what, group)
            if n == b != a:
                return
        shapes = [_shape(group) for group in groups]
        rows, columns = (len(set(sizes)) for sizes in zip(*shapes, strict=True))
        if "keypoints" not in groups[0] and columns == 1 < rows:
            self._refuse_transposed("descriptors", groups[0])

    def _refuse_transposed(self, what: str, group: Any) -> None:
        raise FileFormatError(
            f"{self.path} holds {what} that are transposed ({group.name[1:]} has "
            f"{_shape(group, what)}): wanted (D, N), and keypoints (N, 2): write each array's .T"
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def info(self) -> SourceInfo:
        """Kind and contents of the source, told from its first image that has features."""
        return self._info

    def names(self) -> list[str]:
        """Names of all images, sorted."""
        return self._names

    def status(self, name: str) -> tuple[int, int]:
        """Bytes of the image's features, and a digest of them."""
        found: list[Any] = []
        n_bytes = 0
        with self._lock:
            for part in (_GLOBAL,) if self._is_global else ("descriptors", "keypoints"):
                try:
                    data = _inside(_inside(self._file, name), part)
                    is_full = data.size and data.dtype.kind != "O"
                    rows = max(1, HEAD_BYTES // max(1, data[:1].nbytes)) if is_full else 0
                    head = np.ascontiguousarray(data[:rows]).tobytes() if rows else b""
                except (KeyError, OSError, ValueError, TypeError) as error:
                    found.append(type(error).__name__)  # `read` raises it
                    continue
                found += [str(data.shape), str(data.dtype), head]
                n_bytes += (data.size or 0) * data.dtype.itemsize
        return n_bytes, digest(*found)

    def read(self, name: str) -> Features:
        """Read the features of one image."""
        if self._is_global:
            return self._read_global(name)
        with self._lock:
            try:
                group = _inside(self._file, name)
                parts = {
                    part: np.asarray(_inside(group, part)[()])
                    for part in ("descriptors", "keypoints", "scores", "scales", "oris")
                    if part in group
                }
                size = (
                    np.asarray(_inside(group, "image_size")[()]) if "image_size" in group else None
                )
            except (KeyError, OSError, ValueError, TypeError) as error:
                raise ImageError(f"cannot be read: {_reason(error)}") from error
        if "descriptors" not in parts:
            raise ImageError(f"its group has no descriptors, but {', '.join(parts) or 'nothing'}")
        descriptor_fl = parts["descriptors"]
        if descriptor_fl.ndim != 2:
            raise ImageError(f"its descriptors have shape {descriptor_fl.shape}, wanted (D, N)")
        if descriptor_fl.shape[0] != self._info.dimensions and (
            descriptor_fl.shape[1] == self._info.dimensions
        ):
            raise ImageError(
                f"its descriptors are transposed: shape {descriptor_fl.shape}, those of others "
                f"have ({self._info.dimensions}, N)"
            )
        return features_from(
            np.ascontiguousarray(descriptor_fl.T),
            parts.get("keypoints"),
            size_l=parts.get("scales"),
            angle_l=parts.get("oris"),
            score_l=parts.get("scores"),
            image_size=size,
        )

    def _read_global(self, name: str) -> Features:
        with self._lock:
            try:
                group = {} if self._class_behind(name) is None else self._file[name]
                if _GLOBAL not in group:
                    # the file may have it when it is asked again
                    no_vector = f"{os.path.basename(self.path)} has no vector of it"
                    raise ImageError(no_vector, transient=True)
                data = np.asarray(_inside(group, _GLOBAL)[()])
            except (KeyError, OSError, ValueError, TypeError) as error:
                if isinstance(error, ImageError):
                    raise
                raise ImageError(f"cannot be read: {_reason(error)}") from error
        if data.ndim != 1 or data.dtype.kind not in "fiu":
            raise ImageError(
                f"its {_GLOBAL} has shape {data.shape} and dtype {data.dtype}, wanted (D,) numbers"
            )
        with np.errstate(over="ignore"):
            vector_D = data.astype(np.float32)
        if not np.isfinite(vector_D).all():
            raise ImageError("its vector holds NaN or infinity, or exceeds float32")
        if not vector_D.any():
            raise ImageError("its vector is all zeros")
        return Features.of_vector(vector_D, 0, 0)  # of unknown size

    @contextmanager
    def _whole_file(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, KeyError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(f"{self.path}: {_reason(error)}") from error


def _opened(h5py: Any, path: str) -> Any:
    """Open a file for reading, without a lock where the file system has none."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "unable to lock" not in str(error) or error.errno in _TAKEN:
            raise
        return h5py.File(path, "r", locking=False)


def _inside(group: Any, part: str) -> Any:
    """Object in a group; OSError if its values are in another file, which is not followed."""
    outside = _leads_outside(group, part)
    data = None if outside else group[part]
    if outside or getattr(data, "external", None) or getattr(data, "is_virtual", False):
        raise OSError(f"{part} is kept in another file, which is not read")
    return data


def _leads_outside(group: Any, path: str, hops: int = 16) -> bool:
    """Whether a path leads to another file, by way of any link; or through too many of them."""
    at = group.name.rstrip("/")
    for name in path.strip("/").split("/"):
        link = group.get(f"{at}/{name}", getlink=True)
        kind = type(link).__name__
        if kind == "ExternalLink":
            return True
        if kind == "SoftLink":
            start = "/" if link.path.startswith("/") else f"{at}/"
            if not hops or _leads_outside(group[start], link.path, hops - 1):
                return True
        at = f"{at}/{name}"
    return False


def _shape(group: Any, part: str = "descriptors") -> tuple[int, int]:
    """Shape of a matrix of numbers in a group; zeros without one."""
    data: Any = _inside(group, part) if part in group else None
    shape: tuple[int, ...] = getattr(data, "shape", None) or ()
    is_matrix = len(shape) == 2 and data.dtype.kind in "fiu"
    return (int(shape[0]), int(shape[1])) if is_matrix else (0, 0)


def _reason(error: BaseException) -> str:
    text = str(error)
    if "truncated" in text:
        return "truncated HDF5 file"
    if "signature not found" in text:
        return "not an HDF5 file"
    return f"damaged HDF5 file: {text}"
