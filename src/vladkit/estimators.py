"""`VLAD`: codebook, encoding and normalisation behind scikit-learn's contract.

scikit-learn itself is not imported (it costs seconds, and the command does not need it): the
contract is small, and the tests hold it against the real ``clone``, ``Pipeline`` and
``set_output``.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vladkit.axes import AnyArray, FloatArray
from vladkit.codebook import Reservoir, train_centroids, train_rotation
from vladkit.encoding import aggregate, check_assign
from vladkit.errors import (
    FileFormatError,
    NonFiniteError,
    NotFittedError,
    ParameterError,
    ShapeError,
    StorageError,
)
from vladkit.kernels import METHODS, SOFT_METHODS
from vladkit.normalize import Norm, normalize, resolve_steps
from vladkit.ragged import Ragged, as_centroids, as_ragged, float_dtype_for
from vladkit.safe_write import replace_file
from vladkit.workers import resolve_n_jobs

__all__ = ["VLAD"]

_FORMAT = "vladkit codebook"
_FORMAT_VERSION = 1


class VLAD:
    """Sets of local descriptors to one vector each, with a codebook learned from them.

    Parameters
    ----------
    n_clusters : int, default 64
        k, the number of centroids ("visual words").
    norm : str or sequence of str, default ("ssr", "l2")
        Normalisation: a preset's name ("vlfeat", "jegou2012", "all-about-vlad", "anyloc",
        "none", ...) or steps in order, see `vladkit.normalize`.
    rotation : int or None, default None
        d, the number of principal axes of the descriptors that residuals are rotated to
        before normalisation; f is a rotation without loss. Labels are found before.
    sample_size : int or None, default None
        Descriptors that training uses, a uniform random sample of all that `fit` is given.
        None is 256 for each cluster.
    n_iter : int, default 25
        k-means iterations.
    assign, alpha, method, n_jobs
        As in `vladkit.encode`: hard or soft assignment, the way to compute it, threads.
    random_state : int, default 0
        Seed of sample and k-means: the same data give the same codebook.

    Attributes
    ----------
    centroids_ : (k, f)
    rotation_ : (f, d) or None
        Orthonormal columns.
    inertia_ : float
        Mean squared L2 distance of the sample's descriptors to their centroid.
    n_features_in_ : int
        f.

    Notes
    -----
    ``X`` is a (t, l, f) array, a list of (l_i, f) arrays, or a `vladkit.Ragged`; one element
    is one image, and gives one row of the result. An image without descriptors gives a row
    of zeros. `partial_fit` adds to the sample, in memory bounded by `sample_size`, and the
    codebook is trained anew when it is next needed.

    References
    ----------
    Jégou, Douze, Schmid, Pérez, CVPR 2010; rotation and power law: Jégou et al., PAMI 2012.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = [rng.normal(size=(n, 8)) for n in (50, 0, 70)]
    >>> vlad = VLAD(n_clusters=4).fit(images)
    >>> vector_tD = vlad.transform(images)
    >>> vector_tD.shape, np.linalg.norm(vector_tD, axis=1).round(6).tolist()
    ((3, 32), [1.0, 0.0, 1.0])
    """

    centroids_: FloatArray
    rotation_: FloatArray | None
    inertia_: float
    n_features_in_: int

    def __init__(
        self,
        n_clusters: int = 64,
        *,
        norm: Norm = ("ssr", "l2"),
        rotation: int | None = None,
        sample_size: int | None = None,
        n_iter: int = 25,
        assign: str = "hard",
        alpha: float | None = None,
        method: str = "auto",
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.norm = norm
        self.rotation = rotation
        self.sample_size = sample_size
        self.n_iter = n_iter
        self.assign = assign
        self.alpha = alpha
        self.method = method
        self.n_jobs = n_jobs
        self.random_state = random_state

    # -- training ---------------------------------------------------------------------

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn the codebook from all images of `X`.

        Raises
        ------
        InputError
            If `X` cannot be read as sets of descriptors (`vladkit.encode` lists the cases),
            or has fewer descriptors than clusters.
        ParameterError
            If a parameter of the constructor is out of range.
        """
        self._forget()
        return self._train(self._add(X))

    def partial_fit(self, X: Any, y: object = None) -> Self:
        """Let the images of `X` take part in the sample; call it batch after batch.

        After ``partial_fit`` on the batches of a collection the codebook is the same as after
        ``fit`` on all of it. Raises as `fit`; too few descriptors for a codebook are an error
        only once it is needed. After `fit` or `load`, which keep no sample, it starts over.
        """
        reservoir = self._add(X)
        for name in ("centroids_", "rotation_", "inertia_"):
            self.__dict__.pop(name, None)
        self._reservoir = reservoir
        return self

    def fit_transform(self, X: Any, y: object = None) -> Any:
        """``fit(X).transform(X)``."""
        batch = as_ragged(X)
        return self.fit(batch).transform(batch)

    @classmethod
    def from_centroids(
        cls, centroids: npt.ArrayLike, *, rotation: npt.ArrayLike | None = None, **parameters: Any
    ) -> Self:
        """A fitted estimator from a codebook made elsewhere.

        Parameters
        ----------
        centroids : (k, f) array_like
        rotation : (f, d) array_like or None
        **parameters
            Of the constructor, besides `n_clusters` and `rotation`.
        """
        centroid = np.asarray(centroids)
        if centroid.ndim != 2:
            raise ShapeError(f"centroids have shape {centroid.shape}, wanted (k, f)")
        k, f = centroid.shape
        dtype = float_dtype_for(centroid.dtype)
        centroid_kf = as_centroids(centroid, f, dtype)
        rotation_fd = None if rotation is None else np.ascontiguousarray(rotation, dtype=dtype)
        if rotation_fd is not None and (rotation_fd.ndim != 2 or rotation_fd.shape[0] != f):
            raise ShapeError(f"rotation has shape {rotation_fd.shape}, wanted (f, d) with f = {f}")
        if rotation_fd is not None and not np.isfinite(rotation_fd).all():
            raise NonFiniteError("rotation holds NaN or infinity")
        d = None if rotation_fd is None else rotation_fd.shape[1]
        self = cls(n_clusters=k, rotation=d, **parameters)
        self.check_parameters()
        self._set_fitted(centroid_kf, rotation_fd, float("nan"))
        return self

    def _add(self, X: Any) -> Reservoir:
        k = self.check_parameters()
        batch = as_ragged(X)
        reservoir: Reservoir | None = self.__dict__.get("_reservoir")
        if reservoir is None:
            reservoir = Reservoir(self.sample_size or 256 * k, self.random_state)
            self.n_features_in_ = batch.n_features
        elif batch.n_features != self.n_features_in_:
            raise ShapeError(
                f"X has {batch.n_features} dimensions, the batches before it "
                f"{self.n_features_in_}: use one extractor for all"
            )
        reservoir.add(batch)
        return reservoir

    def _train(self, reservoir: Reservoir) -> Self:
        row_sf = reservoir.rows()
        centroid_kf, inertia = train_centroids(
            row_sf,
            int(self.n_clusters),
            seed=int(self.random_state),
            n_iter=int(self.n_iter),
            n_jobs=self.n_jobs,
        )
        rotation_fd = None
        if self.rotation is not None:
            if self.rotation > row_sf.shape[1]:
                raise ParameterError(
                    f"rotation={self.rotation}, but descriptors have {row_sf.shape[1]} dimensions"
                )
            rotation_fd = train_rotation(row_sf, self.rotation)
        self._set_fitted(centroid_kf, rotation_fd, inertia)
        return self

    def _set_fitted(
        self, centroid_kf: FloatArray, rotation_fd: FloatArray | None, inertia: float
    ) -> None:
        self.centroids_ = centroid_kf
        self.rotation_ = rotation_fd
        self.inertia_ = inertia
        self.n_features_in_ = centroid_kf.shape[1]

    def _forget(self) -> None:
        for name in ("centroids_", "rotation_", "inertia_", "n_features_in_", "_reservoir"):
            self.__dict__.pop(name, None)

    def check_parameters(self) -> int:
        """Raise ParameterError if a parameter is out of range; returns k."""
        for name, least in (("n_clusters", 1), ("n_iter", 1), ("random_state", 0)):
            _check_integer(name, getattr(self, name), least)
        for name in ("rotation", "sample_size"):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name), 1)
        resolve_steps(self.norm)
        resolve_n_jobs(self.n_jobs)
        methods = METHODS if check_assign(self.assign, self.alpha) is None else SOFT_METHODS
        if self.method != "auto" and self.method not in methods:
            raise ParameterError(
                f"method={self.method!r} with assign={self.assign!r}: use auto or one of "
                f"{', '.join(methods)}"
            )
        return int(self.n_clusters)

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not there: the codebook after partial_fit is made on demand.
        if name in ("centroids_", "rotation_", "inertia_") and "_reservoir" in self.__dict__:
            self._train(self._reservoir)
            return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- encoding ---------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """One vector per image.

        Returns
        -------
        vlad_tD : (t, D), D = n_clusters * d
            float64 if the descriptors are (or are 32-bit integers), else float32; a pandas
            or polars frame after ``set_output``.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            As `vladkit.encode`.
        """
        return self._in_container(self._vectors(as_ragged(X)))

    def _vectors(self, batch: Ragged) -> FloatArray:
        self._check_fitted()
        residual_tkf, count_tk = aggregate(
            batch,
            self.centroids_,
            method=self.method,
            assign=self.assign,
            alpha=self.alpha,
            n_jobs=self.n_jobs,
        )
        if self.rotation_ is not None:
            # Residual sums are linear: rotating k sums is rotating every descriptor.
            residual_tkf = residual_tkf @ self.rotation_.astype(residual_tkf.dtype, copy=False)
        return normalize(residual_tkf, count_tk, self.norm)

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet: call fit, partial_fit or load first"
            )

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Names of the D outputs: vlad0, vlad1, ... (as scikit-learn names them)."""
        self._check_fitted()
        rotation_fd = self.rotation_
        d = self.n_features_in_ if rotation_fd is None else rotation_fd.shape[1]
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{i}" for i in range(len(self.centroids_) * d)], dtype=object)

    # -- scikit-learn's contract ------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of the constructor, by name."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters of the constructor."""
        known = self.get_params()
        for name, value in parameters.items():
            if name not in known:
                raise ParameterError(f"{name!r} is not a parameter: use one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def set_output(self, *, transform: str | None = None) -> Self:
        """Container of what `transform` returns: "default" (NumPy), "pandas" or "polars"."""
        if transform not in (None, "default", "pandas", "polars"):
            raise ParameterError(f"transform={transform!r}: use 'default', 'pandas' or 'polars'")
        if transform is not None:
            self._output = transform
        return self

    def _in_container(self, vlad_tD: FloatArray) -> Any:
        kind = self.__dict__.get("_output")
        if kind is None and "sklearn" in sys.modules:
            kind = sys.modules["sklearn"].get_config()["transform_output"]
        if kind in (None, "default"):
            return vlad_tD
        if kind == "pandas":
            import pandas as pd

            return pd.DataFrame(vlad_tD, columns=self.get_feature_names_out(), copy=False)
        import polars as pl

        return pl.DataFrame(vlad_tD, schema=self.get_feature_names_out().tolist())

    def __sklearn_is_fitted__(self) -> bool:
        return "centroids_" in self.__dict__ or "_reservoir" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(two_d_array=False, three_d_array=True),
        )

    def __repr__(self) -> str:
        default = inspect.signature(type(self).__init__).parameters
        shown = [f"{n}={v!r}" for n, v in self.get_params().items() if v != default[n].default]
        return f"{type(self).__name__}({', '.join(shown)})"

    # -- keeping ----------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and codebook to one .npz file without pickle, whole or not at all.

        Raises
        ------
        NotFittedError
            Before `fit`.
        StorageError
            If the file cannot be written; one that was there is then as before.
        """
        about, arrays = self.to_state()
        header = {"format": _FORMAT, "version": _FORMAT_VERSION, "about": about}
        with replace_file(path) as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        FileFormatError
            If it is not such a file, is of another version, or is damaged.
        StorageError
            If it cannot be read.
        """
        where = Path(path)
        try:
            # opened here: np.load leaves a damaged file open
            with open(where, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                header = json.loads(str(file["header"][()]))
                arrays = {name: file[name] for name in file.files if name != "header"}
            kind, version, about = header["format"], header["version"], header["about"]
        except OSError as error:
            if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
                raise StorageError(f"cannot read {where}: {error.strerror}") from error
            raise FileFormatError(f"{where} is not a vladkit codebook: {error}") from error
        except Exception as error:  # numpy and zipfile raise many kinds for damaged files
            raise FileFormatError(f"{where} is not a vladkit codebook: {error}") from error
        if kind != _FORMAT or version != _FORMAT_VERSION:
            raise FileFormatError(
                f"{where} is {kind!r} version {version}, wanted {_FORMAT!r} version "
                f"{_FORMAT_VERSION}: use the vladkit that wrote it, or train again"
            )
        return cls.from_state(about, arrays)

    def to_state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """The fitted estimator as (JSON-able parameters, arrays), for whoever stores it."""
        self._check_fitted()
        about = {n: _plain(v) for n, v in self.get_params().items()}
        # what was learned, whatever set_params said since
        about["norm"] = list(resolve_steps(self.norm))
        about["n_clusters"] = len(self.centroids_)
        about["rotation"] = None if self.rotation_ is None else self.rotation_.shape[1]
        about["inertia"] = None if np.isnan(self.inertia_) else self.inertia_
        arrays: dict[str, AnyArray] = {"centroids": self.centroids_}
        if self.rotation_ is not None:
            arrays["rotation"] = self.rotation_
        return about, arrays

    @classmethod
    def from_state(cls, about: dict[str, Any], arrays: dict[str, AnyArray]) -> Self:
        """The inverse of `to_state`.

        Raises
        ------
        FileFormatError
            If parameters and arrays do not fit together.
        """
        try:
            about = dict(about)
            inertia = about.pop("inertia", None)
            about["norm"] = tuple(about["norm"])
            self = cls.from_centroids(
                arrays["centroids"],
                rotation=arrays.get("rotation"),
                **{n: v for n, v in about.items() if n not in ("n_clusters", "rotation")},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"a damaged codebook: {error}") from error
        if self.n_clusters != about["n_clusters"] or self.rotation != about["rotation"]:
            raise FileFormatError(
                f"a damaged codebook: its arrays hold {self.n_clusters} clusters and rotation "
                f"{self.rotation}, its header says {about['n_clusters']} and {about['rotation']}"
            )
        self.inertia_ = float("nan") if inertia is None else inertia
        return self


def _plain(value: Any) -> Any:
    """A NumPy number as Python's, which JSON knows."""
    return value.item() if isinstance(value, np.generic) else value


def _check_integer(name: str, value: object, least: int) -> None:
    ok = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not ok or int(value) < least:  # type: ignore[call-overload]
        raise ParameterError(f"{name}={value!r}, wanted an integer from {least}")
