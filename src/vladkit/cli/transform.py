"""Commands that work on the vectors of a collection: whiten, augment, adapt, build-ann."""

from __future__ import annotations

from typing import Annotated

import typer

from vladkit.cli.app import File, Json, app
from vladkit.cli.output import print_json, say

__all__: list[str] = []


@app.command()
def whiten(
    file: File,
    dims: Annotated[
        int | None,
        typer.Option("--dims", "-d", help="Dimensions; default: 128, or half as many as images."),
    ] = None,
    exponent: Annotated[
        float | None, typer.Option("--exponent", help="0 is PCA alone, 1 whitens fully.")
    ] = None,
    power: Annotated[
        float | None, typer.Option("--power", help="Of the components after that.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="A new file; FILE stays as it is."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring the vectors to fewer dimensions by PCA learned from themselves."""
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection
    from vladkit.collection.reencode import check_whitening

    if output is not None:
        with Collection.open(file, read_only=True) as collection:
            check_whitening(collection.index, dims)  # before a file is made
            collection.copy(output)
    with Collection.open(output or file) as collection, progress_bar() as progress:
        before = collection.n_dimensions
        collection.whiten(dims, exponent=exponent, power=power, progress=progress)
        dims = collection.n_dimensions
        collection.compact()
        after = collection.info()
    if as_json:
        print_json({"file": output or file, "dimensions": dims, "from": before})
    else:
        say(
            f"{output or file}: {before} dimensions became {dims}; "
            f"{after['images']} images, {after['bytes'] / 1e6:.1f} MB"
        )


@app.command()
def augment(
    file: File,
    neighbors: Annotated[
        int, typer.Option("--neighbors", "-n", min=0, help="Nearest images; 0 takes it back.")
    ] = 2,
    alpha: Annotated[
        float, typer.Option("--alpha", min=0, help="They count as their similarity to this power.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Let images be found through those that look like them, too."""
    from vladkit.collection.collection import Collection

    with Collection.open(file) as collection:
        collection.augment(neighbors, alpha=alpha)
        n_all = len(collection)
    if as_json:
        print_json({"file": file, "images": n_all, "neighbors": neighbors})
    elif neighbors:
        say(f"{file}: {n_all} images joined with {neighbors} neighbours each")
    else:
        say(f"{file}: compared by their own vectors again")


@app.command()
def adapt(file: File, as_json: Json = False) -> None:
    """Fit the codebook to the images that are in by now; needs --keep-sums."""
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection

    with Collection.open(file) as collection, progress_bar() as progress:
        collection.adapt(progress=progress)
        n_all = len(collection)
    if as_json:
        print_json({"file": file, "images": n_all})
    else:
        say(f"{file}: codebook adapted to {n_all} images")


@app.command("build-ann")
def build_ann(file: File, as_json: Json = False) -> None:
    """Make an index for approximate search of a very big collection, in FILE.ann."""
    from dataclasses import asdict

    from vladkit.collection.collection import Collection
    from vladkit.store.ann import WORTH_FROM_VALUES, ann_path

    with Collection.open(file, read_only=True) as collection:
        report = collection.build_ann()
        target = ann_path(collection.path)
    if as_json:
        print_json({"file": str(target)} | asdict(report))
        return
    say(
        f"{target}: {report.n} vectors in {report.n_cells} cells, {report.n_probes} of them "
        f"searched; finds {report.recall:.1%} of the 10 nearest (mean over "
        f"{report.n_sampled} stored vectors)"
    )
    if report.n * report.n_dimensions < WORTH_FROM_VALUES:
        say(
            f"note: exact search is as fast up to {WORTH_FROM_VALUES // report.n_dimensions} "
            f"vectors of {report.n_dimensions} dimensions"
        )
