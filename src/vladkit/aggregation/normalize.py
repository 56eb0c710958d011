"""Normalisation as a list of named steps in a stated order, and the published orders by name.

The same words hide different orders in different programs, so nothing here is implied: a
preset is a tuple of steps, applied from left to right to the residual sums of each image.

=============  =====================================================================
step           result for the residuals r of one image, (k, f)
=============  =====================================================================
``mass``       each block divided by its number of descriptors: r_k / n_k
``ssr``        signed square root of each component (the same as ``power:0.5``)
``power:P``    sign(r) |r|^P, 0 < P <= 1
``intra``      each block to unit length
``l2``         the whole vector to unit length
=============  =====================================================================

A block or image of zeros stays zero; all others get their length, however small or large they are.
(VLFeat takes lengths below 1e-12 as 1e-12.) A mass is divided by if it is above 0, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.linalg import to_unit_length
from vladkit.errors import ParameterError

__all__ = ["PRESETS", "Norm", "normalize", "resolve_steps"]

Norm: TypeAlias = str | Sequence[str]

PRESETS: dict[str, tuple[str, ...]] = {
    # VLFeat vl/vlad.c with its default flags; with flags: (mass,) (ssr,) (intra,) l2, in this order
    "vlfeat": ("l2",),
    # Jégou, Douze, Schmid, Pérez, CVPR 2010, section 3.2
    "jegou2010": ("l2",),
    # Jégou et al., PAMI 2012, section 3.3: power 0.5, then L2 (on rotated descriptors)
    "jegou2012": ("ssr", "l2"),
    # Arandjelović, Zisserman, CVPR 2013, section 3.1 (on adapted centroids)
    "all-about-vlad": ("intra", "l2"),
    # Keetha et al., RA-L 2023 (on unit-length descriptors)
    "anyloc": ("intra", "l2"),
    "none": (),
}
"""Published orders of steps. A method that is more than its steps is a `VLAD.preset`."""


def resolve_steps(norm: Norm) -> tuple[str, ...]:
    """Steps of a preset, of one name, or of a list, checked.

    Raises
    ------
    ParameterError
        For an unknown name or a power outside (0, 1].

    Examples
    --------
    >>> resolve_steps("jegou2012"), resolve_steps(["power:0.3", "l2"]), resolve_steps("ssr,l2")
    (('ssr', 'l2'), ('power:0.3', 'l2'), ('ssr', 'l2'))
    """
    if isinstance(norm, str):
        steps = PRESETS.get(norm)
        if steps is None:
            steps = tuple(s.strip() for s in norm.split(","))
    else:
        try:
            steps = tuple(norm)
        except TypeError:
            raise ParameterError(f"norm={norm!r}: wanted a name or a list of names") from None
    for step in steps:
        _function(step)
    return steps


def normalize(residual_tkf: FloatArray, count_tk: AnyArray, norm: Norm) -> FloatArray:
    """Apply the steps of `norm` in order, in place.

    Parameters
    ----------
    residual_tkf : (t, k, f), floating
        Residual sums, from `vladkit.encode`. Overwritten if C-contiguous.
    count_tk : (t, k), integer; or floating, the masses of soft assignment
        Descriptors per cell; only ``mass`` reads it.
    norm : str or sequence of str
        A preset, or steps (see the table of this module).

    Returns
    -------
    vlad_tD : (t, k * f)
        A view of `residual_tkf` then.

    Examples
    --------
    >>> import numpy as np
    >>> residual = np.array([[[3.0, -4.0], [0.0, 0.0]]])
    >>> normalize(residual, np.array([[2, 0]]), ["intra"]).tolist()
    [[0.6, -0.8, 0.0, 0.0]]
    """
    residual_tkf = np.ascontiguousarray(residual_tkf)
    for step in resolve_steps(norm):
        _function(step)(residual_tkf, count_tk)
    t, k, f = residual_tkf.shape
    return residual_tkf.reshape(t, k * f)


def _function(step: object) -> Callable[[FloatArray, AnyArray], None]:
    if not isinstance(step, str):
        raise ParameterError(f"norm has a step {step!r}: wanted a name, as 'l2'")
    if step in _STEPS:
        return _STEPS[step]
    name, _, value = step.partition(":")
    if name == "power":
        try:
            power = float(value)
        except ValueError:
            power = 0.0
        if 0 < power <= 1:
            return lambda residual_tkf, count_tk: _power(residual_tkf, power)
        raise ParameterError(f"norm has a step {step!r}: wanted power:P, 0 < P <= 1")
    raise ParameterError(
        f"norm={step!r}: wanted a preset ({', '.join(PRESETS)}) or steps from "
        f"{', '.join(_STEPS)}, power:P; VLAD.preset has the methods that are more than steps"
    )


def _mass(residual_tkf: FloatArray, count_tk: AnyArray) -> None:
    residual_tkf /= np.where(count_tk > 0, count_tk, 1)[:, :, None].astype(residual_tkf.dtype)


def _ssr(residual_tkf: FloatArray, count_tk: AnyArray) -> None:
    _power(residual_tkf, 0.5)


def _power(residual_tkf: FloatArray, power: float) -> None:
    magnitude_tkf = np.abs(residual_tkf)
    if power == 0.5:
        np.sqrt(magnitude_tkf, out=magnitude_tkf)
    else:
        np.power(magnitude_tkf, residual_tkf.dtype.type(power), out=magnitude_tkf)
    np.copysign(magnitude_tkf, residual_tkf, out=residual_tkf)


def _intra(residual_tkf: FloatArray, count_tk: AnyArray) -> None:
    _, k, f = residual_tkf.shape
    to_unit_length(residual_tkf.reshape(-1, f), per=k)


def _l2(residual_tkf: FloatArray, count_tk: AnyArray) -> None:
    t, k, f = residual_tkf.shape
    to_unit_length(residual_tkf.reshape(t, k * f))


_STEPS: dict[str, Callable[[FloatArray, AnyArray], None]] = {
    "mass": _mass,
    "ssr": _ssr,
    "intra": _intra,
    "l2": _l2,
}
