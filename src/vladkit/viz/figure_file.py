"""Files of matplotlib figures: checked beforehand, and written whole or not at all.

matplotlib is optional; callers import it.
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
    """Raise MissingDependencyError, with the fix, if matplotlib is not installed."""
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
    """Refuse a figure file that could not be written, before any work is done for it.

    Parameters
    ----------
    path : path
    who : str
        Name of the function or option that draws, for the message.
    formats : sequence of str
        Allowed endings of the file's name.
    inputs : iterable of path
        Files that are read, which the figure must not replace.

    Raises
    ------
    ParameterError
        If the name ends in something else, or the file is one of `inputs`.
    MissingDependencyError
        If matplotlib is not installed.
    StorageError
        If no file can be written there.
    """
    if Path(path).suffix.lower() not in formats:
        raise ParameterError(f"cannot draw {path}: its name has to end in {', '.join(formats)}")
    require_matplotlib(who)
    check_writable(path, inputs)


def write_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 200) -> None:
    """Write a figure in the format that the name of the file ends in.

    Raises
    ------
    StorageError
        If it cannot be written; a file that was at `path` is left as it was.
    """
    kind = Path(path).suffix[1:].lower()
    options = _OPTIONS.get(kind.replace("jpeg", "jpg"), {})
    with replace_file(path) as file:
        figure.savefig(file, format=kind, dpi=dpi, **options)
