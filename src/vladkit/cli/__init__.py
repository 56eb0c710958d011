"""The command ``vladkit``: a thin door to `vladkit.Collection`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

__all__ = ["main"]


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    from vladkit.cli import (  # noqa: F401  (they add themselves to the app)
        commands,
        draw_matches,
        evaluate,
        maintain,
        models,
        pairs,
        report,
        serve,
        transform,
    )
    from vladkit.cli.app import app
    from vladkit.errors import ParameterError, VladkitError

    for stream in (sys.stdout, sys.stderr):  # names of files may hold bytes that are no text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")
    try:
        _run(app)
    except VladkitError as error:
        print(f"vladkit: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, ParameterError) else 1)
    except KeyboardInterrupt:
        print("vladkit: interrupted", file=sys.stderr)  # noqa: T201
        _leave_at_once()
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(app: Callable[[], None]) -> None:
    try:
        app()
    except SystemExit as done:
        if done.code == 130:
            _leave_at_once()
        raise


def _leave_at_once() -> NoReturn:
    """End an interrupted process; all that was open is closed by now.

    Without Python's own end: it would stop a thread in the middle of compiling, which LLVM answers
    with an abort.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)
