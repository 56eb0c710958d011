"""Rows of a collection file: sources, images, and all that is kept of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vladkit.core.arrays import AnyArray
from vladkit.core.codes import Codes
from vladkit.core.remote import joined
from vladkit.images.exif import Photo

__all__ = ["LONGEST_PATH", "ImageRow", "KeptFeatures", "Record", "Source"]

LONGEST_PATH: Final = 32_767
"""Most letters of a path: Windows' limit; elsewhere it is 4,096."""


@dataclass(frozen=True, slots=True)
class Source:
    """Folder that indexed paths are relative to; or a file of the features of such images.

    ``root`` is absolute, where it is found now, or a URL; ``name`` as it was given. ``images`` is
    the folder of the images whose features the file has, if that is known. ``is_own`` is whether
    this user gave the folder, see `vladkit.store.trust`.
    """

    source_id: int
    root: str
    name: str
    images: str | None = None
    is_own: bool = True

    @property
    def folder(self) -> str:
        """Folder of the images, where it is found now."""
        return self.images or self.root


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of a collection, without its vector.

    ``n_bytes`` and ``mtime_ns`` of the file when it was read tell whether it has changed;
    ``width`` and ``height`` are px after EXIF orientation. ``skipped`` is the reason why it
    has no vector, or None; ``transient`` that the reason may pass. ``image_id`` is 0 for a
    row that is not stored yet; ``folder`` is where ``path`` is found now.
    """

    source_id: int
    path: str
    n_bytes: int
    mtime_ns: int
    width: int | None = None
    height: int | None = None
    n_local: int | None = None
    skipped: str | None = None
    transient: bool | int = False  # SQLite has no other bool than 0 and 1
    image_id: int = 0
    folder: str = ""

    @property
    def file(self) -> str:
        """The image's file, absolute, where it is found now; or its URL."""
        return joined(self.folder, self.path)


@dataclass(frozen=True, slots=True, eq=False)
class KeptFeatures:
    """Local features of one image, strongest first.

    ``descriptor_lf`` as the extractor gave them, or codes (l, b) uint8 if ``is_coded``: the
    geometry is then rounded, see `vladkit.store.geometry`. ``geometry_l5`` float32: x, y and size
    in px of the original image, angle in degrees, score (see `vladkit.features.Features`).
    ``width`` and ``height`` are those of the image's row. ``packed`` is the geometry as it is
    stored, where that was made already; ``geometry_l5`` is not looked at then.
    """

    descriptor_lf: AnyArray
    geometry_l5: AnyArray
    width: int
    height: int
    is_coded: bool = False
    packed: bytes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """All that is kept of an image: `vector_D` is None for one that is skipped."""

    row: ImageRow
    vector_D: AnyArray | None = None
    features: KeptFeatures | None = None
    sums: tuple[AnyArray, AnyArray] | None = None  # residual_kf float32, count_k int32
    lifted: bool = False  # see `vladkit.features.Features`
    codes: Codes | None = None  # of one image
    photo: Photo | None = None  # None: it has no EXIF that could be read
    whole_D: AnyArray | None = None  # beside a short one, see `vladkit.store.whole`
