"""`vladkit augment`: images found through those that look like them."""

from __future__ import annotations

from typing import Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json
from vladkit.cli.output import counted, emit

__all__: list[str] = []


@app.command()
def augment(
    file: File,
    n_neighbors: Annotated[
        int,
        typer.Option("--n-neighbors", "-n", min=0, help="Nearest images; 0 undoes it."),
    ] = 2,
    alpha: Annotated[
        float, typer.Option("--alpha", min=0, help="Weight of a neighbour: similarity ** alpha.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Join each image with those that look like it.

    A query that resembles one of them then finds them all (database-side augmentation). It holds
    until an image is added or removed.
    """
    with opened(file, write=True, blas=True) as (collection, _):
        collection.augment(n_neighbors, alpha=alpha)
        n_all = len(collection)
    joined = f"{counted(n_all, 'image')} joined with {counted(n_neighbors, 'neighbour')} each"
    emit(
        as_json,
        {"file": file, "images": n_all, "n_neighbors": n_neighbors},
        f"{file}: {joined if n_neighbors else 'images are compared by their own vectors again'}",
    )
