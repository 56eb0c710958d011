"""`vladkit codebook`: what many collections are to be encoded with, learned from a sample."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from vladkit.cli.add import check_arguments
from vladkit.cli.app import app
from vladkit.cli.options import Json, Sources, Threads, with_recipe
from vladkit.cli.output import counted, emit, say
from vladkit.cli.process import leave_cores_to_threads
from vladkit.collection.recipe import Recipe

__all__: list[str] = []


@app.command()
@with_recipe
def codebook(
    source: Sources,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Codebook to write, an .npz.")
    ],
    n_jobs: Threads = None,
    as_json: Json = False,
    **recipe: Any,
) -> None:
    """Learn a codebook that several machines index by.

    From up to 2,048 images. vladkit index --codebook FILE takes the options of the recipe from it.
    """
    leave_cores_to_threads()
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.import_recipe import recipe_for
    from vladkit.collection.learn_codebook import learn_codebook

    given = {name: value for name, value in recipe.items() if value is not None}
    given, notes = recipe_for(source, **given)
    made = Recipe.make(given)
    check_arguments(source, n_jobs)
    for note in notes:
        say(f"note: {note}")
    with progress_bar() as progress:
        report = learn_codebook(output, source, made, n_jobs=n_jobs, progress=progress)
    value = asdict(report) | {"seconds": round(report.seconds, 3)}
    value["skipped"] = [{"path": path, "reason": reason} for path, reason in report.skipped]
    clusters = f"{report.clusters} clusters, " if report.clusters else ""
    emit(
        as_json,
        {"file": output} | value,
        f"{output}: learned from {counted(report.images, 'image')} in {report.seconds:.1f} s: "
        f"{clusters}{report.words:,} words, vectors of {report.dimensions} "
        f"dimensions; {len(report.skipped)} skipped",
    )
    if not as_json:
        for path, reason in report.skipped:
            say(f"  skipped {path}: {reason}")
