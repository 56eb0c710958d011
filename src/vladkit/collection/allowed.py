"""`Allowed`: the images that a search is limited to, taken out of the vectors as these are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array

__all__ = ["Allowed"]

_SPARSE: Final = 0.25
"""Share of a block up to which its rows are copied; of fuller ones all are scored, which is no
slower than to copy them first."""


_MOST_BITS: Final = 2**28
"""Highest id for which there is a table of them all; those of Lance have 63 bits."""


class Allowed:
    """Images by id, rising.

    Examples
    --------
    >>> import numpy as np
    >>> Allowed(np.array([2, 5])).of(np.array([5, 3, 2, 9]))
    array([ True, False,  True, False])
    """

    def __init__(self, image_id_n: Int64Array) -> None:
        self.image_id_n = image_id_n
        last = int(image_id_n[-1]) if len(image_id_n) else -1
        self._is_allowed: AnyArray | None = None
        if last < _MOST_BITS:
            self._is_allowed = np.zeros(last + 2, bool)
            self._is_allowed[image_id_n] = True

    def __len__(self) -> int:
        return len(self.image_id_n)

    def of(self, image_id_n: Int64Array) -> AnyArray:
        """Whether each of some images is one of these."""
        if self._is_allowed is None:
            at_n = np.searchsorted(self.image_id_n[:-1], image_id_n)
            return np.equal(self.image_id_n[at_n], image_id_n)
        allowed: AnyArray = self._is_allowed.take(image_id_n, mode="clip")  # the last is False
        return allowed

    def blocks(
        self, blocks: Iterable[tuple[Int64Array, AnyArray]]
    ) -> Iterator[tuple[Int64Array, AnyArray]]:
        """Blocks without most other images; `of` tells which of what is left to leave out."""
        for image_id_n, vector_nD in blocks:
            allowed_n = self.of(image_id_n)
            share = np.count_nonzero(allowed_n) / max(1, len(allowed_n))
            if share > _SPARSE:
                yield image_id_n, vector_nD
            elif share:
                yield image_id_n[allowed_n], vector_nD[allowed_n]
