"""`vladkit compact`: a smaller file after removing images."""

from __future__ import annotations

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json
from vladkit.cli.output import emit

__all__: list[str] = []


@app.command()
def compact(file: File, as_json: Json = False) -> None:
    """Give the space of removed images back to the disk."""
    with opened(file, write=True, blas=True) as (collection, _):
        n_bytes = collection.compact()
    emit(
        as_json,
        {"file": file, "freed": n_bytes},
        f"{file}: {n_bytes / 1e6:.1f} MB freed",
    )
