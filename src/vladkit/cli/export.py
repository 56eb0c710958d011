"""`vladkit export`: the vectors for other programs, or the collection for PostgreSQL."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json, Schema
from vladkit.cli.output import counted, emit
from vladkit.errors import ParameterError

__all__: list[str] = []


@app.command()
def export(
    file: File,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[OUT]",
            help="NAME.npz, .fvecs, .faiss, .h5 or .parquet; or postgresql://USER@HOST/DATABASE.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="OUT", help="The same.")
    ] = None,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="DIR", help="Folder that names in .h5 are relative to."),
    ] = None,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """Write the vectors for other programs, or all to PostgreSQL.

    For NumPy (.npz), texmex tools (.fvecs), FAISS (.faiss), hloc (.h5), or pandas, polars and
    DuckDB (.parquet, with date, place and camera as columns). PostgreSQL, with pgvector, gets all
    that a search needs, and the next time what has changed since (docs/how-to/postgres.md).
    """
    from vladkit.store.export import check_target
    from vladkit.store.postgres.address import is_database, with_schema

    out = target or output
    if out is None or (target and output):
        raise ParameterError("give one file or database to export to: vladkit export FILE OUT")
    out = with_schema(out, schema)
    if is_database(out):
        if root is not None:
            raise ParameterError(f"root={root} is for .h5, a database has paths as indexed")
        _to_postgres(file, out, as_json)
        return
    check_target(out)
    with opened(file, blas=True) as (collection, _):
        written = [str(path) for path in collection.export(out, root=root)]
        n_all, d = len(collection), collection.n_dimensions
    emit(
        as_json,
        {"file": file, "images": n_all, "dimensions": d, "written": written},
        f"{counted(n_all, 'vector')} of {d} dimensions: {', '.join(written)}",
    )


def _to_postgres(file: str, url: str, as_json: bool) -> None:
    with opened(file) as (collection, progress):
        done = collection.export_postgres(url, progress=progress)
        d = collection.n_dimensions
    value: dict[str, Any] = {"file": file, "images": done.images, "dimensions": d}
    value |= {"written": [done.url], "sent": done.sent, "removed": done.removed}
    value |= {"whole": done.whole, "unindexed": done.unindexed}
    changes = "all sent" if done.whole else f"{done.sent} sent, {done.removed} removed"
    index = f"; no index, a search reads all: {done.unindexed}" if done.unindexed else ""
    emit(as_json, value, f"{done.url}: {counted(done.images, 'image')}, {changes}{index}")
