"""`vladkit remove`: images out of a collection."""

from __future__ import annotations

from typing import Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json
from vladkit.cli.output import counted, emit

__all__: list[str] = []


@app.command()
def remove(
    file: File,
    path: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Images as they were indexed, or files, or folders of them.",
            show_default=False,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Forget images; their files stay where they are.

    The next `vladkit index` of their folder adds them again.
    """
    with opened(file, write=True, others=path) as (collection, _):
        n, n_all = collection.remove(path), len(collection)
    emit(
        as_json,
        {"file": file, "removed": n, "images": n_all},
        f"{file}: {n} removed, {counted(n_all, 'image')} left",
    )
