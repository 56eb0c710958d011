"""Images that follow each other: in a folder, or in the folders of the cameras of a rig."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from vladkit.store.naming import natural

__all__ = ["following"]

_DOUBLINGS: Final = 40
"""Steps 1, 2, 4, ... at most: no folder is longer than the last."""


def following(
    names: Sequence[str], n: int, quadratic: bool = False, rigs: bool = False
) -> list[tuple[int, list[int]]]:
    """Rows of images, each with those of its moment and of the `n` moments that follow.

    Parameters
    ----------
    names : sequence of str
        In natural order.
    n : int
    quadratic : bool
        Also those that follow 1, 2, 4, ..., 2^(n - 1) moments later, as in COLMAP's
        ``quadratic_overlap``.
    rigs : bool
        Folders beside each other are cameras of a rig, and images of one name in them one moment.
        Without, each image is a moment of its folder.

    Examples
    --------
    >>> following(["a/1.jpg", "a/2.jpg", "b/1.jpg"], 1)
    [(0, [1]), (1, []), (2, [])]
    >>> following(["a/1.jpg", "a/2.jpg", "b/1.jpg"], 1, rigs=True)
    [(0, [2, 1]), (2, [1]), (1, [])]
    """
    steps = set(range(1, min(n, len(names)) + 1))
    if quadratic:
        steps |= {2**i for i in range(min(n, _DOUBLINGS))}
    asked = []
    for moments in _sequences(names, rigs):
        for i, rows in enumerate(moments):
            later = [moments[i + step] for step in sorted(steps) if i + step < len(moments)]
            others = [row for moment in later for row in moment]
            asked += [(row, rows[place + 1 :] + others) for place, row in enumerate(rows)]
    return asked


def _sequences(names: Sequence[str], rigs: bool) -> Iterator[list[list[int]]]:
    folders: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, name in enumerate(names):
        folder, moment = os.path.split(name)
        folders[os.path.dirname(folder) if rigs else folder][moment].append(row)
    for moments in folders.values():
        yield [moments[name] for name in sorted(moments, key=natural)]
