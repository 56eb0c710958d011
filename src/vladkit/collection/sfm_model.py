"""`SfmModel`: a reconstruction by COLMAP, as places are found in it; pycolmap reads it.

Axes: ``m`` observations of one image: its keypoints that have a 3D point. COLMAP's px have their
origin at the corner of the top-left pixel, ours at its centre: 0.5 px less.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.collection.sfm_files import check_model_files
from vladkit.core.names import composed
from vladkit.errors import FileFormatError, MissingDependencyError, ParameterError
from vladkit.store.database import damaged

__all__ = ["Seen", "SfmModel", "is_model", "require_pycolmap"]

Float64Array: TypeAlias = npt.NDArray[np.float64]

_FILES: Final = ("images.bin", "images.txt")
_ASPECT: Final = 0.01
"""Largest difference of two aspect ratios that are one: sizes are rounded."""


def require_pycolmap(who: str) -> Any:
    """pycolmap; MissingDependencyError, with the fix, if it is not installed."""
    try:
        import pycolmap
    except ImportError as error:
        raise MissingDependencyError(
            f"{who} needs pycolmap, which is not installed: pip install 'vladkit[sfm]'",
            name="pycolmap",
        ) from error
    return pycolmap


def is_model(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a model of COLMAP."""
    return any(os.path.isfile(os.path.join(path, name)) for name in _FILES)


@dataclass(frozen=True, eq=False)
class Seen:
    """An image of a model, and its observations.

    Parameters
    ----------
    camera : pycolmap.Camera
    rotation_33, centre_3 : float64 arrays
        From the world into the camera; its place in the world.
    xy_m2, depth_m : float64 arrays (m, 2), (m,)
        Observations in COLMAP's px, and the depth of their points, in units of the model.
    """

    camera: Any
    rotation_33: Float64Array
    centre_3: Float64Array
    xy_m2: Float64Array
    depth_m: Float64Array

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(self.xy_m2)

    def lift(
        self, xy_l2: npt.NDArray[Any], width: int, height: int, within: float
    ) -> tuple[Float64Array, npt.NDArray[np.bool_]]:
        """Points of the world at places of the image, as far as the model knows their depth.

        Parameters
        ----------
        xy_l2 : array (l, 2)
            Places in an image of that size, in px from the centre of the top-left pixel.
        width, height : int
            Its size in px, which may be another than the model's.
        within : float
            Farthest observation whose depth is taken, as a share of the longest side.

        Returns
        -------
        xyz_l3 : float64 array (l, 3)
            On the ray through each place, as deep as the nearest observation.
        known_l : bool array (l,)
            Whether one is near.
        """
        scale_2 = np.array([self.camera.width / width, self.camera.height / height])
        place_l2 = (xy_l2 + 0.5) * scale_2
        side = max(self.camera.width, self.camera.height)
        distance_l, near_l = self._tree.query(place_l2, distance_upper_bound=within * side)
        known_l = np.isfinite(distance_l)
        depth_l = np.zeros(len(place_l2))
        depth_l[known_l] = self.depth_m[near_l[known_l]]
        ray_l2 = self.camera.cam_from_img(place_l2)
        with np.errstate(all="ignore"):  # a model may be anybody's
            ray_l3 = np.column_stack([ray_l2, np.ones(len(ray_l2))]) * depth_l[:, None]
            xyz_l3 = ray_l3 @ self.rotation_33 + self.centre_3
        return xyz_l3, known_l & np.isfinite(xyz_l3).all(axis=1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.camera.width, self.camera.height

    def is_of_size(self, width: int, height: int) -> bool:
        """Whether an image of that size is this one, perhaps resized; not if it was rotated.

        No image is a panorama, whose points have no depth.
        """
        ratio = (width * self.camera.height) / (height * self.camera.width)
        return _is_flat(self.camera) and bool(abs(ratio - 1) < _ASPECT)


class SfmModel:
    """A reconstruction by COLMAP, or in its format.

    Parameters
    ----------
    path : path
        Folder with cameras, images and points3D, as .bin or .txt.

    Attributes
    ----------
    path : str
    reconstruction : pycolmap.Reconstruction
    names : dict
        pycolmap's image by its name, for those that have a pose.

    Raises
    ------
    MissingDependencyError
        If pycolmap is not installed.
    FileFormatError
        If there is no model, or it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        pycolmap = require_pycolmap("a model of COLMAP")
        self.path = os.fspath(path)
        if not is_model(self.path):
            raise FileFormatError(
                f"{self.path} is no model of COLMAP: give the folder that holds images.bin, "
                "such as sparse/0"
            )
        check_model_files(self.path)
        before = pycolmap.logging.minloglevel
        pycolmap.logging.minloglevel = 3
        try:
            self.reconstruction = pycolmap.Reconstruction(self.path)
        except Exception as error:  # whatever COLMAP makes of a damaged file
            raise FileFormatError(
                f"{self.path} cannot be read as a model: {_line(error)}"
            ) from error
        finally:
            pycolmap.logging.minloglevel = before
        for camera in self.reconstruction.cameras.values():
            focal = camera.params[camera.focal_length_idxs()]
            if not (camera.width and camera.height and (focal > 0).all()):
                raise FileFormatError(
                    f"{self.path} is damaged: camera {camera.camera_id} is one of "
                    f"{camera.width} x {camera.height} px and focal length {focal.tolist()}"
                )
        images = (self.reconstruction.image(i) for i in self.reconstruction.reg_image_ids())
        self.names: dict[str, Any] = {image.name: image for image in images}
        self._composed = {composed(name): name for name in self.names if not name.isascii()}
        self._seen: dict[str, Seen] = {}

    def spelled(self, name: str) -> str | None:
        """The name as the model spells its letters (NFC or NFD); None if it has no such image."""
        return name if name in self.names else self._composed.get(composed(name))

    def seen(self, name: str) -> Seen:
        """Observations of the image of that name."""
        if name not in self._seen:
            self._seen[name] = self._look(self.names[name])
        return self._seen[name]

    def _look(self, image: Any) -> Seen:
        points = self.reconstruction.points3D
        with damaged(Path(self.path), f"observations of {image.name}"):
            seen = [(p.xy, points[p.point3D_id].xyz) for p in image.get_observation_points2D()]
        xy_m2 = np.array([xy for xy, _ in seen]).reshape(-1, 2)
        xyz_m3 = np.array([xyz for _, xyz in seen]).reshape(-1, 3)
        pose = image.cam_from_world()
        rotation_33 = pose.rotation.matrix()
        depth_m = xyz_m3 @ rotation_33[2] + pose.translation[2]
        camera = self.reconstruction.camera(image.camera_id)
        return Seen(camera, rotation_33, image.projection_center(), xy_m2, depth_m)

    def camera_of_size(self, width: int, height: int) -> Any:
        """The camera of most images of that size; None if there is none."""
        found: dict[int, int] = {}
        for image in self.names.values():
            camera = self.reconstruction.camera(image.camera_id)
            if _is_flat(camera) and (camera.width, camera.height) == (width, height):
                found[image.camera_id] = found.get(image.camera_id, 0) + 1
        if not found:
            return None
        return self.reconstruction.camera(max(found, key=lambda i: found[i]))

    def check_names(self, names: list[str], root: str) -> None:
        """Raise ParameterError if none of the names is one of the model's images."""
        if all(self.spelled(name) is None for name in names):
            theirs = next(iter(self.names), "none")
            raise ParameterError(
                f"no image of the collection is in {self.path}: names there are such as "
                f"{theirs!r}, here, relative to {root}, such as {next(iter(names), 'none')!r}: "
                "give the folder of COLMAP's image_path as --root"
            )


def _is_flat(camera: Any) -> bool:
    """Whether a camera has a focal length; that of a panorama has none, and sees behind itself."""
    return len(camera.focal_length_idxs()) > 0


def _line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason is given"])[0]
