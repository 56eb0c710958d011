"""Where an image was taken, in a model by COLMAP: matches with kept features, lifted by the model.

The model may be of any features. Each kept feature takes its depth from the model's nearest
observation in the same image, so that only depth is the model's, and the place our own.

Axes: ``m`` matches of the query with places of the world, in ``2`` px, ``3`` coordinates.
"""

from __future__ import annotations

import os
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vladkit.collection.allowed import Allowed
from vladkit.collection.query import QueryImage, query_of
from vladkit.collection.search_options import SearchOptions, check_number
from vladkit.collection.sfm_model import Float64Array, SfmModel, require_pycolmap
from vladkit.core.arrays import Int64Array
from vladkit.errors import ImageError, ParameterError
from vladkit.features import Features, match_rule
from vladkit.geometry.matching import Matcher
from vladkit.store.naming import names_below

if TYPE_CHECKING:
    from vladkit.collection.index import Index

__all__ = ["Localization", "Pose", "UsedImage", "localize"]

_RANKED: Final = 100
"""Images of the model that are ranked; those that cannot be used are passed over."""

_NEAR: Final = 0.002
"""Farthest observation whose depth a feature takes, as a share of the longest side: 3 px of
1500."""

_TOLERANCE: Final = 0.004
"""Largest error of an inlier, as a share of the longest side: 6 px of 1500."""

_LEAST: Final = 15
"""Features of the query that have to be inliers, for a pose to be believed."""

_GUESS: Final = 1.2
"""Focal length where nothing is known, as a share of the longest side; COLMAP's guess."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Pose of a camera, in units of the model: ``camera = R(qvec) world + tvec``, as in COLMAP.

    Parameters
    ----------
    qvec : tuple of 4 floats
        Quaternion w, x, y, z of the rotation from the world into the camera.
    tvec : tuple of 3 floats
    centre : tuple of 3 floats
        Place of the camera in the world.
    position_error : float
        Standard deviation of the centre, in units of the model: what the scatter of the matches
        leaves open. The model's own error comes on top.
    angle_error : float
        The same of the direction, in degrees.
    """

    qvec: tuple[float, ...]
    tvec: tuple[float, ...]
    centre: tuple[float, ...]
    position_error: float
    angle_error: float


@dataclass(frozen=True, slots=True)
class UsedImage:
    """An image of the model that the query was matched with.

    Parameters
    ----------
    path, name : str
        As it was indexed, and as the model names it.
    matches, inliers : int
        Matches whose depth is known, and those that fit the pose.
    """

    path: str
    name: str
    matches: int
    inliers: int


@dataclass(frozen=True, slots=True)
class Localization:
    """Where a query was taken, and by what that is known.

    Parameters
    ----------
    pose : Pose or None
        None if no pose has 15 features of the query that fit.
    matches, inliers : int
        Features of the query that match a place of the model, and those that fit the pose.
    camera : dict
        ``model``, ``width``, ``height``, ``params`` of the query's camera, as in COLMAP; and
        ``source``: "given", "model" (that of images of this size), "exif" or "guessed". The focal
        length of the last two is refined.
    images : tuple of UsedImage
        The most similar first.
    """

    pose: Pose | None
    matches: int
    inliers: int
    camera: dict[str, Any]
    images: tuple[UsedImage, ...]


def localize(
    index: Index,
    image: QueryImage,
    model: SfmModel,
    *,
    top: int,
    camera: str | None,
    root: str | os.PathLike[str] | None,
) -> Localization:
    """Find the pose of an image; parameters and errors of `Collection.localize`."""
    check_number("top", top, 1)
    index.searcher.check_keeps_features()
    # a model may be of some of them
    folder, name_of = names_below(index.store.indexed(), root, all_below=False)
    model.check_names(list(name_of.values()), folder)
    known = {i: own for i, name in name_of.items() if (own := model.spelled(name)) is not None}
    among = Allowed(np.array(sorted(known), np.int64))
    # where all are matched with it anyway, none need be before
    options = SearchOptions(max(top, _RANKED), rerank=0 if len(among) <= top else None)
    query = query_of(index, image, options)
    if query.features is None:
        raise ImageError("no features of it are kept")
    found = _camera(model, query.features, camera, image)
    used = _Matched(index, model, query.features)
    for hit in index.searcher.search([query], options, among):
        if len(used.images) < top:
            used.add(hit.image_id, hit.path, known[hit.image_id])
    return _solve(used, *found)


class _Matched:
    """Matches of a query with images of a model."""

    def __init__(self, index: Index, model: SfmModel, features: Features) -> None:
        self._index, self._model, self.features = index, model, features
        extractor = index.describer.extractor
        rule = match_rule(extractor)
        self._matcher = Matcher(
            features.descriptor_lf, extractor.metric, ratio=rule.ratio, min_cosine=rule.min_cosine
        )
        self.images: list[tuple[str, str]] = []
        self._parts: list[tuple[Int64Array, Float64Array]] = []

    def add(self, image_id: int, path: str, name: str) -> None:
        """Match with one image, unless nothing is kept of it or it is not the model's size."""
        kept = self._index.searcher.features([image_id]).get(image_id)
        seen = self._model.seen(name)
        if kept is None or not len(seen.xy_m2):
            return
        # features of another program may come without a size; the model knows the image's
        size = (kept.width, kept.height) if kept.has_size else seen.size
        if not seen.is_of_size(*size):
            return
        matches = self._matcher.match(kept.descriptor_lf)
        xyz_m3, known_m = seen.lift(kept.xy_l2[matches.other_m], *size, _NEAR)
        self.images.append((path, name))
        self._parts.append((np.asarray(matches.query_m[known_m], np.int64), xyz_m3[known_m]))

    def arrays(self) -> tuple[Int64Array, Int64Array, Float64Array]:
        """Rows of images, rows of the query's features, and places of all matches."""
        if not self._parts:
            none = np.empty(0, np.int64)
            return none, none, np.empty((0, 3))
        sizes = [len(rows) for rows, _ in self._parts]
        rows_m = np.repeat(np.arange(len(sizes)), sizes)
        query_m = np.concatenate([rows for rows, _ in self._parts])
        return rows_m, query_m, np.concatenate([xyz for _, xyz in self._parts])


def _solve(used: _Matched, camera: Any, source: str) -> Localization:
    pycolmap = require_pycolmap("localize")
    image_m, query_m, xyz_m3 = used.arrays()
    features = used.features
    xy_m2 = features.xy_l2[query_m].astype(np.float64) + 0.5
    guessed = source in ("exif", "guessed")
    estimation = pycolmap.AbsolutePoseEstimationOptions(estimate_focal_length=source == "guessed")
    estimation.ransac.max_error = _TOLERANCE * max(features.width, features.height)
    estimation.ransac.random_seed = 0
    refinement = pycolmap.AbsolutePoseRefinementOptions(refine_focal_length=guessed)
    answer = None
    if len(np.unique(query_m)) >= _LEAST:
        answer = pycolmap.estimate_and_refine_absolute_pose(
            xy_m2, xyz_m3, camera, estimation, refinement
        )
    inlier_m = np.zeros(len(query_m), bool) if answer is None else answer["inlier_mask"]
    n_inliers = len(np.unique(query_m[inlier_m]))
    pose = None
    if answer is not None and n_inliers >= _LEAST:
        twice = inlier_m.sum() / n_inliers  # a feature that matches in two images is no two proofs
        fitted = xy_m2[inlier_m], xyz_m3[inlier_m], twice
        pose = _pose(answer["cam_from_world"], camera, *fitted, guessed)
    n = len(used.images)
    matches_n, inliers_n = (np.bincount(rows, minlength=n) for rows in (image_m, image_m[inlier_m]))
    counts = zip(used.images, matches_n.tolist(), inliers_n.tolist(), strict=True)
    about = {"model": camera.model_name, "width": camera.width, "height": camera.height}
    return Localization(
        pose,
        len(np.unique(query_m)),
        n_inliers if pose else 0,
        {**about, "params": camera.params.tolist(), "source": source},
        tuple(UsedImage(path, name, m, i if pose else 0) for (path, name), m, i in counts),
    )


def _pose(
    found: Any, camera: Any, xy_m2: Float64Array, xyz_m3: Float64Array, twice: float, guessed: bool
) -> Pose:
    """The pose, with the deviations that the residuals of its inliers leave open.

    Of least squares: J^T J of the errors in px by rotation, centre and, if guessed, focal length.
    """
    rotation_33, centre_3 = found.rotation.matrix(), found.inverse().translation
    local_m3 = (xyz_m3 - centre_3) @ rotation_33.T
    residual_m2 = camera.img_from_cam(local_m3) - xy_m2
    step = 1e-6 * float(np.median(local_m3[:, 2]))
    projected = [camera.img_from_cam(local_m3 + step * axis_3) for axis_3 in np.eye(3)]
    jacobian_m23 = np.stack([(p - xy_m2 - residual_m2) / step for p in projected], axis=2)
    turned_m33 = np.cross(np.eye(3), local_m3[:, None])  # by small turns of the camera
    columns = [jacobian_m23 @ turned_m33.transpose(0, 2, 1), -jacobian_m23 @ rotation_33]
    if guessed:
        scaled = (1 + 1e-6) * np.ones(3)
        scaled[2] = 1
        by_focal_m2 = (camera.img_from_cam(local_m3 * scaled) - xy_m2 - residual_m2) / 1e-6
        columns.append(by_focal_m2[:, :, None])
    jacobian_rp = np.concatenate(columns, axis=2).reshape(2 * len(xy_m2), -1)
    n_free = max(1, len(jacobian_rp) - jacobian_rp.shape[1])
    variance = float((residual_m2**2).sum()) / n_free * twice
    variance_p = np.diag(np.linalg.pinv(jacobian_rp.T @ jacobian_rp)) * variance
    x, y, z, w = found.rotation.quat.tolist()
    return Pose(
        (w, x, y, z),
        tuple(found.translation.tolist()),
        tuple(centre_3.tolist()),
        float(np.sqrt(variance_p[3:6].sum())),
        float(np.degrees(np.sqrt(variance_p[:3].sum()))),
    )


def _camera(
    model: SfmModel, features: Features, given: str | None, image: QueryImage
) -> tuple[Any, str]:
    """Camera of the query, and where it is from; see `Localization`."""
    pycolmap = require_pycolmap("localize")
    size = features.width, features.height
    if given is not None:
        return _given(pycolmap, given, *size), "given"
    if not features.has_size:
        raise ImageError(
            "its size is not known, and so not its camera: give camera (--camera), or the features "
            "with a size of each image"
        )
    if (same := model.camera_of_size(*size)) is not None:
        return copy(same), "model"
    if isinstance(image, str | os.PathLike) and os.path.isfile(image):
        with suppress(ValueError, RuntimeError):  # COLMAP reads no WebP, HEIC, AVIF or RAW
            camera = pycolmap.infer_camera_from_image(os.fspath(image))
            # COLMAP ignores EXIF's orientation, by which the sides of a photo may be swapped
            focal = camera.mean_focal_length()
            if camera.has_prior_focal_length and {camera.width, camera.height} == set(size):
                return _centred(pycolmap, "SIMPLE_RADIAL", focal, *size), "exif"
    return _centred(pycolmap, "SIMPLE_PINHOLE", _GUESS * max(size), *size), "guessed"


def _centred(pycolmap: Any, model: str, focal: float, width: int, height: int) -> Any:
    """A camera without distortion whose axis is at the centre of the image."""
    params = [focal, width / 2, height / 2] + [0.0] * (model == "SIMPLE_RADIAL")
    made = {"model": model, "width": width, "height": height, "params": params}
    return pycolmap.Camera(made)


def _given(pycolmap: Any, given: str, width: int, height: int) -> Any:
    name, _, text = given.partition(",")
    made: dict[str, Any] = {"model": name.strip().upper(), "width": width, "height": height}
    with suppress(ValueError):
        if made["model"] in pycolmap.CameraModelId.__members__:
            camera = pycolmap.Camera({**made, "params": [float(v) for v in text.split(",")]})
            is_one = camera.verify_params() and np.isfinite(camera.params).all()
            if is_one and min(camera.params[i] for i in camera.focal_length_idxs()) > 0:
                return camera
    raise ParameterError(
        f"camera={given!r}: give one of COLMAP's models and its parameters, such as "
        "SIMPLE_RADIAL,f,cx,cy,k, of finite numbers with f above 0"
    )
