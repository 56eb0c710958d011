"""HEIC by pillow-heif (extra ``heic``): samples as libheif gives them, upright."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.errors import ImageError
from vladkit.images.levels import SampleForm

__all__ = ["HEIC_HINT", "decode_heic", "has_heic"]

HEIC_HINT: Final = "pip install 'vladkit[heic]'"
"""Command that installs what reads HEIC."""


@cache
def has_heic() -> bool:
    """Whether pillow-heif is installed; it is not imported."""
    return find_spec("pillow_heif") is not None


def decode_heic(data: bytes) -> tuple[npt.NDArray[Any], SampleForm]:
    """Samples (h, w, c) of the main image, and what they mean.

    libheif rotates, mirrors and crops as the file states. It refuses pixels that are larger than
    the file says.

    Raises
    ------
    ImageError
        pillow-heif is not installed, or cannot read the file.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(f"HEIC needs pillow-heif: {HEIC_HINT}", transient=True) from error
    try:
        file = pillow_heif.open_heif(
            data, convert_hdr_to_8bit=False, bgr_mode=True, hdr_to_16bit=False
        )
        sample_yxc = np.atleast_3d(np.asarray(file))
        mode, _, depth = file.mode.partition(";")
    except MemoryError as error:
        raise ImageError("not enough memory to decode it", transient=True) from error
    except Exception as error:  # of a damaged file it raises many kinds
        reason = str(error).splitlines()[0][:200] if str(error) else "damaged"
        if "emory allocation" in reason and "limit" not in reason:
            raise ImageError("not enough memory to decode it", transient=True) from error
        raise ImageError(f"HEIC cannot be decoded: {reason}") from error
    n_colors = 3 if mode.startswith("BGR") else 1
    alpha = n_colors if sample_yxc.shape[2] > n_colors else None
    most = 2 ** int(depth) - 1 if depth else 0
    return sample_yxc, SampleForm(
        tuple(range(n_colors)), alpha, premultiplied=mode.endswith("a"), most=most
    )
