"""`Estimator`: scikit-learn's contract, and files without pickle, for everything fitted here.

scikit-learn itself is not imported (it costs seconds, and the command does not need it): the
contract is small, and the tests hold it against the real ``clone``, ``Pipeline`` and
``set_output``.
"""

from __future__ import annotations

import inspect
import os
import sys
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from vladkit.core.array_file import read_arrays, write_arrays
from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.params import Constraints, StrOptions, check_parameter, check_parameters
from vladkit.errors import FileFormatError, NotFittedError, ParameterError

__all__ = ["Estimator"]


class Estimator:
    """Base of `VLAD`, `Fisher`, `MultiVLAD` and `Whitening`: parameters, containers, one file.

    A subclass stores its parameters in ``__init__`` and nothing else, and has constraints of them
    (`_constraints`), the kind of its files (`_kind`), the number of columns of `transform`, and
    `_state` and `_from_state`, which files are written and read by.
    """

    _constraints: ClassVar[dict[str, Constraints]]
    _kind: ClassVar[str]
    _accepts_3d: ClassVar[bool] = False
    _preserves_dtype: ClassVar[tuple[str, ...]] = ("float64", "float32")

    # -- parameters -------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of the constructor, by name; with `deep` an inner estimator's as ``a__b``."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        parameters = {name: getattr(self, name) for name in names}
        return _with_inner(parameters) if deep else parameters

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters of the constructor, and as ``a__b`` those of an inner estimator.

        Raises
        ------
        ParameterError
            If there is no such parameter; then none is set.
        """
        now = self.get_params(deep=False)
        known = _with_inner({name: parameters.get(name, value) for name, value in now.items()})
        for name in parameters:
            if name not in known:
                raise ParameterError(f"{name!r} is not a parameter: use one of {', '.join(known)}")
        # an inner estimator before its own parameters
        for name, value in sorted(parameters.items(), key=lambda item: "__" in item[0]):
            outer, _, rest = name.partition("__")
            if rest:
                getattr(self, outer).set_params(**{rest: value})
            else:
                setattr(self, name, value)
        return self

    def check_parameters(self) -> None:
        """Raise ParameterError if a parameter is out of range."""
        check_parameters(self, self._constraints)

    def _seed(self) -> int:
        """Seed of one training: `random_state`, or one of NumPy's global generator for None."""
        state: int | None = getattr(self, "random_state", None)
        return int(np.random.randint(2**31) if state is None else state)  # noqa: NPY002

    def __repr__(self) -> str:
        default = inspect.signature(type(self).__init__).parameters
        given = self.get_params(deep=False).items()
        # of arrays, too, which `!=` compares item by item
        shown = [f"{n}={v!r}" for n, v in given if not np.array_equal(v, default[n].default)]
        return f"{type(self).__name__}({', '.join(shown)})"

    # -- use --------------------------------------------------------------------------

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn from `X`."""
        raise NotImplementedError

    def transform(self, X: Any) -> Any:
        """Vectors of `X`, one row each."""
        raise NotImplementedError

    def fit_transform(self, X: Any, y: object = None) -> Any:
        """``fit(X).transform(X)``."""
        return self.fit(X).transform(X)

    @property
    def n_features_out(self) -> int:
        """Number of columns of the vectors that `transform` gives."""
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        raise NotImplementedError

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise _not_fitted_error()(
                f"this {type(self).__name__} is not fitted yet: call fit or load first"
            )

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Names of the columns, in scikit-learn's manner: vlad0, vlad1, ..."""
        self._check_fitted()
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{i}" for i in range(self.n_features_out)], dtype=object)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Set the container that `transform` returns: "default" (NumPy), "pandas" or "polars"."""
        check_parameter("transform", transform, (_CONTAINERS, None))
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}  # which `clone` keeps
        return self

    def _in_container(self, vector_tD: FloatArray, X: object = None) -> Any:
        """Vectors in the container of `set_output`; a pandas frame has the index of `X`."""
        kind = self.__dict__.get("_sklearn_output_config", {}).get("transform")
        if kind is None and "sklearn" in sys.modules:
            kind = sys.modules["sklearn"].get_config()["transform_output"]
        if kind in (None, "default"):
            return vector_tD
        if kind == "pandas":
            import pandas as pd

            index = X.index if isinstance(X, pd.DataFrame | pd.Series) else None
            names = self.get_feature_names_out()
            return pd.DataFrame(vector_tD, index, names, copy=False)
        import polars as pl

        return pl.DataFrame(vector_tD, schema=self.get_feature_names_out().tolist())

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=list(self._preserves_dtype)),
            input_tags=InputTags(two_d_array=not self._accepts_3d, three_d_array=self._accepts_3d),
        )

    # -- keeping ----------------------------------------------------------------------

    def to_state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Fitted estimator as (JSON-able parameters, arrays), for files of any kind.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        self._check_fitted()
        return self._state()

    @classmethod
    def from_state(cls, about: dict[str, Any], arrays: dict[str, AnyArray]) -> Self:
        """Make a fitted estimator from the two values of `to_state`.

        Raises
        ------
        FileFormatError
            If parameters and arrays do not fit together.
        """
        try:
            return cls._from_state(dict(about), arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"damaged {cls._kind}: {error}") from error

    def _state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        raise NotImplementedError

    @classmethod
    def _from_state(cls, about: dict[str, Any], arrays: dict[str, AnyArray]) -> Self:
        raise NotImplementedError

    def _plain_params(self) -> dict[str, Any]:
        """Parameters, NumPy's numbers as Python's, which JSON knows."""
        own = self.get_params().items()
        return {n: v.item() if isinstance(v, np.generic) else v for n, v in own}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one .npz file, without pickle, whole or not at all.

        Raises
        ------
        NotFittedError
            Before `fit`.
        StorageError
            If the file cannot be written; an older one is then untouched.
        """
        write_arrays(path, self._kind, *self.to_state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `save` wrote.

        Raises
        ------
        FileFormatError
            If it is another kind of file, is of another version, or is damaged.
        StorageError
            If it cannot be read.
        """
        hint = "give a file that save wrote"
        return cls.from_state(*read_arrays(path, cls._kind, hint))


def _with_inner(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters, followed by those of the estimators among them."""
    found = dict(parameters)
    for name, value in parameters.items():
        if isinstance(value, Estimator):
            found |= {f"{name}__{n}": v for n, v in value.get_params().items()}
    return found


_CONTAINERS = StrOptions("default", "pandas", "polars")


def _not_fitted_error() -> type[NotFittedError]:
    """Our error; scikit-learn's too where that is imported, so that ``except`` catches it."""
    theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    return NotFittedError if theirs is None else _both(theirs)


@lru_cache
def _both(theirs: type[Exception]) -> type[NotFittedError]:
    # pickled as ours alone: a class made here cannot be found by its name
    members = {"__reduce__": lambda error: (NotFittedError, error.args)}
    return type("NotFittedError", (NotFittedError, theirs), members)
