"""The command ``vladkit``: a thin door to `vladkit.Collection`."""

from __future__ import annotations

import codecs
import gc
import os
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import typer

__all__ = ["load", "main"]


def load(only: str | None = None) -> typer.Typer:
    """The command with its subcommands, each from the file of its name.

    Parameters
    ----------
    only : str, optional
        Name of the one subcommand to load, which takes 55 ms less than all; all without it, or if
        there is no such one.
    """
    from vladkit.cli.app import GROUPS, app

    known = [name for names in GROUPS.values() for name in names]
    for name in known if only not in known else [only]:
        module = "evaluate" if name == "eval" else name.replace("-", "_")
        import_module(f"vladkit.cli.{module}")
    return app


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    codecs.register_error("vladkit", _encode_somehow)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="vladkit")
    warnings.formatwarning = lambda message, *_, **__: f"vladkit: {message}\n"
    try:
        _run()
    except KeyboardInterrupt:  # before a command began
        print("vladkit: interrupted", file=sys.stderr)  # noqa: T201
        _leave_at_once()
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _encode_somehow(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""Print a name in any encoding: bytes that are no text as they are, letters that it lacks as
    escapes such as ``\u65e5``.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first = error.object[error.start]
    if "\udc80" <= first <= "\udcff":  # a byte of a name that is no text
        return bytes([ord(first) - 0xDC00]), error.start + 1
    return first.encode("ascii", "backslashreplace"), error.start + 1


def _run() -> None:
    app = load(sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        app()
    except SystemExit as done:
        if done.code == 130:
            _leave_at_once()
        raise
    finally:
        sys.stdout.flush()
        gc.freeze()  # Python's end would look for garbage in all there is: 40 ms


def _leave_at_once() -> NoReturn:
    """End an interrupted process; all that was open is closed by now.

    Without Python's own end: it would stop a thread in the middle of compiling, which LLVM answers
    with an abort.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)
