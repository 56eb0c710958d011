"""`vladkit export`: the vectors for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json
from vladkit.cli.output import counted, emit

__all__: list[str] = []


@app.command()
def export(
    file: File,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="NAME.npz, .fvecs, .faiss or .h5.")
    ],
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="DIR", help="Folder that names in .h5 are relative to."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the vectors for other programs.

    For NumPy (.npz), texmex tools (.fvecs), FAISS (.faiss) or hloc (.h5).
    """
    from vladkit.store.export import check_target

    check_target(output)
    with opened(file, blas=True) as (collection, _):
        written = [str(path) for path in collection.export(output, root=root)]
        n_all, d = len(collection), collection.n_dimensions
    emit(
        as_json,
        {"file": file, "images": n_all, "dimensions": d, "written": written},
        f"{counted(n_all, 'vector')} of {d} dimensions: {', '.join(written)}",
    )
