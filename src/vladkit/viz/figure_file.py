"""Figures of matplotlib as files: whether one can be written, and writing it whole or not at all.

matplotlib is optional and is imported by whoever calls this.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vladkit.core.files import check_writable, replace_file
from vladkit.errors import MissingDependencyError, ParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_figure_file", "require_matplotlib", "write_figure"]

FORMATS: Final = (".png", ".jpg", ".jpeg", ".svg", ".pdf")

_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "svg": {"metadata": {"Date": None}},  # equal figures give equal files
    "pdf": {"metadata": {"CreationDate": None}},
    "jpg": {"pil_kwargs": {"quality": 90}},  # at matplotlib's 75 thin lines leave traces
}


def require_matplotlib(who: str) -> None:
    """Raise MissingDependencyError, with what to install, if there is no matplotlib for `who`."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"{who} needs matplotlib, which is not installed: pip install 'vladkit[plot]'",
            name="matplotlib",
        ) from error


def check_figure_file(
    path: str | os.PathLike[str],
    who: str,
    formats: Sequence[str] = FORMATS,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Refuse, before any work is done, an image that could not be written after it.

    Parameters
    ----------
    path : path
    who : str
        What wants to draw, for the message.
    formats : sequence of str
        What the file's name may end in.
    inputs : iterable of path
        Files that are read, which it must not replace.

    Raises
    ------
    ParameterError
        If the name ends in something else, or is one of `inputs`.
    MissingDependencyError
        If matplotlib is not installed.
    StorageError
        If nothing can be written there.
    """
    target = Path(path)
    if target.suffix.lower() not in formats:
        raise ParameterError(f"cannot draw {target}: its name has to end in {', '.join(formats)}")
    require_matplotlib(who)
    check_writable(target, inputs)


def write_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 200) -> None:
    """Write a figure in the format that the file's name ends in.

    Raises
    ------
    StorageError
        If it cannot be written; what was at `path` is then untouched.
    """
    kind = Path(path).suffix[1:].lower()
    options = _OPTIONS.get(kind.replace("jpeg", "jpg"), {})
    with replace_file(path) as file:
        figure.savefig(file, format=kind, dpi=dpi, **options)
