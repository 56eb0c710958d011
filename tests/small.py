"""Collections that are made fast."""

from __future__ import annotations

from vladkit import Collection


def make(path, *sources, **recipe):
    """Index the sources, small images as small as they are: enlarged, each takes 30 ms."""
    with Collection.create(path, **({"n_clusters": 8, "enlarge_to": 0} | recipe)) as collection:
        return collection.add([*sources])


def paths(path):
    with Collection.open(path) as collection:
        return [row.path for row in collection.images()]
