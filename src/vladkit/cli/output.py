"""Output of commands: text for people, JSON for scripts; messages go to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import typer

from vladkit.core.names import one_line
from vladkit.core.remote import is_url
from vladkit.errors import without_secrets

__all__ = [
    "cosine",
    "counted",
    "emit",
    "exit_if_most_failed",
    "finite",
    "one_line",
    "pairs",
    "print_json",
    "say",
    "show",
    "shown",
    "write_lines",
]


def say(text: str) -> None:
    """Print a message for a person, on stderr."""
    typer.echo(without_secrets(one_line(text)), err=True)


def show(text: str) -> None:
    """Print a line of the answer, on stdout."""
    typer.echo(one_line(text))


def write_lines(lines: Iterable[str]) -> None:
    """Print lines for other programs as they are, but on a terminal as `show` does."""
    if sys.stdout.isatty():  # a name may be a control sequence
        lines = (f"{one_line(line.removesuffix(chr(10)))}\n" for line in lines)
    sys.stdout.writelines(lines)


def print_json(value: Any, indent: int | None = 1) -> None:
    r"""Print one JSON value and a line end, in ASCII.

    A byte of a name that is not UTF-8 is ``\udc80`` to ``\udcff``, as Python has it in the name:
    ``os.fsencode(json.loads(...))`` gives the bytes back.
    """
    json.dump(value, sys.stdout, indent=indent)
    sys.stdout.write("\n")


def emit(as_json: bool, value: Any, text: str = "", *, lines: Iterable[str] = ()) -> None:
    """Print the answer of a command.

    Parameters
    ----------
    as_json : bool
        Print `value` as JSON, and nothing else.
    value
        The answer for scripts.
    text : str
        A message for people, on stderr.
    lines : iterable of str
        The answer for people, on stdout, before the message.
    """
    if as_json:
        print_json(value)
        return
    for line in lines:
        show(line)
    if text:
        say(text)


def shown(path: str, file: str) -> str:
    """The path or URL that opens an image from the working folder; as indexed if it is gone."""
    if is_url(file):
        return file
    if not os.path.lexists(file):
        return path
    try:
        return min(os.path.relpath(file), file, key=len)
    except ValueError:  # on another drive of Windows
        return file


def counted(n: int, noun: str, plural: str = "") -> str:
    """A number of things.

    Examples
    --------
    >>> counted(1, "image"), counted(2, "image"), counted(0, "copy", "copies")
    ('1 image', '2 images', '0 copies')
    """
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def pairs(values: Mapping[str, Any]) -> str:
    """``name value, name value``."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def cosine(similarity: float) -> float:
    """A similarity for JSON: six digits, -1 to 1 also where float32 rounds to more; -1 for NaN."""
    return round(min(max(similarity, -1.0), 1.0), 6) if similarity == similarity else -1.0


def finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures for JSON: six digits; a mean over nothing, NaN, is null."""
    return {name: round(v, 6) if v == v else None for name, v in figures.items()}


def exit_if_most_failed(failed: int, asked: int, *, stated: bool = True) -> None:
    """Exit with 1, and say why, after a measurement that is none; `stated` by a ground truth."""
    if 2 * failed > asked:
        to_check = "the paths in the ground truth, and the files" if stated else "the files"
        say(
            f"vladkit: {failed} of {counted(asked, 'query', 'queries')} failed, so these figures "
            f"do not measure the collection: check {to_check}"
        )
        raise typer.Exit(1)
