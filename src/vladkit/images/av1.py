"""AV1: the size that a decoder makes of coded bytes, whatever the file around them says."""

from __future__ import annotations

from vladkit.images.directory import Parts

__all__ = ["coded_size"]


class _Bits:
    """Bits of bytes, the highest first; IndexError past the end."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, n: int) -> int:
        self._left -= n
        if self._left < 0:
            raise IndexError("past the end")
        return self._number >> self._left & ((1 << n) - 1)


def coded_size(data: bytes, parts: Parts) -> int:
    """Number of px of the largest frame that the sequence headers of an AV1 stream allow for.

    `parts` counts the units of the stream. IndexError if it is cut short.

    References
    ----------
    AV1 Bitstream & Decoding Process Specification, 5.3 and 5.5.
    """
    most = at = 0
    while at < len(data):
        head, length = data[at], 0
        at += 2 if head & 4 else 1  # with an extension
        if head & 2:  # with a size, 7 bits a byte
            for i in range(8):
                byte = data[at]
                at += 1
                length |= (byte & 127) << 7 * i
                if byte < 128:
                    break
        else:
            length = len(data) - at
        parts.add(0)
        if head >> 3 & 15 == 1:
            most = max(most, _frame_size(data[at : min(at + length, at + 512)]))
        at += length
    return most


def _frame_size(header: bytes) -> int:
    """Largest frame of a sequence header, in px."""
    bits = _Bits(header)
    bits.take(4)  # profile, and whether it is a still
    if bits.take(1):  # reduced
        bits.take(5)
    else:
        _skip_operating_points(bits)
    n_width, n_height = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(n_width) + 1) * (bits.take(n_height) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    n_delay = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):  # a number of as many bits as there are zeros in front of it
            n_zeros = 0
            while not bits.take(1):
                n_zeros += 1
            bits.take(n_zeros)
        if bits.take(1):  # a model of the decoder
            n_delay = bits.take(5) + 1
            bits.take(42)
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if n_delay and bits.take(1):
            bits.take(2 * n_delay + 1)
        if has_display_delay and bits.take(1):
            bits.take(4)
