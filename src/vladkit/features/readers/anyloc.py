"""AnyLoc's codebook ``c_centers.pt``: a torch tensor (k, f), read without unpickling code."""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np

from vladkit.core.arrays import Float32Array
from vladkit.errors import FileFormatError, MissingDependencyError, StorageError

__all__ = ["read_anyloc_centroids"]


def read_anyloc_centroids(path: str | os.PathLike[str]) -> Float32Array:
    """Read the centroids of a ``c_centers.pt``, as AnyLoc saves and ships them.

    Parameters
    ----------
    path : path
        A tensor that torch saved.

    Returns
    -------
    centroid_kf : (k, f) float32
        For ``VLAD.from_centroids(centroid_kf, metric="cosine", norm="anyloc")``, with
        descriptors of unit length or not.

    Raises
    ------
    FileFormatError
        If it is another kind of file, or holds anything but tensors: torch loads weights only, so
        no code of the file is run.
    StorageError
        If it cannot be read.
    MissingDependencyError
        If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "a torch file needs torch: pip install 'vladkit[torch]'"
        ) from error
    where = os.fspath(path)
    try:
        loaded: Any = torch.load(where, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileFormatError(
            f"{where} holds more than tensors, which would run code when loaded: it is not loaded"
        ) from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise StorageError(f"cannot read {where}: {error.strerror}") from error
    except Exception as error:  # torch raises many kinds for damaged files
        raise FileFormatError(f"{where} is not a file that torch saved: {error}") from error
    if isinstance(loaded, dict):
        tensors = [v for v in loaded.values() if isinstance(v, torch.Tensor) and v.ndim == 2]
        loaded = tensors[0] if len(tensors) == 1 else loaded
    if not isinstance(loaded, torch.Tensor) or loaded.ndim != 2 or not loaded.numel():
        shape = tuple(loaded.shape) if isinstance(loaded, torch.Tensor) else type(loaded).__name__
        raise FileFormatError(f"{where} holds {shape}, wanted centroids, a tensor (k, f)")
    return np.ascontiguousarray(loaded.detach().float().numpy(), np.float32)
