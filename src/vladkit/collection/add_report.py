"""`AddReport`: what became of the files of some sources; `Progress`: how far a method is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from vladkit.errors import NothingToIndexError
from vladkit.images.files import hints

__all__ = ["AddReport", "Progress", "none_usable"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(step, done, total)``.

Steps of the methods of `Collection`: "try apart", "sample", "learn", "index", "again" (images that
were indexed by what had been learned before) and "dates" of `add`; "queries" of `evaluate` and
`assess`; "pairs", "match" and "join" of `pairs`; others have one step of their own name.
"""

_SHOWN: Final = 8
"""Kinds of files that a message lists."""

_REASONS: Final = 3
"""Reasons that a message lists."""


@dataclass(slots=True)
class AddReport:
    """Outcome of `Collection.add`: numbers of images, and those that could not be used.

    ``skipped`` holds (path, reason) of images that could not be used, ``linked`` (path, path of the
    image) of links to images, which are not indexed again, and ``unreadable`` (folder, reason) of
    folders that could not be listed. ``left_out`` counts files that do not look like images, by
    suffix in lower case, "" without one, and "hidden" for names that begin with a dot.
    ``outgrown`` is (clusters of the codebook, clusters that it would have if it were learned now)
    where that is twice as many or more: it was learned from few images, and others have come since.
    ``learned_once`` is the number of images that a collection has learned from in this run, where
    that is few and it will not learn again (Lance, without a codebook file); else 0.
    """

    indexed: int = 0
    unchanged: int = 0
    pruned: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    linked: list[tuple[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    outgrown: tuple[int, int] | None = None
    learned_once: int = 0

    def reasons(self) -> list[tuple[str, int]]:
        """Reasons for skipping and how often each, the most frequent first."""
        return _reasons(reason for _, reason in self.skipped)

    def leave_out(self, file: str) -> None:
        """Count a file that does not look like an image."""
        name = os.path.basename(file)
        kind = "hidden" if name.startswith(".") else os.path.splitext(name)[1].lower()
        self.left_out[kind] += 1

    def left_out_text(self) -> str:
        """Number of files that were left out, and of each kind: ``3 files: 2 .heic, 1 hidden``."""
        total = self.left_out.total()
        kinds = sorted(self.left_out.items(), key=lambda each: (-each[1], each[0]))
        shown = [f"{n} {kind or 'without a suffix'}" for kind, n in kinds[:_SHOWN]]
        if rest := sum(n for _, n in kinds[_SHOWN:]):
            shown.append(f"{rest} of other kinds")
        text = f"{total} {'file' if total == 1 else 'files'}: {', '.join(shown)}"
        hint = hints(self.left_out)  # with the extra they are images, and not left out
        return f"{text}; {hint}" if hint else text


def none_usable(reasons: Iterable[str]) -> NothingToIndexError:
    """Error of images of which none can be used, for these reasons, one for each image."""
    counted = _reasons(reasons)
    n = sum(n for _, n in counted)
    if n == 1:
        return NothingToIndexError(f"the one image cannot be used: {counted[0][0]}")
    some = "; ".join(f"{n} x {reason}" for reason, n in counted[:_REASONS])
    return NothingToIndexError(f"none of the {n} images can be used: {some}")


def _reasons(given: Iterable[str]) -> list[tuple[str, int]]:
    return Counter(given).most_common()
