"""Arrays of other libraries: recognised without importing them, and results of their kind.

NumPy in, NumPy out; torch in, torch out on the same device; JAX in, JAX out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from vladkit.core.arrays import AnyArray, is_made_by
from vladkit.core.ragged import Ragged, as_ragged
from vladkit.errors import InputError, ParameterError, ShapeError

__all__ = ["as_sets", "kind_of", "like", "on_host", "stacked", "to_numpy"]


def kind_of(local: Any) -> str:
    """Kind of an array, or of the arrays of a list: "torch", "jax", or "numpy" (all else).

    Raises
    ------
    InputError
        If a list mixes kinds, or a tensor is sparse, nested or quantized.
    """
    if isinstance(local, (list, tuple)):
        kinds = {_kind(x) for x in local if x is not None} or {"numpy"}
        if len(kinds) > 1:
            raise InputError(f"the list mixes arrays of {' and '.join(sorted(kinds))}: convert one")
        return kinds.pop()
    return "numpy" if isinstance(local, Ragged) else _kind(local)


def _kind(x: Any) -> str:
    if is_made_by("torch", "Tensor", x):
        torch = sys.modules["torch"]
        if x.layout is not torch.strided or x.is_nested:
            kind = "nested" if x.is_nested else str(x.layout).removeprefix("torch.").strip("_")
            raise InputError(f"got a tensor of layout {kind}, wanted a dense one: x.to_dense()")
        if x.is_quantized:
            raise InputError("got a quantized tensor, wanted its numbers: x.dequantize()")
        return "torch"
    if is_made_by("jax", "Array", x):
        if not isinstance(x.dtype, np.dtype):
            raise InputError(f"got an array of JAX of {x.dtype}, wanted one of numbers")
        return "jax"
    return "numpy"


def stacked(values: Any, kind: str) -> Any:
    """Array of torch or JAX, or one of the rows in a list of them.

    Raises
    ------
    ShapeError
        If the rows have several shapes.
    """
    if not isinstance(values, (list, tuple)):
        return values
    shapes = {None if row is None else tuple(row.shape) for row in values}
    if len(shapes) > 1:
        raise ShapeError(
            f"rows of the list have shapes {' and '.join(sorted(map(str, shapes)))}, wanted one: "
            "give an array"
        )
    library = sys.modules["torch"] if kind == "torch" else sys.modules["jax"].numpy
    return library.stack(values)


def to_numpy(x: Any, method: str) -> Any:
    """Convert to NumPy's arrays, without a copy on the host, for a `method` that needs these.

    Lists become lists. bfloat16, which NumPy does not know, becomes float32.

    Raises
    ------
    ParameterError
        If that would lose a gradient or fetch data from another device behind the caller's back.
    """
    if isinstance(x, (list, tuple)):
        return [to_numpy(part, method) for part in x]
    kind = _kind(x)
    if kind == "torch":
        torch = sys.modules["torch"]
        if x.device.type != "cpu":
            raise ParameterError(
                f"method={method!r} computes on the host, the tensor is on {x.device}: "
                "use method='torch', or pass tensor.cpu()"
            )
        if x.requires_grad:
            raise ParameterError(
                f"method={method!r} has no gradient, and the tensor requires one: "
                "use method='torch', or pass tensor.detach()"
            )
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    if kind == "jax":
        array = np.asarray(x)
        return array.astype(np.float32) if array.dtype.kind == "V" else array
    return x


def as_sets(X: Any) -> Ragged:
    """Check the `X` of an estimator, as a `Ragged`; gradients of tensors end here.

    Raises
    ------
    InputError
        If `as_ragged` raises it, or a list mixes kinds.
    ParameterError
        If a tensor is on another device than the host.
    """
    kind_of(X)
    return as_ragged([on_host(x) for x in X] if isinstance(X, (list, tuple)) else on_host(X))


def on_host(x: Any) -> Any:
    """NumPy's array of a tensor, without its gradient; other values as they are.

    Raises
    ------
    ParameterError
        If a tensor is on another device than the host.
    """
    if _kind(x) == "torch":
        if x.device.type != "cpu":
            raise ParameterError(
                f"estimators compute on the host, the tensor is on {x.device}: pass tensor.cpu(), "
                "or use vladkit.encode, which stays on the device"
            )
        x = x.detach()
    return to_numpy(x, "auto")


def like(result: AnyArray, local: Any, kind: str) -> Any:
    """Convert `result` to an array of `kind`, in the floating dtype of `local` if it has one."""
    if kind == "numpy":
        return result
    first = next(x for x in local if x is not None) if isinstance(local, Sequence) else local
    library = sys.modules[kind]
    if kind == "torch":
        tensor = library.from_numpy(result)
        return tensor.to(first.dtype) if first.dtype.is_floating_point else tensor
    array = library.numpy.asarray(result)
    is_float = library.numpy.issubdtype(first.dtype, library.numpy.floating)
    return array.astype(first.dtype) if is_float else array
