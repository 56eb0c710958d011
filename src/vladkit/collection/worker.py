"""Work of another process: images in, by their paths, and all that is kept of them out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from vladkit.collection.describer import Describer
from vladkit.collection.index import Index
from vladkit.collection.recipe import Recipe
from vladkit.collection.records import make_records
from vladkit.core.arrays import AnyArray
from vladkit.features import Extractor
from vladkit.features.pool import Extraction
from vladkit.store.geometry import pack_geometry
from vladkit.store.rows import ImageRow, Record

__all__ = ["State", "Work", "describe"]

Work: TypeAlias = list[tuple[str, ImageRow]]
"""Files of images, and their rows as the files were when they were found."""

_MOST_KEPT: Final = 2
"""Describers that a process keeps: that of the present run, and one of another or before it."""

_describers: Final[dict[str, Describer]] = {}


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All that makes records of images; some MB, which a worker gets once.

    ``about`` and ``arrays`` are what `vladkit.collection.describer.Describer.restore` takes.
    """

    recipe: Recipe
    extractor: Extractor
    name: str
    about: dict[str, Any]
    arrays: dict[str, AnyArray]

    @classmethod
    def of(cls, index: Index) -> State:
        """State of an open collection."""
        describer, about = index.describer, index.store.about()
        return cls(
            describer.recipe, describer.extractor, describer.name, about, index.store.arrays()
        )


def describe(token: str, state: State | None, work: Work, threads: int) -> list[Record] | None:
    """Records of images, which are read, extracted and encoded in this process.

    Parameters
    ----------
    token : str
        Name of the state, by which the process keeps it.
    state : State or None
    work : list
    threads : int

    Returns
    -------
    list of Record, or None
        None if the process does not have the state and was not given it.
    """
    describer = _describers.get(token)
    if describer is None:
        if state is None:
            return None
        describer = Describer(state.recipe, state.name, state.extractor)
        describer.restore(state.about, state.arrays)
        while len(_describers) >= _MOST_KEPT:
            _describers.pop(next(iter(_describers)), None)
        _describers[token] = describer
    with Extraction.on_threads(describer.extractor, threads, len(work)) as extraction:
        results = list(extraction.run(file for file, _ in work))
    rows = (row for _, row in work)
    records = make_records(describer, list(zip(rows, results, strict=True)), n_jobs=threads)
    return [_packed(record) for record in records]


def _packed(record: Record) -> Record:
    """The record as it is sent: packing takes half of the time of a commit, and 20 KB are 8."""
    kept = record.features
    if kept is None:
        return record
    size = kept.width, kept.height
    geometry = pack_geometry(kept.geometry_l5, *size, short=kept.is_coded)
    kept = replace(kept, geometry_l5=kept.geometry_l5[:0].copy(), packed=geometry)
    return replace(record, features=kept)
