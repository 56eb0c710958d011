"""Hints for arguments that are nearly right: a typing error, a missing prefix, the wrong order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from vladkit.errors import ParameterError, VladkitError

__all__ = ["check_prefixes", "collection_hint"]

_SIGNATURES: Final = {
    b"SQLite format 3\0": ("a SQLite database: if it is COLMAP's", "colmap"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file: if it holds hloc's features", "hloc"),
    b"PAR1": ("a Parquet table: if it holds features", "parquet"),
    b"PK\x03\x04": ("a zip file: if it holds arrays of features", "npz"),
    b"\x93NUMPY": ("a NumPy array: if it holds features", "npz"),
}
"""How files of features begin, what they are, and the prefix that reads them."""

_ALIKE: Final = 0.8
"""Least likeness of a name that may have been meant: a letter or two; at difflib's 0.6 any two
short names that end in .vlad are alike."""


def collection_hint(file: str, others: Sequence[str] = ()) -> str:
    """Guess the collection that was meant by a file that is none; empty if nothing is like it."""
    for other in others:
        if _is_collection(Path(other)):
            return f"; {other} is a collection: give it first"
    folder = Path(file).parent
    if os.path.lexists(file):
        return ""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    except OSError:  # such as a folder that may not be listed
        return ""
    likely = get_close_matches(Path(file).name, names, cutoff=_ALIKE)
    found = [name for name in likely if _is_collection(folder / name)]
    return f"; did you mean {folder / found[0]}?" if found else ""


def check_prefixes(sources: Iterable[str]) -> None:
    """Raise ParameterError if a source is a file of features without the prefix that reads it."""
    from vladkit.features.readers import is_source

    for source in sources:
        if is_source(source) or not os.path.isfile(source):
            continue
        if _is_collection(Path(source)):
            raise ParameterError(f"{source} is a collection: give folders or images to index")
        try:
            with open(source, "rb") as opened:
                head = opened.read(16)
        except OSError:  # indexing says why it cannot be read
            continue
        for signature, (what, prefix) in _SIGNATURES.items():
            if head.startswith(signature):
                raise ParameterError(f"{source} is {what}, give {prefix}:{source}")


def _is_collection(path: Path) -> bool:
    from vladkit.store.schema import check_file

    try:
        return check_file(path.absolute()) > 0
    except VladkitError:
        return False
