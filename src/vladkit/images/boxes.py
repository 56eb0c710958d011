"""HEIC and AVIF files, in boxes (ISO 14496-12, 23008-12): sizes, which way up, and EXIF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vladkit.errors import ImageError
from vladkit.images.av1 import coded_size
from vladkit.images.directory import Parts

__all__ = ["BoxedImage", "read_boxes", "walk_boxes"]

_ORIENTATIONS: Final = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip
"""EXIF orientation of quarter turns to the left, and then a mirror: 0 swaps top and bottom, 1 left
and right."""


@dataclass(frozen=True, slots=True)
class BoxedImage:
    """Main image of a file of boxes.

    Parameters
    ----------
    codec : str
        "hvc1" or "av01".
    width, height : int
        px of the largest image that the file states.
    coded : int
        Number of px of the largest frame that an AV1 decoder would make.
    n_bits : int
        Bits of a sample.
    orientation : int
        As of EXIF, from the rotation and mirroring that the file states.
    exif : bytes
        EXIF block, or empty.
    """

    codec: str
    width: int
    height: int
    coded: int
    n_bits: int
    orientation: int
    exif: bytes


class _Fields:
    """Numbers of a box, one after the other, up to its end."""

    def __init__(self, data: bytes, begin: int, end: int) -> None:
        self._data = data[begin:end]
        self._at = 0
        self.version = 0
        self.flags = 0

    def full(self) -> _Fields:
        """These fields, with version and flags taken."""
        self.version, *high, low = self.take("BBBB")
        self.flags = high[0] << 16 | high[1] << 8 | low
        return self

    def take(self, letters: str) -> tuple[int, ...]:
        values = struct.unpack_from(">" + letters, self._data, self._at)
        self._at += struct.calcsize(">" + letters)
        return values

    def one(self, letter: str) -> int:
        return self.take(letter)[0]

    def sized(self, n_bytes: int) -> int:
        """A whole number of 0, 4 or 8 bytes."""
        return self.one({4: "I", 8: "Q"}[n_bytes]) if n_bytes else 0


class _Meta:
    """Items of a file: kinds, places, and properties."""

    def __init__(self, kind: str, data: bytes) -> None:
        self._kind, self._data = kind, data
        self.parts = Parts(kind, 4 * len(data))  # boxes lie within boxes
        self.main = 0
        self.kinds: dict[int, bytes] = {}
        self._places: dict[int, list[tuple[int, int]]] = {}
        self.properties: list[tuple[bytes, bytes]] = []
        self.of_main: list[int] = []
        self._described: dict[int, set[int]] = {}
        found = [(b, e) for name, b, e in self._boxes(0, len(data)) if name == b"meta"]
        if not found:
            raise ImageError(f"damaged {kind}: no image in it")
        boxes = {name: (b, e) for name, b, e in self._boxes(found[0][0] + 4, found[0][1])}
        try:
            fields = self._fields(boxes[b"pitm"])
            self.main = fields.one("I" if fields.version else "H")
            self._read_kinds(boxes[b"iinf"])
            self._read_places(boxes[b"iloc"], boxes.get(b"idat", (0, 0)))
            self._read_properties(boxes[b"iprp"])
            if b"iref" in boxes:
                self._read_references(boxes[b"iref"])
        except KeyError as error:
            raise ImageError(f"damaged {kind}: its boxes do not say what is in it") from error

    def content(self, item: int) -> bytes:
        """Bytes of an item; each is asked for once."""
        pieces = []
        for begin, end in self._places.get(item, ()):
            self.parts.add(end - begin)
            pieces.append(self._data[begin:end])
        return b"".join(pieces)

    def describes_main(self, item: int) -> bool:
        """Whether an item of EXIF is that of the main image: also where the file does not say."""
        return self.main in self._described.get(item, {self.main})

    def _boxes(self, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        return walk_boxes(self._kind, self._data, at, end, self.parts)

    def _fields(self, box: tuple[int, int]) -> _Fields:
        return _Fields(self._data, *box).full()

    def _read_kinds(self, box: tuple[int, int]) -> None:
        fields = self._fields(box)
        for _, begin, end in self._boxes(box[0] + (8 if fields.version else 6), box[1]):
            entry = self._fields((begin, end))
            item = entry.one("I" if entry.version >= 3 else "H")
            self.kinds[item] = struct.pack(">I", entry.take("HI")[1])

    def _read_places(self, box: tuple[int, int], own: tuple[int, int]) -> None:
        fields = self._fields(box)
        sizes, more = fields.take("BB")
        wide = "I" if fields.version >= 2 else "H"
        for _ in range(fields.one(wide)):
            item = fields.one(wide)
            method = fields.one("H") & 15 if fields.version else 0
            fields.one("H")
            base = fields.sized(more >> 4)
            places = self._places[item] = []
            for _ in range(fields.one("H")):
                self.parts.add(1)
                if fields.version:
                    fields.sized(more & 15)
                begin = base + fields.sized(sizes >> 4) + (own[0] if method == 1 else 0)
                length = fields.sized(sizes & 15)
                last = own[1] if method == 1 else len(self._data)
                end = begin + length if length else last
                if method > 1 or end > last:
                    raise ImageError(f"truncated {self._kind}: pixels lie past the end")
                places.append((begin, end))

    def _read_properties(self, box: tuple[int, int]) -> None:
        for name, begin, end in self._boxes(*box):
            if name == b"ipco":
                boxes = self._boxes(begin, end)
                self.properties += [(kind, self._data[b:e]) for kind, b, e in boxes]
            elif name == b"ipma":
                fields = self._fields((begin, end))
                wide = "H" if fields.flags & 1 else "B"
                for _ in range(fields.one("I")):
                    item = fields.one("I" if fields.version else "H")
                    self.parts.add(1)
                    indices = fields.take(wide * fields.one("B"))
                    if item == self.main:
                        self.of_main += [i & (0x7FFF if wide == "H" else 0x7F) for i in indices]

    def _read_references(self, box: tuple[int, int]) -> None:
        wide = "I" if self._fields(box).version else "H"
        for name, begin, end in self._boxes(box[0] + 4, box[1]):
            if name == b"cdsc":  # content description
                fields = _Fields(self._data, begin, end)
                item, n = fields.one(wide), fields.one("H")
                self._described.setdefault(item, set()).update(fields.take(wide * n))


def walk_boxes(
    kind: str, data: bytes, at: int, end: int, parts: Parts
) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each box within a part of a file; ImageError if one lies past it."""
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        elif size == 0:
            size = end - at
        if size < head or at + size > end:
            raise ImageError(f"truncated {kind}: a box lies past the end")
        parts.add(size)
        yield name, at + head, at + size
        at += size


def read_boxes(kind: str, data: bytes) -> BoxedImage:
    """Walk the boxes of a HEIC or AVIF file; all that it holds must lie within it.

    Raises
    ------
    ImageError
        The file is truncated or damaged, or its main image is coded in another way.
    """
    meta = _Meta(kind, data)
    kinds = set(meta.kinds.values())
    main = meta.kinds.get(meta.main, b"")
    coded_as = kinds if main == b"grid" else {main}
    codec = next((each for each in (b"hvc1", b"av01") if each in coded_as), b"")
    if not codec:
        shown = main.decode("latin-1")
        raise ImageError(f"{kind} of kind {shown!r} is not supported: convert it to JPEG or PNG")
    sizes = [struct.unpack_from(">4xII", body) for name, body in meta.properties if name == b"ispe"]
    coded, exif = 0, b""
    for item, each in meta.kinds.items():
        if each == b"grid":
            fields = _Fields(meta.content(item), 0, 20)
            _, flags, *_ = fields.take("BBBB")
            sizes.append(fields.take("II" if flags & 1 else "HH"))
        elif each == b"av01":
            coded = max(coded, coded_size(meta.content(item), meta.parts))
        elif each == b"Exif" and not exif and meta.describes_main(item):
            block = meta.content(item)
            exif = block[4 + int.from_bytes(block[:4]) :]
    if not sizes:
        raise ImageError(f"damaged {kind}: no size in it")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    turns, mirror = 0, None
    for index in meta.of_main:
        name, body = meta.properties[index - 1] if index else (b"", b"")
        if name == b"irot":
            turns = body[0] & 3
        elif name == b"imir":
            mirror = body[0] & 1
    n_bits = max((_bits(*each) for each in meta.properties), default=8)
    orientation = _ORIENTATIONS[turns, mirror]
    return BoxedImage(codec.decode(), width, height, coded, n_bits, orientation, exif)


def _bits(kind: bytes, body: bytes) -> int:
    """Bits of a sample, of a property that says so."""
    if kind == b"hvcC":
        return 8 + (body[17] & 7)
    if kind == b"av1C":
        return (8, 8, 10, 12)[body[2] >> 5 & 3]
    return 8
