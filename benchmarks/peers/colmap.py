"""COLMAP's vocabulary tree, by pycolmap: on its own SIFT, with its defaults but for the learning.

The tree that COLMAP downloads is learned from other photographs, and has 262,144 words. Without a
network this one is learned from the images themselves, as the first versions of the book of
COLMAP advise for collections of one's own: the peer's advantage. Queries are found by the
generator of pairs for matching, the only way that pycolmap has.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycolmap

MOST_WORDS, ROUNDS, ITERATIONS = 16_384, 1, 10
"""Of k-means, which runs on one core: with pycolmap's 65,536 words and all features of 821 images
even one round of 20 iterations had not ended after half an hour.
"""
PER_WORD = 20
"""Features, drawn by chance, that each word is learned from; fewer words from few images."""


class Colmap:
    """A database of COLMAP and a vocabulary tree.

    Parameters
    ----------
    verified : int
        Images of a query that COLMAP ranks again by geometry; 0 for none.
    """

    def __init__(self, verified: int = 0) -> None:
        self.verified = verified

    def index(self, files: Sequence[str], folder: Path) -> None:
        """Extract features and learn the tree."""
        pycolmap.logging.minloglevel = 2
        self.root, self.folder = os.path.commonpath([os.path.dirname(f) for f in files]), folder
        self.tree, self.database = folder / "tree.bin", folder / "database.db"
        self._extract(files)
        with pycolmap.Database.open(self.database) as database:
            images = {image.name: image.image_id for image in database.read_all_images()}
            found = [database.read_descriptors(i).data for i in images.values()]
        self.names = {i: os.path.join(self.root, name) for name, i in images.items()}
        local_Nf = np.concatenate(found).astype(np.float32)
        options = pycolmap.VisualIndex.BuildOptions()
        options.num_visual_words = min(MOST_WORDS, max(16, len(local_Nf) // PER_WORD))
        options.num_rounds, options.num_iterations = ROUNDS, ITERATIONS
        if len(local_Nf) > PER_WORD * options.num_visual_words:
            n = PER_WORD * options.num_visual_words
            local_Nf = np.random.default_rng(0).choice(local_Nf, n, replace=False)
        index = pycolmap.VisualIndex.create(local_Nf.shape[1], 64)
        sift = pycolmap.FeatureExtractorType.SIFT
        index.build(options, pycolmap.FeatureDescriptorsFloat(type=sift, data=local_Nf))
        index.write(self.tree)

    def _extract(self, files: Sequence[str]) -> None:
        options = pycolmap.ImageReaderOptions()
        pycolmap.extract_features(
            self.database,
            self.root,
            image_names=[os.path.relpath(file, self.root) for file in files],
            camera_mode=pycolmap.CameraMode.PER_IMAGE,
            reader_options=options,
            device=pycolmap.Device.cpu,
        )

    def n_bytes(self) -> int:
        """Size of the index on disk."""
        return self.tree.stat().st_size + self.database.stat().st_size

    def ask(self, queries: Sequence[str]) -> list[list[str]]:
        """Rank for all queries in one run: the generator indexes the images first, each time."""
        self._extract(queries)
        options = pycolmap.VocabTreePairingOptions()
        options.vocab_tree_path = self.tree
        options.num_images = len(self.names) + len(queries)
        options.num_images_after_verification = self.verified
        with pycolmap.Database.open(self.database) as database:
            images = {image.name: image.image_id for image in database.read_all_images()}
            asked = [images[os.path.relpath(query, self.root)] for query in queries]
            generator = pycolmap.VocabTreePairGenerator(options, database, asked)
            pairs = generator.all_pairs()
        ranked: dict[int, list[str]] = {i: [] for i in asked}
        for one, other in pairs:
            ranked[one].append(self.names.get(other, ""))
        return [[file for file in ranked[i] if file] for i in asked]
