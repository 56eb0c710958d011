"""Weights that an ONNX model keeps in files beside it, as models of more than 2 GB have to.

Only the names of these files are read here, from the few messages of ONNX's protobuf schema
(onnx.proto3) in which they stand; ONNX Runtime reads the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["weight_files"]

_PARTS: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}  # fmt: skip
"""Numbers of the fields of each message that lead to names of files."""

_DEPTH: Final = 64
"""Most messages within each other: graphs may hold graphs."""


def weight_files(model: bytes) -> list[str]:
    """Names of the files that a model's weights are in, sorted; empty if all are in the model.

    Raises
    ------
    ValueError
        If this is no message of protobuf.
    """
    return sorted(set(_names(memoryview(model), "model", 0)))


def _names(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        raise ValueError("graphs are nested too deep")
    if kind == "entry":
        entry = {number: bytes(value) for number, value in _fields(message)}
        if entry.get(1) == b"location":
            yield entry.get(2, b"").decode()
        return
    for number, value in _fields(message):
        part = _PARTS[kind].get(number)
        if part is not None:
            yield from _names(value, part, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers and bytes of the fields that are texts, blobs or messages; others are passed over."""
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        match key & 7:
            case 0:
                _, place = _varint(message, place)
            case 1:
                place += 8
            case 2:
                size, begin = _varint(message, place)
                place = begin + size
                if place <= end:
                    yield key >> 3, message[begin:place]
            case 5:
                place += 4
            case kind:
                raise ValueError(f"a field of kind {kind}")
    if place != end:
        raise ValueError("cut off")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if place + i >= len(message):
            raise ValueError("cut off")
        byte = message[place + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, place + i + 1
    raise ValueError("a number of more than 64 bits")
