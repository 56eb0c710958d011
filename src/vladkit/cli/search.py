"""`vladkit search`: the images of a collection that are most similar to an image."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import (
    After,
    Before,
    Device,
    FileOrUrl,
    Fundamental,
    Json,
    Mirrored,
    NearBy,
    Region,
    Rerank,
    Schema,
    Top,
    Trust,
    Under,
    model_of,
)
from vladkit.cli.output import cosine, counted, print_json, say, show, shown
from vladkit.errors import ImageError, ParameterError

if TYPE_CHECKING:
    from vladkit.collection.collection import Collection, Progress
    from vladkit.collection.ranked import Hit
    from vladkit.images.region import Region as Part
    from vladkit.store.rows import ImageRow

__all__: list[str] = []


@app.command()
def search(
    file: FileOrUrl,
    image: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="Image files or URLs; or images of the collection, by the path that "
            "`vladkit info --images` lists.",
            show_default=False,
        ),
    ],
    top: Top = 10,
    region: Region = None,
    rerank: Rerank = None,
    fundamental: Fundamental = False,
    expand: Annotated[
        int, typer.Option("--expand", min=0, help="Query expansion with the top N results.")
    ] = 0,
    together: Annotated[
        bool, typer.Option("--together", help="All images show one thing: one ranking for all.")
    ] = False,
    mirrored: Mirrored = False,
    under: Under = None,
    after: After = None,
    before: Before = None,
    near: NearBy = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="OUT", help="Also write an HTML report.")
    ] = None,
    schema: Schema = None,
    device: Device = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Find the images most similar to an image, the best first.

    Prints rank, similarity, the number of matches that fit one geometry where features were
    matched, "verified" where these are enough to show the same thing, and the path of each. Exits
    with 1 if an image cannot be used; the others are searched all the same, unless they were to be
    searched --together.
    """
    failed = False
    shows = html is not None
    with opened(
        file,
        others=image,
        trust=trust,
        shows=shows,
        url=True,
        schema=schema,
        device=device,
        output=html,
    ) as (collection, progress):
        from vladkit.collection.where import Where
        from vladkit.core.remote import without_query
        from vladkit.images.region import Region as Part
        from vladkit.store.postgres.address import shown_url

        file = shown_url(file)
        where = Where(under, after, before, near)
        unknown = where.unknown(collection.index.store)
        part = None if region is None else Part.parse(region)
        page = None if html is None else _Page(html, file, image)
        asked = [image] if together else [[each] for each in image]
        options: dict[str, Any] = {
            "top": top and max(top, collection.index.searcher.depth(rerank)),
            "region": part,
            "rerank": rerank,
            "model": model_of(fundamental),
            "expand": expand,
            "where": where,
            "mirrored": mirrored,
        }
        results = _results(collection, image, together, options)
        for i, (queries, result) in enumerate(zip(asked, results, strict=True)):
            name = ", ".join(map(without_query, queries))
            hits: list[Hit] | None = None
            verified: bool | None = None
            reason = ""
            if isinstance(result, ImageError):
                failed, reason = True, str(result)
                say(f"vladkit: {reason}" if len(queries) > 1 else f"vladkit: {name}: {reason}")
            else:
                verified = _verified(result)  # all that were matched, shown or not
                hits = result[: top or None]
            if as_json:
                value = _as_json(collection, queries, together, hits, verified, reason)
                if where:
                    value["where"] = where.as_json() | unknown
                print_json(value, indent=None)
            elif hits is not None:
                _show(name if len(image) > 1 and not together else "", hits)
                if verified is False:
                    among = "among the images that were searched" if where else f"in {file}"
                    say(f"{name}: probably not {among}: the images only look alike")
            if page is not None:
                page.add(collection, queries, part, hits, reason)
            if len(asked) > 1 and not sys.stdout.isatty():  # there the answers are seen
                progress("queries", i + 1, len(asked))
        if page is not None:
            page.write(progress, collection.folders_to_show())
    for what, n in unknown.items():
        if n and not as_json:
            left_out = counted(n, "image")
            say(f"note: {left_out} {what.replace('_', ' a ', 1)}, left out")
    if failed:
        raise typer.Exit(1)


def _results(
    collection: Collection, image: list[str], together: bool, options: dict[str, Any]
) -> Iterator[list[Hit] | ImageError]:
    """The ranking of each image, or of all together, or the error of one that cannot be used."""
    if not together:
        yield from collection.search_many(image, **options)
        return
    try:
        yield collection.search(image, together=True, **options)
    except ImageError as error:
        yield error


def _as_json(
    collection: Collection,
    queries: list[str],
    together: bool,
    hits: list[Hit] | None,
    verified: bool | None,
    reason: str,
) -> dict[str, Any]:
    asked: dict[str, Any] = {"queries": queries} if together else {"query": queries[0]}
    if hits is None:
        return asked | {"error": reason}
    from vladkit.images.exif import UNKNOWN
    from vladkit.store.photos import photos

    results = []
    photo_of = photos(collection.index.store, [hit.image_id for hit in hits])
    for hit in hits:
        found = hit.verification
        transform_33 = None if found is None else found.transform_33
        results.append(
            {
                "path": hit.path,
                "score": hit.score,
                "file": hit.file,
                "similarity": cosine(hit.similarity),
                "agreement": hit.agreement,
                "inliers": hit.inliers,
                "verified": hit.verified,
                "transform": None if transform_33 is None else transform_33.tolist(),
                "mirrored": hit.mirrored,
                **({"query": queries[hit.query]} if together else {}),
                **asdict(photo_of.get(hit.image_id, UNKNOWN)),
            }
        )
    return asked | {"verified": verified, "results": results}


def _verified(hits: list[Hit]) -> bool | None:
    """Whether some image shows the same thing; None if none was matched."""
    known = [hit.verified for hit in hits if hit.verified is not None]
    return any(known) if known else None


def _show(query: str, hits: list[Hit]) -> None:
    """A line for each image, in columns; the score is an order and nothing to read."""
    if query:
        show(query)
    matched = _verified(hits) is not None
    flipped = [hit.mirrored and hit.verified is not False for hit in hits]
    for rank, (hit, is_flipped) in enumerate(zip(hits, flipped, strict=True), start=1):
        matches = f"{hit.inliers:6} matches" if hit.inliers is not None else ""
        verified = "verified" if hit.verified else ""
        columns = f"{matches:14}  {verified:8}" if matched else ""
        if any(flipped):
            columns += f"  {'mirrored' if is_flipped else '':8}"
        show(f"{rank:4}  {cosine(hit.similarity):6.3f}{columns}  {shown(hit.path, hit.file)}")


def _named(collection: Collection, query: str) -> ImageRow | None:
    """An image of the collection that is searched with by its name; None for any other."""
    return None if os.path.lexists(query) else collection.find(query)


class _Page:
    """The HTML report of some searches."""

    def __init__(self, target: str, file: str, queries: list[str]) -> None:
        from vladkit.core.remote import without_query
        from vladkit.viz.report import Asked, check_target

        for query in queries:
            if (name := without_query(query)) != query:
                raise ParameterError(
                    f"{name}: what follows the ? may be a signature, and is not written into a "
                    "page: download the image, and give the file"
                )
        check_target(target, [file, *queries], figures=False)
        self._target, self._file = target, file
        self._asked: list[Asked] = []

    def add(
        self,
        collection: Collection,
        queries: list[str],
        part: Part | None,
        hits: list[Hit] | None,
        reason: str,
    ) -> None:
        from vladkit.collection.changed import changed_images
        from vladkit.viz.report import Asked

        query, *others = queries
        if hits is None:
            self._asked.append(Asked(query, failed=reason, others=tuple(others)))
        else:
            named = ((each, _named(collection, each)) for each in queries)
            rows = {each: row for each, row in named if row is not None}
            files = {each: row.file for each, row in rows.items()}
            asked = Asked.found(query, part, hits, others, files)
            shown = {row.image_id: row for row in rows.values()}
            shown |= {hit.image_id: collection.image(hit.image_id) for hit in asked.hits}
            changed = changed_images(collection.index, shown.values())
            changed_files = frozenset(shown[image_id].file for image_id in changed)
            self._asked.append(replace(asked, changed=changed_files))

    def write(self, progress: Progress, within: list[str] | None) -> None:
        from vladkit.viz.report import write_search

        write_search(self._target, self._file, self._asked, within=within, progress=progress)
