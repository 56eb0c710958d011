"""`vladkit info`: the content of a collection."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Annotated, Any

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import FileOrUrl, Json, Schema
from vladkit.cli.output import counted, pairs, print_json, show
from vladkit.collection.given_vectors import WITHOUT_CODEBOOK, WITHOUT_LOCAL
from vladkit.collection.recipe import Recipe
from vladkit.core.names import quoted
from vladkit.store.postgres.address import is_database, shown_url, with_schema

__all__: list[str] = []


@app.command()
def info(
    file: FileOrUrl,
    skipped: Annotated[
        bool, typer.Option("--skipped", help="List the skipped images with their reasons.")
    ] = False,
    images: Annotated[bool, typer.Option("--images", help="List the indexed images.")] = False,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """Show what is in a collection and how it was made."""
    with opened(file, url=True, schema=schema) as (collection, _):
        name = shown_url(with_schema(file, schema))

        about = collection.info()
        if skipped:
            about["skipped_images"] = [
                {"path": row.path, "reason": row.skipped} for row in collection.skipped()
            ]
        if images:
            from vladkit.images.exif import UNKNOWN
            from vladkit.store.photos import photos

            lifted = collection.index.store.lifted()
            rows = list(collection.images())
            photo_of = photos(collection.index.store, [row.image_id for row in rows])
            about["indexed_images"] = [
                {"path": row.path, "width": row.width, "height": row.height}
                | {"lifted": row.image_id in lifted}
                | asdict(photo_of.get(row.image_id, UNKNOWN))
                for row in rows
            ]
    if as_json:
        print_json(about)
        return
    for row in about.get("indexed_images", ()):
        show(row["path"])
    for row in about.get("skipped_images", ()):
        show(f"{row['path']}: {row['reason']}")
    if not skipped and not images:
        for line in _lines(name, about):
            show(line)


def _lines(file: str, about: dict[str, Any]) -> list[str]:
    recipe, made_with = about["recipe"], about["made_with"]
    counts = f"{counted(about['images'], 'image')}, {about['skipped']} skipped"
    lines = [f"{file}: {counts}, {about['bytes'] / 1e6:.1f} MB"]
    if not about["images"] and is_database(file):
        lines.append("  no images: add some to its file, and export it again")
    elif not about["images"]:
        lines.append(f"  no images yet: add some with vladkit add {quoted(file)} SOURCE")
    for source in about["sources"]:
        where = f" (images in {source['images']})" if "images" in source else ""
        counts = f"{counted(source['indexed'], 'image')}, {source['skipped']} skipped"
        lines.append(f"  source    {source['root']}{where}: {counts}")
    if about["images"]:
        of_value = int(recipe["dtype"].removeprefix("float")) // 8
        n_bytes = of_value * about["dimensions"]
        made = f"codebook of {about['clusters']} clusters"
        if about["vectors_from"]:
            made = f"by {about['vectors_from']}"
        lines.append(
            f"  vectors   {about['dimensions']} dimensions, {n_bytes / 1e3:.1f} KB an image; {made}"
        )
        if n_whole := about["whole_dimensions"]:
            lines.append(
                f"  whole     vectors are kept, {of_value * n_whole / 1e3:.1f} KB an image"
            )
        if about["words"]:
            lines.append(f"  codes     {about['words']:,} words")
        if about["learned_from"]:
            stale = "; others came since: index them into another file" if about["stale"] else ""
            lines.append(f"  learned   from {counted(about['learned_from'], 'image')}{stale}")
    if extras := [name for name in ("whitened", "augmented", "approximate") if about[name]]:
        lines.append(f"  search    {', '.join(extras)}")
    kept = f"{recipe['keep_features']} of an image kept for matching"
    if about["vectors_from"] == recipe["features"]:
        kept = "one vector of an image, no local features"
    extractor = made_with.get("extractor", {})
    plain = recipe["features"] == "sift" and "vectors" not in recipe
    named = "" if plain else f"; {pairs(_readable(extractor))}"
    lines.append(f"  features  {recipe['features']}: {kept}{named}")
    if about["lifted"]:
        lines.append(
            f"  lifted    {counted(about['lifted'], 'image')}, with fewer than "
            f"{recipe['lift_below']} features before"
        )
    shown = {"features", "keep_features", "dimensions", "network"}
    shown |= {"vectors", "vector_network", "vector_dimensions"}
    if about["vectors_from"]:
        shown |= WITHOUT_CODEBOOK.keys()
    if about["vectors_from"] == recipe["features"]:
        shown |= WITHOUT_LOCAL.keys() | {"lift_below"}
    usual = {f.name: f.default for f in fields(Recipe)}
    chosen = {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in recipe.items()
        if name not in shown and value != _as_json(usual.get(name))
    }
    lines.append(f"  recipe    {pairs(chosen) or 'all defaults'}")
    created = f", {made_with['created']}" if "created" in made_with else ""
    lines.append(f"  made by   vladkit {made_with.get('vladkit', '?')}{created}")
    return lines


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _readable(extractor: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an extractor; of a network's description only which file it is."""
    shown: dict[str, Any] = {}
    for name, value in extractor.items():
        if name in ("network", "vectors_network"):
            network, before = json.loads(value), name.removesuffix("network")
            shown |= {f"{before}sha256": network["sha256"], f"{before}dimensions": network["f"]}
    return shown | {n: v for n, v in extractor.items() if n not in ("network", "vectors_network")}
