"""`vladkit index`: a folder of images into a collection."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vladkit.cli.add import check_arguments, emit_report
from vladkit.cli.app import app, opened
from vladkit.cli.options import (
    Batch,
    Cluster,
    Device,
    Force,
    Images,
    Json,
    Prune,
    Sources,
    Threads,
    Workers,
    with_recipe,
)
from vladkit.cli.output import say
from vladkit.cli.process import leave_cores_to_threads
from vladkit.cli.workers import workers_of
from vladkit.collection.recipe import Recipe
from vladkit.errors import ParameterError

__all__: list[str] = []


@app.command()
@with_recipe
def index(
    source: Sources,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Collection to make or add to.")
    ],
    prune: Prune = False,
    force: Force = False,
    images: Images = None,
    codebook: Annotated[
        str | None,
        typer.Option(
            "--codebook", metavar="WORDS", help="Codebook to encode by (vladkit codebook)."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Only part I of N of the images; see merge."),
    ] = None,
    n_jobs: Threads = None,
    workers: Workers = None,
    cluster: Cluster = None,
    device: Device = None,
    batch: Batch = None,
    as_json: Json = False,
    **recipe: Any,
) -> None:
    """Make a folder of images searchable.

    Run it again to add what is new or changed. Options of the recipe (from --features on) hold for
    the whole collection: give them when it is made.
    """
    leave_cores_to_threads()
    from vladkit.collection.import_recipe import known_by_name, recipe_for
    from vladkit.core.files import as_collection
    from vladkit.store.lance.place import is_lance
    from vladkit.store.opening import is_there

    given = {name: value for name, value in recipe.items() if value is not None}
    given, notes = recipe_for(source, **given)
    made = Recipe.make(given)
    if not is_lance(output):
        as_collection(output)
    check_arguments(source, n_jobs)  # all before a file is made
    part = None if shard is None else _shard(shard, made, codebook, output)
    if codebook is not None and not is_there(output):
        from vladkit.collection.codebook_file import CodebookFile
        from vladkit.collection.discover import check_kind

        check_kind(codebook, CodebookFile.read(codebook).recipe, source)
    for note in [*notes, *known_by_name(made)]:
        say(f"note: {note}")
    with (
        workers_of(workers, cluster, n_jobs) as executor,
        opened(
            output,
            write=True,
            recipe=made,
            fields=given,
            codebook=codebook,
            device=device,
            batch=batch,
        ) as (collection, progress),
    ):
        report = collection.add(
            source,
            prune=prune,
            images=images,
            force=force,
            shard=part,
            n_jobs=n_jobs,
            executor=executor,
            vectors=given["vectors"] if made.vector_dimensions else None,
            progress=progress,
        )
        n_all = len(collection)
    emit_report(output, n_all, report, as_json)


def _shard(given: str, recipe: Recipe, codebook: str | None, output: str) -> tuple[int, int]:
    """Numbers of ``--shard I/N``; ParameterError if there is no such shard."""
    from vladkit.collection.indexing import NO_CODEBOOK
    from vladkit.collection.sample import check_shard
    from vladkit.store.opening import is_there

    i, slash, n = given.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal()):
        raise ParameterError(f"shard={given!r}: give I/N, such as 1/4")
    check_shard((int(i), int(n)))
    if codebook is None and not recipe.is_alone and not is_there(output):
        raise ParameterError(NO_CODEBOOK)
    return int(i), int(n)
