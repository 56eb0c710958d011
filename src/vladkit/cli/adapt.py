"""`vladkit adapt`: a codebook that fits the images that a collection has by now."""

from __future__ import annotations

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json
from vladkit.cli.output import counted, emit

__all__: list[str] = []


@app.command()
def adapt(file: File, as_json: Json = False) -> None:
    """Adapt the codebook to the current images.

    Needs a collection that was made with --keep-sums.
    """
    with opened(file, write=True, blas=True) as (collection, progress):
        collection.adapt(progress=progress)
        n_all = len(collection)
    emit(
        as_json,
        {"file": file, "images": n_all},
        f"{file}: codebook adapted to {counted(n_all, 'image')}",
    )
