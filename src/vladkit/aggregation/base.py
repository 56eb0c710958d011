"""`Estimator`: scikit-learn's contract, and files without pickle, for what is fitted here.

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
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.files import replace_file
from vladkit.errors import FileFormatError, NotFittedError, ParameterError, StorageError

__all__ = ["Estimator", "check_choice", "check_integer", "plain"]

_FORMAT_VERSION = 1


class Estimator:
    """Base of `VLAD`, `MultiVLAD` and `Whitening`: parameters, containers, one file.

    A subclass stores its parameters in ``__init__`` and nothing else, says what kind of file it
    is kept in (`_kind`) and how many columns `transform` gives, and has `to_state`, `from_state`.
    """

    _kind: ClassVar[str]
    _accepts_3d: ClassVar[bool] = False

    # -- parameters -------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of the constructor, by name; with `deep` those of an inner one as ``a__b``."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        parameters = {name: getattr(self, name) for name in names}
        if deep:
            for name, value in list(parameters.items()):
                if isinstance(value, Estimator):
                    inner = value.get_params(deep=True)
                    parameters |= {f"{name}__{n}": v for n, v in inner.items()}
        return parameters

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters of the constructor."""
        known = self.get_params()
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

    def __repr__(self) -> str:
        default = inspect.signature(type(self).__init__).parameters
        given = self.get_params(deep=False).items()
        shown = [f"{n}={v!r}" for n, v in given if v != default[n].default]
        return f"{type(self).__name__}({', '.join(shown)})"

    # -- what transform gives ---------------------------------------------------------

    @property
    def n_features_out(self) -> int:
        """Columns of what `transform` gives."""
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        raise NotImplementedError

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet: call fit or load first"
            )

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Names of the outputs, as scikit-learn names them: vlad0, vlad1, ..."""
        self._check_fitted()
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{i}" for i in range(self.n_features_out)], dtype=object)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Container of what `transform` returns: "default" (NumPy), "pandas" or "polars"."""
        if transform not in (None, "default", "pandas", "polars"):
            raise ParameterError(f"transform={transform!r}: use 'default', 'pandas' or 'polars'")
        if transform is not None:
            self._output = transform
        return self

    def _in_container(self, vector_tD: FloatArray) -> Any:
        kind = self.__dict__.get("_output")
        if kind is None and "sklearn" in sys.modules:
            kind = sys.modules["sklearn"].get_config()["transform_output"]
        if kind in (None, "default"):
            return vector_tD
        if kind == "pandas":
            import pandas as pd

            return pd.DataFrame(vector_tD, columns=self.get_feature_names_out(), copy=False)
        import polars as pl

        return pl.DataFrame(vector_tD, schema=self.get_feature_names_out().tolist())

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(two_d_array=not self._accepts_3d, three_d_array=self._accepts_3d),
        )

    # -- keeping ----------------------------------------------------------------------

    def to_state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """The fitted estimator as (JSON-able parameters, arrays), for whoever stores it."""
        raise NotImplementedError

    @classmethod
    def from_state(cls, about: dict[str, Any], arrays: dict[str, AnyArray]) -> Self:
        """The inverse of `to_state`; FileFormatError if the two do not fit together."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and what was learned to one .npz file, without pickle, whole or not.

        Raises
        ------
        NotFittedError
            Before `fit`.
        StorageError
            If the file cannot be written; one that was there is then as before.
        """
        about, arrays = self.to_state()
        header = {"format": self._kind, "version": _FORMAT_VERSION, "about": about}
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
            raise FileFormatError(f"{where} is not a {cls._kind}: {error}") from error
        except Exception as error:  # numpy and zipfile raise many kinds for damaged files
            raise FileFormatError(f"{where} is not a {cls._kind}: {error}") from error
        if kind != cls._kind or version != _FORMAT_VERSION:
            raise FileFormatError(
                f"{where} is {kind!r} version {version}, wanted {cls._kind!r} version "
                f"{_FORMAT_VERSION}: use the vladkit that wrote it, or train again"
            )
        return cls.from_state(about, arrays)


def plain(value: Any) -> Any:
    """A NumPy number as Python's, which JSON knows."""
    return value.item() if isinstance(value, np.generic) else value


def check_integer(name: str, value: object, least: int) -> None:
    """Raise ParameterError unless it is an integer from `least`."""
    ok = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not ok or int(value) < least:  # type: ignore[call-overload]
        raise ParameterError(f"{name}={value!r}, wanted an integer from {least}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ParameterError unless it is one of the choices."""
    if value not in choices:
        raise ParameterError(f"{name}={value!r}: use {' or '.join(map(repr, choices))}")
