"""`vladkit whiten`: vectors of fewer dimensions."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json
from vladkit.cli.output import counted, emit
from vladkit.errors import StorageError

__all__: list[str] = []


@app.command()
def whiten(
    file: File,
    n_components: Annotated[
        int | None,
        typer.Option(
            "--n-components", help="Dimensions. [default: 128, or a third as many as images]"
        ),
    ] = None,
    exponent: Annotated[
        float | None, typer.Option("--exponent", help="Strength: 0 is PCA alone, 1 whitens fully.")
    ] = None,
    power: Annotated[
        float | None, typer.Option("--power", help="Power law applied to the result.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="Write a new file, leave FILE alone."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Reduce the vectors to fewer dimensions by PCA.

    PCA is learned from the vectors themselves.
    """
    if output is not None:
        with opened(file, blas=True) as (collection, _):
            from vladkit.collection.reencode import check_whitening

            check_whitening(collection.index, n_components)  # before a file is made
            collection.copy(output)
    with opened(output or file, write=True, blas=True) as (collection, progress):
        before = collection.n_dimensions
        try:
            collection.whiten(n_components, exponent=exponent, power=power, progress=progress)
        except BaseException:
            if output is not None:
                collection.close()
                os.unlink(output)
            raise
        d = collection.n_dimensions
        kept = ""
        try:
            collection.compact()
        except StorageError as error:  # the vectors are whitened all the same
            kept = f"; their space was not given back: {error}: run vladkit compact later"
        after = collection.info()
    emit(
        as_json,
        {"file": output or file, "dimensions": d, "from": before},
        f"{output or file}: {before} dimensions became {d}; "
        f"{counted(after['images'], 'image')}, {after['bytes'] / 1e6:.1f} MB{kept}",
    )
