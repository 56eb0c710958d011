"""The commands. Everything heavy is imported where it is used: ``--help`` takes 0.2 s."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vladkit.cli.app import File, Fundamental, Images, Json, Prune, Rerank, Sources, Threads, app
from vladkit.cli.output import add_to, pairs, print_json, say, say_report
from vladkit.collection.recipe import Recipe
from vladkit.errors import ImageError

if TYPE_CHECKING:
    from vladkit.collection.searching import Hit
    from vladkit.geometry.verification import Model

__all__: list[str] = []

_DEFAULT = Recipe()


def _option(flag: str, text: str, name: str) -> Any:
    """An option of the recipe: not given means the collection's, or the default if it is new."""
    return typer.Option(flag, help=f"{text} [default: {getattr(_DEFAULT, name)}]")


@app.command()
def index(
    source: Sources,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The collection to make or add to")
    ],
    prune: Prune = False,
    images: Images = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="NAME",
            help="Extractor: sift, or onnx:MODEL.onnx, a network. [default: sift]",
        ),
    ] = None,
    n_clusters: Annotated[
        int | None, _option("--n-clusters", "Visual words, k.", "n_clusters")
    ] = None,
    max_features: Annotated[
        int | None, _option("--max-features", "Most features of an image.", "max_features")
    ] = None,
    max_side: Annotated[
        int | None,
        _option("--max-side", "Longest side in px that images are read at.", "max_side"),
    ] = None,
    enlarge_to: Annotated[
        int | None, _option("--enlarge-to", "Smaller images are enlarged to this.", "enlarge_to")
    ] = None,
    contrast_threshold: Annotated[
        float | None,
        _option("--contrast-threshold", "SIFT features weaker are dropped.", "contrast_threshold"),
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(
            "--norm",
            help="Normalisation: a preset, or steps with commas. "
            f"[default: {','.join(_DEFAULT.norm)}]",
        ),
    ] = None,
    rotation: Annotated[
        int | None, _option("--rotation", "Principal axes to rotate to; 0: none.", "rotation")
    ] = None,
    orientation: Annotated[
        float | None,
        _option("--orientation", "Weight of the features' direction.", "orientation"),
    ] = None,
    position: Annotated[
        float | None, _option("--position", "Weight of the features' place.", "position")
    ] = None,
    seed: Annotated[int | None, _option("--seed", "Of sample and k-means.", "seed")] = None,
    dtype: Annotated[
        str | None, _option("--dtype", "Of stored vectors: float16, float32.", "dtype")
    ] = None,
    keep_features: Annotated[
        int | None,
        _option("--keep-features", "Features of an image kept for --rerank.", "keep_features"),
    ] = None,
    keep_sums: Annotated[
        bool | None, typer.Option("--keep-sums", help="Keep sums, for vladkit adapt.")
    ] = None,
    n_vocabularies: Annotated[
        int | None,
        _option("--n-vocabularies", "Codebooks, one after the other.", "n_vocabularies"),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare", help="Descriptors of others: as-is, unit or rootsift. [default: by kind]"
        ),
    ] = None,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Make a folder of images searchable; run again, it adds what is new or changed."""
    from vladkit.cli.process import leave_cores_to_threads

    leave_cores_to_threads()
    from vladkit.collection.collection import Collection
    from vladkit.collection.discover import check_sources
    from vladkit.collection.import_recipe import recipe_for
    from vladkit.core.threads import resolve_n_jobs

    given = {
        "features": features,
        "n_clusters": n_clusters,
        "max_features": max_features,
        "max_side": max_side,
        "enlarge_to": enlarge_to,
        "contrast_threshold": contrast_threshold,
        "norm": norm,
        "rotation": rotation,
        "orientation": orientation,
        "position": position,
        "seed": seed,
        "dtype": dtype,
        "keep_features": keep_features,
        "keep_sums": keep_sums,
        "n_vocabularies": n_vocabularies,
        "compare": compare,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    recipe = Recipe.make({name: v for name, v in chosen.items() if name != "compare"})
    resolve_n_jobs(n_jobs)
    check_sources(source)  # all before a file is made
    fields, notes = recipe_for(source, **chosen)
    if fields != chosen or "compare" in chosen:  # features of another program decide some
        recipe = Recipe.make(fields)
    for note in notes:
        say(f"note: {note}")
    with Collection.create(output, recipe, **fields) as collection:
        report = add_to(collection, source, output, prune, n_jobs, images)
        n_all = len(collection)
    say_report(output, n_all, report, as_json)


@app.command()
def search(
    file: File,
    image: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Image files; or images of the collection, by the path that "
            "`vladkit info --images` lists.",
            show_default=False,
        ),
    ],
    top: Annotated[int, typer.Option("--top", "-n", min=0, help="How many; 0 ranks all.")] = 10,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", metavar="X,Y,W,H", help="Search by this part of the image, in px."
        ),
    ] = None,
    rerank: Rerank = 0,
    fundamental: Fundamental = False,
    expand: Annotated[
        int,
        typer.Option(
            "--expand", min=0, help="Search again, with so many of the nearest in the query."
        ),
    ] = 0,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="OUT", help="Also write a page that shows what was found."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the images most similar to an image, the best first."""
    from vladkit.cli.process import leave_cores_to_threads

    leave_cores_to_threads()
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection
    from vladkit.images.region import Region
    from vladkit.viz.report import Asked, check_target, write_search

    failed = False
    model: Model = "fundamental" if fundamental else "homography"
    part = None if region is None else Region.parse(region)
    if html is not None:
        check_target(html, [file, *image], figures=False)
    asked: list[Asked] = []
    with Collection.open(file, read_only=True) as collection:
        for query in image:
            try:
                hits = collection.search(
                    query, top, region=part, rerank=rerank, model=model, expand=expand
                )
            except ImageError as error:
                say(f"{query}: {error}")
                failed = True
                asked.append(Asked(query, failed=str(error)))
                continue
            asked.append(Asked.found(query, part, hits))
            if as_json:
                print_json({"query": query, "results": [_as_json(h) for h in hits]}, indent=None)
                continue
            if len(image) > 1:
                typer.echo(query)
            for rank, hit in enumerate(hits, start=1):
                matched = "" if hit.inliers is None else f"{hit.inliers:5} matches"
                typer.echo(f"{rank:4}  {hit.score:6.3f}{matched}  {hit.path}")
    if html is not None:
        with progress_bar() as progress:
            write_search(html, file, asked, progress=progress)
    if failed:
        raise typer.Exit(1)


def _as_json(hit: Hit) -> dict[str, Any]:
    found = {"path": hit.path, "score": hit.score, "file": hit.file, "similarity": hit.similarity}
    if hit.verification is None:
        return found
    transform_33 = hit.verification.transform_33
    as_list = None if transform_33 is None else transform_33.tolist()
    return found | {"inliers": hit.inliers, "transform": as_list}


@app.command()
def info(
    file: File,
    skipped: Annotated[
        bool, typer.Option("--skipped", help="List the skipped images with their reasons.")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images", help="List the images that are indexed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is in a collection and how it was made."""
    from vladkit.collection.collection import Collection

    with Collection.open(file, read_only=True) as collection:
        about = collection.info()
        kept = collection.images() if images else ()
        listed: list[dict[str, Any]] = [
            {"path": r.path, "width": r.width, "height": r.height} for r in kept
        ]
        rows = [{"path": r.path, "reason": r.skipped} for r in collection.skipped()]
    if as_json:
        about |= {"skipped_images": rows} if skipped else {}
        print_json(about | ({"indexed_images": listed} if images else {}))
        return
    for row in listed:
        typer.echo(row["path"])
    if skipped:
        for row in rows:
            typer.echo(f"{row['path']}: {row['reason']}")
    if skipped or images:
        return
    recipe, made_with = about["recipe"], about["made_with"]
    typer.echo(
        f"{file}: {about['images']} images, {about['skipped']} skipped, "
        f"{about['bytes'] / 1e6:.1f} MB"
    )
    for source in about["sources"]:
        where = f" (images in {source['images']})" if "images" in source else ""
        typer.echo(f"  source    {source['root']}{where}")
    typer.echo(
        f"  vectors   {about['dimensions']} x {recipe['dtype']}, {about['clusters']} clusters, "
        f"orientation {recipe['orientation']}, position {recipe['position']}, "
        f"rotation {recipe['rotation']}, {', '.join(recipe['norm'])}, seed {recipe['seed']}"
    )
    extras = [name for name in ("whitened", "augmented", "approximate") if about[name]]
    if extras:
        typer.echo(f"  search    {', '.join(extras)}")
    extractor = _readable(made_with.get("extractor", {}))
    most = f"{recipe['keep_features']} of an image kept"
    typer.echo(f"  features  {recipe['features']}: {most}; {pairs(extractor)}")
    typer.echo("  made with " + pairs({n: v for n, v in made_with.items() if n != "extractor"}))


def _readable(extractor: dict[str, Any]) -> dict[str, Any]:
    """Its parameters; of a network's description only which file it is."""
    if "network" not in extractor:
        return extractor
    network = json.loads(extractor["network"])
    rest = {name: value for name, value in extractor.items() if name != "network"}
    return {"sha256": network["sha256"], "dimensions": network["f"]} | rest


@app.command("eval")
def evaluate(
    file: File,
    ground_truth: Annotated[
        str,
        typer.Argument(
            metavar="GROUND_TRUTH",
            help="JSON of queries with what is relevant, or with --protocol a data set.",
            show_default=False,
        ),
    ],
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="Measure as the field does: vpr, holidays, roxford, rparis, ukbench.",
        ),
    ] = None,
    rerank: Rerank = 0,
    fundamental: Fundamental = False,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure a collection: mAP and recall@1/5/10 against a ground truth."""
    from vladkit.cli.process import leave_cores_to_threads

    leave_cores_to_threads()
    model: Model = "fundamental" if fundamental else "homography"
    if protocol is not None:
        from vladkit.cli.protocols import measure

        measure(file, ground_truth, protocol, rerank, model, n_jobs, as_json)
        return
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection
    from vladkit.evaluation.metrics import read_ground_truth

    truth = read_ground_truth(ground_truth)
    with Collection.open(file, read_only=True) as collection, progress_bar() as progress:
        scores, remarks = collection.evaluate(
            truth,
            rerank=rerank,
            model=model,
            n_jobs=n_jobs,
            progress=progress,
        )
    figures = {"mAP": scores.mean_average_precision}
    figures |= {f"recall@{k}": value for k, value in scores.recall.items()}
    counts = {
        "queries": scores.queries,
        "not_averaged": scores.not_averaged,
        "failed": scores.failed,
    }
    if as_json:
        known = {name: round(v, 6) if v == v else None for name, v in figures.items()}  # not NaN
        print_json(known | counts | {"remarks": remarks})
        return
    for name, value in figures.items():
        typer.echo(f"{name:10} {value:.4f}")
    typer.echo(
        f"over {scores.queries} queries; {scores.not_averaged} without a match not averaged, "
        f"{scores.failed} failed"
    )
    for remark in remarks:
        say(remark)


@app.command()
def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="Half a minute instead of five: fewer sizes.")
    ] = False,
    case: Annotated[
        list[str] | None,
        typer.Option(
            "--case",
            metavar="T,L,F,K[,DTYPE]",
            help="This size instead of the usual ones; can be repeated.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", "-j", help="Of every way; default: one for each core."),
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Draw it: PNG, SVG or PDF.")
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Whole tables for every size, not only medians.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time every way of encoding, and other libraries, on this machine's CPU."""
    from vladkit.bench.cases import parse_case
    from vladkit.bench.plot import check_target, write_plot
    from vladkit.bench.report import print_report
    from vladkit.bench.run import run
    from vladkit.cli.progress import progress_bar

    cases = [parse_case(text) for text in case or ()]
    if plot is not None:
        check_target(plot)
    try:
        with progress_bar() as progress:
            report = run(cases, threads=threads, quick=quick, progress=progress)
    except KeyboardInterrupt:
        say("interrupted: what was measured is dropped")
        raise typer.Exit(130) from None
    if as_json:
        print_json(report.as_json())
    else:
        print_report(report, details=details)
    if plot is not None:
        write_plot(report, plot)
