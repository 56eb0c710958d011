"""SIFT by OpenCV: up to 2000 features per image, 128 bytes each, compared as RootSIFT.

Axes: ``l`` features of one image, ``f`` descriptor dimension (128), ``2`` is x, y.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from vladkit.core.linalg import root_sift
from vladkit.core.params import Constraints, Interval, store_checked
from vladkit.errors import ImageError
from vladkit.features.types import IMAGE_PARAMETERS, MIN_SIDE, Features, Parameter, check_image
from vladkit.images import Image, decoder_facts, read_image
from vladkit.images.opencv import is_out_of_memory

__all__ = ["Sift"]

# OpenCV finds everything 1/4 px too far right and down: it doubles the image by cv2.resize, where
# px x comes from x/2 - 1/4, and halves coordinates by x/2. Measured on Gaussian blobs of sigma 1.5
# to 9 px: +0.247 on average, without this. Its enable_precise_upscale also fixes it, but changes
# which features are found (1336 instead of 1521 on a holiday image).
_BIAS: Final = 0.25

_CLIP: Final = 4.0
_TILES: Final = (1, 1)
"""Clip limit and tiles of the second try's CLAHE. 8x8 tiles make up to 60 features of a smooth
vignette, one tile 4; a clip limit of 8 makes 160 of a sensor's noise, 4 makes 7."""

_FINE: Final = 5.0
_LARGE_SHARE: Final = 0.02
"""Least share of features of the second try that are larger than 5 px: of lifted noise of 1 to 4
levels at most 0.005 are, of night photographs at least 0.05."""


@dataclass(frozen=True)
class Sift:
    """Scale-invariant features (Lowe 2004) of gray images, by OpenCV.

    Parameters
    ----------
    max_features : int, default=2000
        Most features of an image; the strongest are kept.
    max_side : int or None, default=640
        Longest side in px at which images are read; None reads them as they are.
    enlarge_to : int, default=320
        Images whose longest side is shorter, in px, are enlarged to this; 0 never does. Many
        features of a thumbnail are smaller than SIFT's finest scale (docs/results/defaults.md: mAP
        0.42 to 0.54 on images of 160x120 px).
    contrast_threshold : float, default=0.02
        Features of lower contrast are dropped, 0 keeps all. OpenCV's own default, 0.04, leaves
        too few in dim or smooth images.
    edge_threshold : float, default=10.0
        Largest ratio of the two principal curvatures; features on edges have a high one.
    n_octave_layers : int, default=3
        Scales per octave.
    sigma : float, default=1.6
        Blur of the first layer, in px of the decoded image.
    lift_below : int, default=20
        An image with fewer features (night, fog) is tried once more with lifted contrast (histogram
        equalisation with a clip limit, Zuiderveld 1994), and described by that if as many as this
        are found then; 0 never does. Of a blank image or a smooth gradient as many are not found.

    Raises
    ------
    ParameterError
        A value is out of range.

    Notes
    -----
    Features come strongest first, those of equal score by row, then column, size and angle: the
    same order on every run and in every thread.

    Descriptors are stored as uint8, which loses nothing: OpenCV computes integers of 0 to 255 and
    hands them out as float32.

    Time: 0.1 to 0.2 s for 640x480 px on one core, without the decoding. Calls from several threads
    run in parallel, each with its own ``cv2.SIFT``; see `one_opencv_thread`.

    References
    ----------
    Lowe, *Distinctive image features from scale-invariant keypoints*, IJCV 2004.
    Arandjelovic and Zisserman, *Three things everyone should know to improve object retrieval*,
    CVPR 2012, section 3 (RootSIFT).
    Zuiderveld, *Contrast limited adaptive histogram equalization*, Graphics Gems IV, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from vladkit.images import Image
    >>> noise_yx = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
    >>> sift = Sift(max_features=50)
    >>> features = sift.extract(Image(noise_yx, width=160, height=120))
    >>> features.descriptor_lf.shape, features.descriptor_lf.dtype
    ((50, 128), dtype('uint8'))
    >>> np.linalg.norm(sift.metric(features.descriptor_lf), axis=1).round(5).max()
    np.float32(1.0)
    """

    max_features: int = 2000
    max_side: int | None = 640
    enlarge_to: int = 320
    contrast_threshold: float = 0.02
    edge_threshold: float = 10.0
    n_octave_layers: int = 3
    sigma: float = 1.6
    lift_below: int = 20

    name: ClassVar[str] = "sift"
    n_dimensions: ClassVar[int] = 128

    # A sigma below 0.5 is less blur than any image has already; the other upper bounds are far
    # beyond any sensible use.
    _constraints: ClassVar[dict[str, Constraints]] = IMAGE_PARAMETERS | {
        "contrast_threshold": Interval(float, 0, 1),
        "edge_threshold": Interval(float, 1, 1_000_000),
        "n_octave_layers": Interval(int, 1, 20),
        "sigma": Interval(float, 0.5, 16),
        "lift_below": Interval(int, 0, 1000),
    }

    def __post_init__(self) -> None:
        store_checked(self, self._constraints)

    def parameters(self) -> dict[str, Parameter]:
        """Everything that changes the output: arguments, decoder, and how descriptors compare.

        Returns
        -------
        dict
            Values that JSON gives back unchanged; see `Extractor.parameters`.
        """
        return {**asdict(self), **decoder_facts(), "metric": "rootsift"}

    def read(self, path: str | os.PathLike[str]) -> Features:
        """Read an image file at ``max_side`` and extract its features.

        Parameters
        ----------
        path : str or path
            An image file that `read_image` reads.

        Returns
        -------
        Features

        Raises
        ------
        ImageError
            For the reasons of `read_image` and `extract`.
        """
        return self.extract(read_image(path, max_side=self.max_side))

    def extract(self, image: Image) -> Features:
        """Find and describe the features of one image.

        Parameters
        ----------
        image : Image
            Used at the size it has; see `read_image`.

        Returns
        -------
        Features
            With uint8 descriptors (l, 128), strongest first, 1 <= l <= ``max_features``.

        Raises
        ------
        ImageError
            A side is shorter than 16 px, in the original or as decoded; nothing was found; or
            memory ran out (``transient=True``).
        ParameterError
            It is no `Image`.
        """
        import cv2

        check_image(image)
        gray_yx: npt.NDArray[Any] = image.gray_yx
        scale_x, scale_y = image.scale_x, image.scale_y
        h, w = gray_yx.shape
        if min(h, w, image.width, image.height) < MIN_SIDE:
            reduced = f", reduced to {w}x{h} px" if (w, h) != (image.width, image.height) else ""
            raise ImageError(
                f"too small: {image.width}x{image.height} px{reduced}, "
                f"at least {MIN_SIDE}x{MIN_SIDE} needed"
            )
        try:
            if max(h, w) < self.enlarge_to:
                factor = self.enlarge_to / max(h, w)
                size = round(w * factor), round(h * factor)
                gray_yx = np.asarray(cv2.resize(gray_yx, size, interpolation=cv2.INTER_CUBIC))
                scale_x, scale_y = scale_x * w / size[0], scale_y * h / size[1]
            points, found, lifted = self._detect(gray_yx)
        except (cv2.error, MemoryError) as error:
            if is_out_of_memory(error):
                reason = f"not enough memory for SIFT on {w}x{h} px: lower max_side"
                raise ImageError(reason, transient=True) from error
            raise ImageError(f"OpenCV's SIFT failed on {w}x{h} px: {error}") from error
        if not points:
            raise ImageError("no features found: the image is blank or has no texture")
        descriptor_lf = np.asarray(found).astype(np.uint8)
        raw_l5 = np.array(
            [(*point.pt, point.size, point.angle, point.response) for point in points], np.float32
        )
        x_l, y_l, size_l, angle_l, score_l = raw_l5.T
        # OpenCV returns more than asked for where scores tie: the angles of one point share theirs.
        order_l = np.lexsort((angle_l, size_l, x_l, y_l, -score_l))[: self.max_features]
        scale_2 = np.array([scale_x, scale_y])
        xy_l2 = (raw_l5[order_l, :2] - _BIAS + 0.5) * scale_2 - 0.5
        return Features(
            descriptor_lf[order_l],
            xy_l2.astype(np.float32),
            size_l[order_l] * np.float32(math.sqrt(scale_x * scale_y)),
            angle_l[order_l],
            score_l[order_l],
            width=image.width,
            height=image.height,
            region=image.region,
            lifted=lifted,
        )

    def metric(self, descriptor_lf: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """RootSIFT: the square root of each descriptor's share of its sum.

        Parameters
        ----------
        descriptor_lf : array (l, f), not negative
            As stored.

        Returns
        -------
        float32 array (l, f)
            Rows of L2 norm 1; rows of zeros stay zeros. See `vladkit.core.linalg.root_sift`.

        Examples
        --------
        >>> import numpy as np
        >>> Sift().metric(np.array([[1, 3, 0, 0], [0, 0, 0, 0]], np.uint8)).round(3)
        array([[0.5  , 0.866, 0.   , 0.   ],
               [0.   , 0.   , 0.   , 0.   ]], dtype=float32)
        """
        return root_sift(descriptor_lf)

    def mirrored(self, features: Features) -> Features:
        """Features of the image flipped left to right, without extracting again.

        Parameters
        ----------
        features : Features
            From `extract`.

        Returns
        -------
        Features
            In the same order. Nearly the features that `extract` finds in the flipped image:
            rounding on the way differs.

        Notes
        -----
        A descriptor holds 4x4 cells of 8 directions, row by row, in a frame that is rotated to the
        feature's direction. Flipped, that frame has its rows in reverse and directions negated.

        Examples
        --------
        >>> import numpy as np
        >>> one_l = np.ones(1, np.float32)
        >>> xy_l2 = np.array([[10, 20]], np.float32)
        >>> a = Features(np.zeros((1, 128), np.uint8), xy_l2, one_l, 30 * one_l, one_l, 100, 50)
        >>> b = Sift().mirrored(a)
        >>> b.xy_l2, b.angle_l
        (array([[89., 20.]], dtype=float32), array([150.], dtype=float32))
        """
        cell_l448 = features.descriptor_lf.reshape(-1, 4, 4, 8)
        flipped_l448 = cell_l448[:, ::-1, :, (-np.arange(8)) % 8]
        xy_l2 = features.xy_l2.copy()
        xy_l2[:, 0] = features.width - 1 - xy_l2[:, 0]
        return replace(
            features,
            descriptor_lf=np.ascontiguousarray(flipped_l448.reshape(-1, 128)),
            xy_l2=xy_l2,
            angle_l=((180 - features.angle_l) % 360).astype(np.float32),
            region=None,  # the image is another one
        )

    def _detect(self, gray_yx: npt.NDArray[Any]) -> tuple[Any, Any, bool]:
        """Points and descriptors of OpenCV, and whether they are those of the second try."""
        import cv2

        sift = self._opencv_sift()
        points, found = sift.detectAndCompute(gray_yx, None)
        wanted = min(self.lift_below, self.max_features)
        if len(points) < wanted:
            lifted_yx = cv2.createCLAHE(_CLIP, _TILES).apply(gray_yx)
            more, described = sift.detectAndCompute(lifted_yx, None)
            n_large = sum(point.size > _FINE for point in more)
            if len(more) >= wanted and n_large >= _LARGE_SHARE * len(more):
                return more, described, True
        return points, found, False

    def _opencv_sift(self) -> Any:
        """``cv2.SIFT`` of the calling thread: OpenCV promises nothing about sharing."""
        import cv2

        if getattr(_thread, "made_for", None) != self:
            _thread.sift = cv2.SIFT.create(
                nfeatures=self.max_features,
                nOctaveLayers=self.n_octave_layers,
                contrastThreshold=self.contrast_threshold,
                edgeThreshold=self.edge_threshold,
                sigma=self.sigma,
                enable_precise_upscale=False,  # see _BIAS
            )
            _thread.made_for = self
        return _thread.sift


_thread = threading.local()
