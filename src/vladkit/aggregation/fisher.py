"""`Fisher`: Fisher vectors of a mixture of Gaussians, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from vladkit.aggregation.codebook import Reservoir, train_rotation
from vladkit.aggregation.encode import aggregate_mixture
from vladkit.aggregation.gaussians import train_mixture
from vladkit.aggregation.normalize import Norm, normalize, resolve_steps
from vladkit.aggregation.partitions import refuse_partitions
from vladkit.aggregation.trained import Trained
from vladkit.core.arrays import AnyArray, FloatArray, as_array
from vladkit.core.backends import as_sets, on_host
from vladkit.core.memmap import BLOCK_BYTES
from vladkit.core.params import Constraints, Interval
from vladkit.core.ragged import Ragged
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import FileFormatError, InputError, NonFiniteError, ParameterError, ShapeError
from vladkit.kernels.mixture import Mixture
from vladkit.kernels.nearest import check_overflow

__all__ = ["Fisher"]

_GRADIENTS: Final = ("weights", "means", "covariances")


class Fisher(Trained):
    """One Fisher vector for each set of local descriptors, by a mixture of Gaussians.

    The gradient of the mean log-likelihood of an image's descriptors with respect to the parameters
    of the mixture, in the metric of their Fisher information.

    Parameters
    ----------
    n_components : int, default 64
        Number of Gaussians, k.
    gradients : str or sequence of str, default ("weights", "means", "covariances")
        Parts of the vector, in this order: k, k f and k f numbers.
    norm : str or sequence of str, default ("ssr", "l2")
        Normalisation of the whole vector, steps in order: "ssr" (signed square root), "power:P" and
        "l2". The default is the improved Fisher vector, "none" the plain one.
    rotation : int or None, default None
        d, the number of principal axes of the descriptors that they are rotated to first; f is then
        d. Diagonal covariances fit descriptors whose components are uncorrelated.
    sample_size : int or None, default None
        Number of descriptors that training uses, a uniform random sample of all that `fit` is
        given. None is 256 for each Gaussian.
    n_iter : int, default 100
        Most iterations of EM.
    n_jobs : int or None, default None
        Threads, as in `vladkit.encode`.
    random_state : int or None, default 0
        Random seed of sample and training, as in `vladkit.VLAD`.

    Attributes
    ----------
    weights_ : (k,) float64
        Shares of the Gaussians.
    means_, covariances_ : (k, f) float64
        Means, and variances of each dimension.
    rotation_ : (f_in, d) or None
        Orthonormal columns.
    log_likelihood_ : float
        Mean log-likelihood of the sample's descriptors.
    n_features_in_ : int
        Dimension of the descriptors.

    Notes
    -----
    With posteriors ``p_lk = w_k N_k(x_l) / sum_j w_j N_j(x_l)`` and ``y_lk = (x_l - m_k) / s_k``,
    the parts are, over the L descriptors of an image,

        weights      ``sum_l (p_lk - w_k) / (L sqrt(w_k))``
        means        ``sum_l p_lk y_lk / (L sqrt(w_k))``
        covariances  ``sum_l p_lk (1 - y_lk^2) / (L sqrt(2 w_k))``

    That is the layout of scikit-image; the default is its ``fisher_vector(..., improved=True)``.
    The sign of the covariances is scikit-image's, too: the papers and VLFeat, whose vector is
    ``gradients=("means", "covariances")``, have the opposite one, which changes no inner product.

    ``X``, threads, batches and files are as for `vladkit.VLAD`; an image without descriptors gives
    a row of zeros. Time is O(N k f). Posteriors exist for a piece of a batch at a time, some MB for
    each thread; those below 1e-30 count as 0. Distances are computed in the dtype of the
    descriptors, sums in float64. Training needs scikit-learn (``pip install 'vladkit[fisher]'``),
    `transform` and files do not.

    References
    ----------
    Perronnin, Sánchez, Mensink, "Improving the Fisher kernel for large-scale image classification",
    ECCV 2010, eq. 5 to 10 and sections 3.1 and 3.2. Weights: Sánchez, Perronnin, Mensink, Verbeek,
    "Image classification with the Fisher vector: theory and practice", IJCV 2013, eq. 16 to 18.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = [rng.normal(size=(n, 8)) for n in (50, 0, 70)]
    >>> fisher = Fisher.from_mixture([0.3, 0.7], rng.normal(size=(2, 8)), np.ones((2, 8)))
    >>> vector_tD = fisher.transform(images)
    >>> vector_tD.shape, np.linalg.norm(vector_tD, axis=1).round(6).tolist()
    ((3, 34), [1.0, 0.0, 1.0])
    """

    weights_: FloatArray
    means_: FloatArray
    covariances_: FloatArray
    rotation_: FloatArray | None
    log_likelihood_: float
    n_features_in_: int

    _constraints: ClassVar[dict[str, Constraints]] = {
        "n_components": Interval(int, 1),
        "rotation": (Interval(int, 1), None),
        "sample_size": (Interval(int, 1), None),
        "n_iter": Interval(int, 1, 2**31 - 1),
        "random_state": (Interval(int, 0), None),
    }
    _kind: ClassVar[str] = "vladkit mixture"
    _number: ClassVar[str] = "n_components"
    _learned: ClassVar[tuple[str, ...]] = (
        "means_", "weights_", "covariances_", "rotation_", "log_likelihood_",
    )  # fmt: skip

    def __init__(
        self,
        n_components: int = 64,
        *,
        gradients: str | Sequence[str] = _GRADIENTS,
        norm: Norm = ("ssr", "l2"),
        rotation: int | None = None,
        sample_size: int | None = None,
        n_iter: int = 100,
        n_jobs: int | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.n_components = n_components
        self.gradients = gradients
        self.norm = norm
        self.rotation = rotation
        self.sample_size = sample_size
        self.n_iter = n_iter
        self.n_jobs = n_jobs
        self.random_state = random_state

    # -- training ---------------------------------------------------------------------

    @classmethod
    def from_mixture(
        cls,
        weights: npt.ArrayLike,
        means: npt.ArrayLike,
        covariances: npt.ArrayLike,
        *,
        rotation: npt.ArrayLike | None = None,
        **parameters: Any,
    ) -> Self:
        """Make a fitted estimator from a mixture learned elsewhere.

        Parameters
        ----------
        weights : (k,) array_like
            Shares above 0, which sum to 1: ``GaussianMixture.weights_``.
        means : (k, f) array_like
        covariances : (k, f) array_like
            Variances above 0: ``covariances_`` with ``covariance_type="diag"``.
        rotation : (f_in, f) array_like or None
            Applied to descriptors first.
        **parameters
            Parameters of the constructor, besides `n_components` and `rotation`.

        Raises
        ------
        ShapeError, InputError, NonFiniteError
            If an array has another shape, is not of real numbers, or holds NaN or infinity.
        ParameterError
            If weights or covariances are not as above.
        """
        mean_kf = _numbers("means", means)
        if mean_kf.ndim != 2 or 0 in mean_kf.shape:
            raise ShapeError(f"means have shape {mean_kf.shape}, wanted (k, f)")
        k, f = mean_kf.shape
        weight_k, variance_kf = _numbers("weights", weights), _numbers("covariances", covariances)
        if weight_k.shape != (k,) or variance_kf.shape != (k, f):
            raise ShapeError(
                f"got weights {weight_k.shape}, means {mean_kf.shape}, covariances "
                f"{variance_kf.shape}: wanted (k,), (k, f), (k, f), as of diagonal Gaussians"
            )
        if not (weight_k > 0).all() or not np.isclose(weight_k.sum(), 1, atol=1e-3):
            raise ParameterError(
                f"weights sum to {weight_k.sum():g}, the least is {weight_k.min():g}: wanted "
                "shares above 0 that sum to 1; leave out Gaussians without weight"
            )
        if not (variance_kf > 0).all():
            raise ParameterError(
                f"the least of covariances is {variance_kf.min():g}: wanted variances above 0"
            )
        rotation_fd = None if rotation is None else _numbers("rotation", rotation)
        if rotation_fd is not None and (rotation_fd.ndim != 2 or rotation_fd.shape[1] != f):
            raise ShapeError(f"rotation has shape {rotation_fd.shape}, wanted (f_in, {f})")
        d = None if rotation_fd is None else f
        self = cls(n_components=k, rotation=d, **parameters)
        self.check_parameters()
        self._set_fitted(Mixture(weight_k, mean_kf, variance_kf), rotation_fd, float("nan"))
        return self

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn the mixture from all images of `X`.

        Raises
        ------
        InputError
            As `vladkit.VLAD.fit`.
        ParameterError
            If a parameter of the constructor is out of range, or `X` has partitions of Dask.
        """
        refuse_partitions(X, "Fisher learns its mixture from descriptors in memory")
        return super().fit(X)

    def _train(self, reservoir: Reservoir) -> Self:
        row_sf, rotation_fd = reservoir.rows(), None
        if self.rotation is not None:
            if self.rotation > row_sf.shape[1]:
                raise ParameterError(
                    f"rotation={self.rotation}: wanted at most {row_sf.shape[1]}, the dimension of "
                    "the descriptors"
                )
            rotation_fd = train_rotation(row_sf, int(self.rotation))
            row_sf = row_sf @ rotation_fd
        mixture, log_likelihood = train_mixture(
            row_sf, int(self.n_components), seed=self._seed(), n_iter=int(self.n_iter),
            n_jobs=self.n_jobs,
        )  # fmt: skip
        self._set_fitted(mixture, rotation_fd, log_likelihood)
        return self

    def _set_fitted(
        self, mixture: Mixture, rotation_fd: FloatArray | None, log_likelihood: float
    ) -> None:
        self.weights_ = mixture.weight_k
        self.means_ = mixture.mean_kf
        self.covariances_ = mixture.variance_kf
        self.rotation_ = rotation_fd
        self.log_likelihood_ = log_likelihood
        self.n_features_in_ = len(mixture.mean_kf[0] if rotation_fd is None else rotation_fd)

    def check_parameters(self) -> None:
        """Raise ParameterError if a parameter is out of range, or does not fit the others."""
        super().check_parameters()
        resolve_n_jobs(self.n_jobs)
        self._parts()
        for step in resolve_steps(self.norm):
            if step in ("mass", "intra"):
                raise ParameterError(
                    f"norm has a step {step!r}, which is for VLAD: wanted ssr, power:P or l2"
                )

    def _parts(self) -> tuple[str, ...]:
        """Parts of the vector, in the order of all."""
        given = self.gradients
        names = (given,) if isinstance(given, str) else given
        is_some = isinstance(names, Sequence) and len(names) > 0
        if not is_some or not all(name in _GRADIENTS for name in names):
            raise ParameterError(
                f"gradients={given!r}: wanted one or more of {', '.join(_GRADIENTS)}"
            )
        return tuple(name for name in _GRADIENTS if name in names)

    # -- encoding ---------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """Compute one vector for each image.

        Returns
        -------
        fisher_tD : (t, D), D = k, k f, or their sum, by `gradients`
            float64 if the descriptors are (or are 32-bit integers), else float32; a pandas
            or polars frame after ``set_output``.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            As `vladkit.encode`.
        """
        self._check_fitted()
        self.check_parameters()
        batch = as_sets(X)
        if batch.n_features != self.n_features_in_:
            raise ShapeError(
                f"X has {batch.n_features} dimensions, the mixture was learned from "
                f"{self.n_features_in_}: use one extractor for both"
            )
        mixture = Mixture(self.weights_, self.means_, self.covariances_)
        vector_tD = np.empty((len(batch), self.n_features_out), batch.float_dtype)
        for begin, some in self._rotated(batch):
            sums = aggregate_mixture(some, mixture, self.n_jobs)
            self._write(*sums, np.diff(some.start_T), vector_tD[begin : begin + len(some)])
        return self._in_container(vector_tD, X)

    def _rotated(self, batch: Ragged) -> Iterator[tuple[int, Ragged]]:
        """First image and images of each block, rotated and finite."""
        for begin, some in batch.blocks(BLOCK_BYTES):
            some.check_finite()
            if self.rotation_ is None:
                yield begin, some
                continue
            rotation_fd = self.rotation_.astype(some.float_dtype)
            d = rotation_fd.shape[1]
            out_Nd = np.empty((some.n_local, d), some.float_dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                for i in range(len(some)):  # image by image: its bits do not depend on the others
                    np.matmul(
                        some.floats(i, i + 1), rotation_fd,
                        out=out_Nd[some.start_T[i] : some.start_T[i + 1]],
                    )  # fmt: skip
            check_overflow(out_Nd)
            yield begin, Ragged(out_Nd, some.start_T)

    def _write(
        self, moment_tkm: FloatArray, mass_tk: FloatArray, count_t: AnyArray, out_tD: FloatArray
    ) -> None:
        """Scale the sums, and write them to their places, normalised."""
        t, k = mass_tk.shape
        f = self.means_.shape[1]
        dtype = out_tD.dtype
        per_tk = 1 / (np.maximum(count_t, 1)[:, None] * np.sqrt(self.weights_))
        scale_tk1 = per_tk[:, :, None].astype(dtype)
        end = 0
        for name in self._parts():
            begin, end = end, end + (k if name == "weights" else k * f)
            if name == "weights":
                out_tD[:, begin:end] = (mass_tk - count_t[:, None] * self.weights_) * per_tk
            elif name == "means":
                out_tD[:, begin:end] = (moment_tkm[:, :, :f] * scale_tk1).reshape(t, -1)
            else:
                scaled_tkf = moment_tkm[:, :, f:] * (scale_tk1 * -dtype.type(np.sqrt(0.5)))
                out_tD[:, begin:end] = scaled_tkf.reshape(t, -1)
        normalize(out_tD[:, None], mass_tk, self.norm)

    @property
    def n_features_out(self) -> int:
        """Number of columns of the vectors that `transform` gives."""
        k, f = self.means_.shape
        return sum(k if name == "weights" else k * f for name in self._parts())

    # -- keeping ----------------------------------------------------------------------

    def _state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        about = self._plain_params()
        about["norm"] = list(resolve_steps(self.norm))
        about["gradients"] = list(self._parts())
        # what was learned, whatever set_params said since
        about["n_components"] = len(self.means_)
        about["rotation"] = None if self.rotation_ is None else self.rotation_.shape[1]
        likelihood = self.log_likelihood_
        about["log_likelihood"] = None if np.isnan(likelihood) else likelihood
        arrays: dict[str, AnyArray] = {
            "weights": self.weights_, "means": self.means_, "covariances": self.covariances_,
        }  # fmt: skip
        if self.rotation_ is not None:
            arrays["rotation"] = self.rotation_
        return about, arrays

    @classmethod
    def _from_state(cls, about: dict[str, Any], arrays: dict[str, AnyArray]) -> Self:
        likelihood = about.pop("log_likelihood", None)
        k, d = about.pop("n_components"), about.pop("rotation")
        about |= {name: tuple(about[name]) for name in ("norm", "gradients")}
        self = cls.from_mixture(**arrays, **about)
        if (self.n_components, self.rotation) != (k, d):
            raise FileFormatError(
                f"damaged {cls._kind}: its arrays hold {self.n_components} Gaussians and rotation "
                f"{self.rotation}, its header says {k} and {d}"
            )
        self.log_likelihood_ = float("nan") if likelihood is None else likelihood
        return self


def _numbers(name: str, values: Any) -> FloatArray:
    """Finite real numbers as float64, a copy."""
    given = as_array(on_host(values))
    if given.dtype.kind not in "fiu":
        raise InputError(f"{name} are {given.dtype}, wanted real numbers")
    if not np.isfinite(given).all():
        raise NonFiniteError(f"{name} hold NaN or infinity")
    return np.array(given, np.float64, order="C")
