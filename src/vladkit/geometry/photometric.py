"""Photometric comparison of two copies of one shot: brightness, places written over, print."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, Float32Array
from vladkit.images import Image

__all__ = ["PAGE_SIDE", "READ_SIDE", "agrees", "compare_print", "is_page", "retouching"]

READ_SIDE: Final = 320
"""Longest side, in px, that images are best read at to be compared."""

# A grid of 16 x 16 cells, each with its mean error in gray levels of 255. Measured on
# benchmarks/duplicates.py: copies saved again at quality 30, resized or rotated by 7 degrees keep a
# gain within 0.02 of 1 and an offset within 3. Copies have a median error of the cells of 1.1 at
# most, two smooth images with the same words written over them 6.7.
_CELLS: Final = 16
_MIN_GAIN: Final = 0.06  # from a gain of 1, to be named "brightness"
_MIN_OFFSET: Final = 8.0  # of middle gray, to be named "brightness"
_CELL_ERROR: Final = 9.0  # from which a cell is written over, but at least
_TIMES_MEDIAN: Final = 3.0  # times the median cell, which is higher in a poor copy
_MIN_CELLS: Final = 3  # written over, to be named "watermarked"; one or two are noise
_MAX_GAIN: Final = 2.5  # or its inverse: more makes any smooth image like any other
_MAX_MEDIAN_ERROR: Final = 2.5  # of one shot

PAGE_SIDE: Final = 1280
"""Longest side, in px, that pages are best read at to compare their print."""

# Print is thin, and most cells of a page are blank: it is sought px by px. Measured on a form of
# 1240 x 1754 px: copies saved at quality 10, resized by 0.4 to 1.5, rotated, or scanned with noise
# have at most 50 px (in corners) with print that the other lacks, all of them on one side; one word
# more has 900, another word in the same place 40 on one side and 12 on the other. A digit that is
# another one cannot be told.
_PAPER: Final = 16.0  # gray levels from paper within which a px is blank, in some shade too
_LIGHT: Final = 160.0  # gray level of light paper, at least
# Of 200 photos of Holidays none has half of its px within 4 levels, 18 have within 16; of other
# 200 photos 3 and 30. A filled form has three quarters, as scanned with noise or at quality 10.
_ONE_TONE: Final = 4.0  # gray levels from the middle tone within which a px is blank
_PRINT: Final = 20.0  # gray levels by which print is farther from paper than all around its place
_RULE: Final = 100  # px; longer lines are the form's, and may come and go with resampling
_MIN_PRINT: Final = 8  # px on both sides of two documents
_MIN_ADDED: Final = 80  # px on one side, to be named "watermarked"

_FITS: Final = 4  # of gain and offset, each without the pixels that the last one is far from
_BLUR: Final = 1.5  # sigma in px of the coarser image; evens out JPEG's blocks and resampling
_SHIFTED_EDGE: Final = 0.75  # px by which an edge may lie beside its place: its slope is forgiven
_CLIPPED: Final = 6.0  # gray levels from black and white within which pixels may be cut off


def retouching(
    a: Image, b: Image, affine_23: npt.NDArray[np.float64], *, flipped: bool = False
) -> tuple[str, ...]:
    """Name the differences of two images pixel by pixel, where one lies on the other.

    Parameters
    ----------
    a, b : Image
        Read at `READ_SIDE` px.
    affine_23 : float64 array (2, 3)
        Takes points of `a`, or of `a` mirrored, to points of `b`, px of the originals, as
        `vladkit.geometry.same_shot.same_shot` finds it.
    flipped : bool
        Whether `a` is to be mirrored first.

    Returns
    -------
    tuple of str
        "brightness": one is the other with another gain (by more than 0.06) or offset (by more
        than 8 of 255 gray levels). "watermarked": they differ in places, as by something written
        over one. Empty: neither can be seen.

    Examples
    --------
    >>> import cv2, numpy as np
    >>> gray_yx = cv2.GaussianBlur(np.random.default_rng(0).integers(
    ...     0, 256, (240, 320), dtype=np.uint8), None, 3) * 2
    >>> same_23 = np.array([[1.0, 0, 0], [0, 1, 0]])
    >>> retouching(Image(gray_yx, 320, 240), Image(gray_yx // 2, 320, 240), same_23)
    ('brightness',)
    """
    compared = _compare(a, b, affine_23, flipped)
    if compared is None:
        return ()
    gain, offset, error_c = compared
    found = []
    if abs(gain - 1) > _MIN_GAIN or abs(gain * 128 + offset - 128) > _MIN_OFFSET:
        found.append("brightness")
    limit = max(_CELL_ERROR, _TIMES_MEDIAN * float(np.median(error_c)))
    if int((error_c > limit).sum()) >= _MIN_CELLS:
        found.append("watermarked")
    return tuple(found)


def agrees(
    a: Image, b: Image, affine_23: npt.NDArray[np.float64], *, flipped: bool = False
) -> bool:
    """Whether the pixels are those of one shot, for the most part.

    Features alone cannot tell two smooth images (sky, sea) from one shot that have the same
    words written over them, at the same place.

    Parameters
    ----------
    a, b, affine_23, flipped
        See `retouching`.

    Returns
    -------
    bool
        False if one, with the best gain and offset, differs from the other by more than 2.5 gray
        levels in more than half of what both show, or only a gain beyond 2.5 brings them closer.
        True where too little is common to tell.

    Examples
    --------
    >>> import numpy as np
    >>> a_yx, b_yx = np.random.default_rng(0).integers(0, 256, (2, 8, 10), dtype=np.uint8)
    >>> a_yx, b_yx = (np.kron(each, np.ones((30, 32), np.uint8)) for each in (a_yx, b_yx))
    >>> same_23 = np.array([[1.0, 0, 0], [0, 1, 0]])
    >>> a, b = Image(a_yx, 320, 240), Image(b_yx, 320, 240)
    >>> agrees(a, a, same_23), agrees(a, b, same_23)
    (True, False)
    """
    compared = _compare(a, b, affine_23, flipped)
    if compared is None:
        return True
    gain, _, error_c = compared
    return 1 / _MAX_GAIN < gain < _MAX_GAIN and float(np.median(error_c)) < _MAX_MEDIAN_ERROR


def is_page(image: Image) -> bool:
    """Whether most of an image is one tone, as of paper or a screen, whether light or dark.

    Light paper may lie in some shade. What is written on pages is seen at `PAGE_SIDE`.
    """
    gray_yx = image.gray_yx
    middle, light = np.percentile(gray_yx, (50, 90))
    is_light = light > _LIGHT and middle > light - _PAPER
    return bool(is_light or np.mean(np.abs(gray_yx - middle) <= _ONE_TONE) > 0.5)


def compare_print(
    a: Image, b: Image, affine_23: npt.NDArray[np.float64], *, flipped: bool = False
) -> Literal["same", "added", "different"]:
    """Compare what is written on two pages.

    Parameters
    ----------
    a, b : Image
        Read at `PAGE_SIDE` px.
    affine_23, flipped
        See `retouching`.

    Returns
    -------
    str
        "added": one has print that the other lacks. "different": both have, so that they are two
        documents, whatever form they have in common.

    Examples
    --------
    >>> import numpy as np
    >>> blank_yx = np.full((240, 320), 255, np.uint8)
    >>> one_yx, other_yx = blank_yx.copy(), blank_yx.copy()
    >>> one_yx[100:108, 50:70] = other_yx[100:108, 150:170] = 0
    >>> blank, one, other = (Image(yx, 320, 240) for yx in (blank_yx, one_yx, other_yx))
    >>> same_23 = np.array([[1.0, 0, 0], [0, 1, 0]])
    >>> compare_print(blank, one, same_23), compare_print(one, other, same_23)
    ('added', 'different')
    """
    import cv2

    laid = _lay(*_finer_first(a, b, affine_23, flipped))
    if laid is None:
        return "same"
    first_yx, second_yx, inside_yx = laid
    paper = np.median(first_yx[inside_yx])
    blank_yx = inside_yx & (np.abs(first_yx - paper) <= _PAPER)
    # print is what is not paper, darker or lighter; the strongest as strong as the other's
    first_yx = np.abs(first_yx - paper)
    second_yx = np.abs(second_yx - np.median(second_yx[blank_yx]))
    strong, to_strong = (np.percentile(each[inside_yx], 99) for each in (first_yx, second_yx))
    if min(strong, to_strong) > _PAPER:
        first_yx *= to_strong / strong
    counts = []
    for page_yx, other_yx in ((first_yx, second_yx), (second_yx, first_yx)):
        around_yx = cv2.dilate(other_yx, np.ones((3, 3), np.uint8))  # its place is a px off
        extra_yx: Any = (inside_yx & (page_yx > around_yx + _PRINT)).astype(np.uint8)
        for shape in ((1, _RULE), (_RULE, 1)):
            rules_yx = cv2.morphologyEx(extra_yx, cv2.MORPH_OPEN, np.ones(shape, np.uint8))
            extra_yx &= 1 - cv2.dilate(rules_yx, np.ones((3, 3), np.uint8))
        counts.append(int(extra_yx.sum()))
    if min(counts) >= _MIN_PRINT:
        return "different"
    return "added" if max(counts) >= _MIN_ADDED else "same"


def _compare(
    a: Image, b: Image, affine_23: npt.NDArray[np.float64], flipped: bool
) -> tuple[float, float, AnyArray] | None:
    """Gain, offset and mean errors of the cells where both overlap; None if they hardly do."""
    fine_yx, coarse_yx, to_coarse_33 = _finer_first(a, b, affine_23, flipped)
    laid = _lay(fine_yx, coarse_yx, to_coarse_33)
    if laid is None:
        return None
    warped_yx, smooth_yx, inside_yx = laid
    gain, offset = _fit(warped_yx[inside_yx], smooth_yx[inside_yx])
    if gain > 0:  # tones that one of the two cannot show are cut off in both, before any blur
        fine_yx = np.clip(fine_yx, -offset / gain, (255 - offset) / gain)
        coarse_yx = np.clip(coarse_yx, offset, 255 * gain + offset)
        warped_yx, smooth_yx, _ = _lay(fine_yx, coarse_yx, to_coarse_33) or laid
    wanted_yx = gain * warped_yx + offset
    # an edge that lies a part of a pixel beside its place is no error
    slope_yx = np.hypot(*np.gradient(wanted_yx))
    error_yx = np.maximum(np.abs(smooth_yx - wanted_yx) - _SHIFTED_EDGE * slope_yx, 0)
    error_c = _of_cells(error_yx, inside_yx)
    return (gain, offset, error_c) if len(error_c) else None


def _finer_first(
    a: Image, b: Image, affine_23: npt.NDArray[np.float64], flipped: bool
) -> tuple[AnyArray, AnyArray, npt.NDArray[np.float64]]:
    """Gray levels of the finer image and of the coarser, and the matrix from one to the other."""
    a_yx, b_yx = a.gray_yx[:, ::-1] if flipped else a.gray_yx, b.gray_yx
    to_b_33: Any = np.linalg.inv(_to_original(b)) @ _homogeneous(affine_23) @ _to_original(a)
    if _scale(to_b_33) > 1:
        return b_yx, a_yx, np.linalg.inv(to_b_33)
    return a_yx, b_yx, to_b_33


def _lay(
    fine_yx: AnyArray, coarse_yx: AnyArray, to_coarse_33: npt.NDArray[np.float64]
) -> tuple[Float32Array, Float32Array, AnyArray] | None:
    """The finer image on the coarser one, both blurred, and where they overlap; None if hardly."""
    import cv2

    shape = coarse_yx.shape[::-1]
    # blurred as much as the coarser one
    smooth_yx = _smooth(fine_yx, _BLUR / _scale(to_coarse_33))
    warped_yx = cv2.warpAffine(smooth_yx, to_coarse_33[:2], shape, flags=cv2.INTER_LINEAR)
    inside_yx = cv2.warpAffine(np.ones(fine_yx.shape, np.uint8), to_coarse_33[:2], shape)
    inside_yx = cv2.erode(inside_yx, np.ones((9, 9), np.uint8)).astype(bool)  # no blurred border
    if inside_yx.sum() < _CELLS**2:
        return None
    return np.asarray(warped_yx, np.float32), _smooth(coarse_yx, _BLUR), inside_yx


def _scale(matrix_33: npt.NDArray[np.float64]) -> float:
    """Factor by which lengths grow."""
    return math.sqrt(abs(np.linalg.det(matrix_33[:2, :2])))


def _to_original(image: Image) -> npt.NDArray[np.float64]:
    """Matrix (3, 3) from px of the decoded image to px of the original."""
    x, y = image.scale_x, image.scale_y
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


def _homogeneous(affine_23: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.vstack([affine_23, [0, 0, 1]])


def _smooth(gray_yx: AnyArray, sigma: float) -> Float32Array:
    import cv2

    wide_yx = np.ascontiguousarray(gray_yx, np.float32)
    return np.asarray(cv2.GaussianBlur(wide_yx, (0, 0), sigma), np.float32)


def _fit(a_n: Float32Array, b_n: Float32Array) -> tuple[float, float]:
    """Gain and offset that take most of a to b: least squares without outliers."""
    # black and white may have been cut off
    lowest_n, highest_n = np.minimum(a_n, b_n), np.maximum(a_n, b_n)
    sound_n: Any = (lowest_n > _CLIPPED) & (highest_n < 255 - _CLIPPED)
    keep_n = sound_n
    gain, offset = 1.0, 0.0
    for _ in range(_FITS):
        if keep_n.sum() < 32 or np.ptp(a_n[keep_n]) < 8:
            break
        gain, offset = (float(v) for v in np.polyfit(a_n[keep_n], b_n[keep_n], 1))
        error_n = np.abs(b_n - gain * a_n - offset)
        keep_n = sound_n & (error_n <= 2.5 * np.median(error_n) + 1)
    return gain, offset


def _of_cells(error_yx: AnyArray, inside_yx: AnyArray) -> AnyArray:
    """Mean error in each cell of the image of which at least half is inside."""
    h, w = error_yx.shape
    y, x = (np.arange(h) * _CELLS // h)[:, None], np.arange(w) * _CELLS // w
    cell_n = (y * _CELLS + x)[inside_yx]
    count_c = np.bincount(cell_n, minlength=_CELLS**2)
    sum_c = np.bincount(cell_n, weights=error_yx[inside_yx], minlength=_CELLS**2)
    full_c = count_c > 0.5 * h * w / _CELLS**2
    return np.asarray(sum_c[full_c] / count_c[full_c])
