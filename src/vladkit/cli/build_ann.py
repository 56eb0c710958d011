"""`vladkit build-ann`: an index for approximate search."""

from __future__ import annotations

from dataclasses import asdict

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json
from vladkit.cli.output import counted, emit, say

__all__: list[str] = []


@app.command("build-ann")
def build_ann(file: File, as_json: Json = False) -> None:
    """Build an index for approximate search, in FILE.ann.

    It pays for very large collections (docs/explanation/search-cost.md), and holds until an image
    is added, changed or removed. In a collection of Lance it is kept with the images, and takes in
    what is added.
    """
    from vladkit.store.ann import WORTH_FROM_VALUES, ann_path
    from vladkit.store.lance.place import is_lance

    # a file may be one that cannot be written: the index is beside it
    with opened(file, write=is_lance(file), blas=True) as (collection, _):
        report = collection.build_ann()
        target = collection.path if is_lance(file) else ann_path(collection.path)
    emit(
        as_json,
        {"file": str(target)} | asdict(report),
        f"{target}: {counted(report.n, 'vector')} in {counted(report.n_cells, 'cell')}, "
        f"{report.n_probes} of them searched; finds {report.recall:.1%} of the 10 nearest (mean "
        f"over {counted(report.n_sampled, 'stored vector')})",
    )
    if not as_json and report.n * report.n_dimensions < WORTH_FROM_VALUES:
        say(
            f"note: exact search is as fast up to {WORTH_FROM_VALUES // report.n_dimensions} "
            f"vectors of {report.n_dimensions} dimensions"
        )
