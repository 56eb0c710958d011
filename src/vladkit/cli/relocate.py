"""`vladkit relocate`: images that have moved to another folder."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json
from vladkit.cli.output import counted, emit

__all__: list[str] = []


@app.command()
def relocate(
    file: File,
    old: Annotated[
        str,
        typer.Argument(
            metavar="OLD", help="Folder that was indexed, or one above.", show_default=False
        ),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Where it is now.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Say that images have moved to another folder.

    None is read again. `vladkit info` lists the folders.
    """
    with opened(file, others=[old, new], write=True) as (collection, _):
        done = collection.relocate(old, new)
    missing = done.moved - done.found
    emit(
        as_json,
        {"file": file} | asdict(done),
        f"{file}: {counted(done.moved, 'image')} moved to {new}"
        + (f", {done.merged} of them known there already" if done.merged else "")
        + (f"; {missing} of them missing or changed: index {new} again" if missing else ""),
    )
