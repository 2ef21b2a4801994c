"""The surface of a generated object: from its density to a triangle mesh whose colours are those of its pictures."""

import os

import numpy as np
import tensorflow as tf

from holotf import files, views
from holotf.layers.rigid import rotation
from holotf.models.base import Turnable

FINER = 4  # samples per voxel and axis, between which the surface is laid
PHOTOGRAPHS = 16  # from equal steps of the azimuths, at either end of the elevations: whence the colours come
BEHIND = 0.12  # half volumes by which a vertex may lie behind what is seen in front of it


def available() -> bool:
    """Whether what lays surfaces and writes them is installed (`pip install 'holotf[mesh]'`)."""
    try:
        import skimage  # noqa: F401
        import trimesh  # noqa: F401
    except ImportError:
        return False
    return True


def write(model: Turnable, objects: dict[str, tf.Tensor], densities: np.ndarray, folder: str) -> list[str]:
    """Writes NAME.glb of each object: binary glTF, y up, the object's front toward +z, its volume from -1 to 1.

    Args:
      model: made the objects.
      objects: {name: latent [Z]}.
      densities: [N, n, n, n], of each of them.
      folder: where the files go.

    Returns:
      The paths, without those of objects that have no surface.
    """
    import trimesh

    written = []
    for (name, z), density in zip(objects.items(), densities, strict=True):
        found = lay(density)
        if found is None:
            continue
        vertices, faces = found
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        mesh.visual.vertex_colors = colours(model, z, vertices, np.asarray(mesh.vertex_normals))
        path = os.path.join(folder, f"{name}.glb")
        with files.temporary(path) as temporary:
            mesh.export(temporary, file_type="glb")
            os.replace(temporary, path)
        written.append(path)
    return written


def lay(density: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where air turns into matter: marching cubes (Lorensen and Cline 1987; Lewiner et al. 2003) through a density.

    The opacities of the voxels, 1 - exp(-density), are parted into two kinds (Otsu 1979), as what a generator calls air is not
    quite clear; the surface lies halfway between the means of the two.

    Args:
      density: [N, N, N] >= 0, index 0 of the axes the nearest, the top and the left.

    Returns:
      (vertices [V, 3] float32, x right, y up, z toward the viewer, in half volumes; triangles [F, 3], counterclockwise from
      outside), or None where all voxels are alike.
    """
    from scipy import ndimage
    from skimage import filters, measure

    n, opacity = len(density), 1.0 - np.exp(-density.astype(np.float64))
    if np.ptp(opacity) < 1e-6:
        return None
    matter = opacity > filters.threshold_otsu(opacity)
    level = (opacity[matter].mean() + opacity[~matter].mean()) / 2
    # The surface closes at the faces of the volume, beyond which there is air.
    fine = ndimage.zoom(np.pad(opacity, 1, constant_values=opacity.min()), FINER, order=1, grid_mode=True, mode="nearest")
    places, faces, *_ = measure.marching_cubes(fine, level)
    depth, row, column = ((places + 0.5) / FINER - 1.5 - (n - 1) / 2).T / (n / 2)  # [V] each, in half volumes from the middle
    return np.stack([column, -row, -depth], axis=1).astype(np.float32), faces.astype(np.int64)


def colours(model: Turnable, latent: tf.Tensor, vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """What colour each vertex has in the pictures of the object in which it is seen, weighted by how squarely it is.

    Args:
      model: made the object.
      latent: [Z].
      vertices, normals: [V, 3], as `lay` gives them.

    Returns:
      uint8 [V, 3].
    """
    asked = np.concatenate(
        [
            views.sweep(model.config.views, "azimuth_deg", PHOTOGRAPHS, elevation_deg=end, scale=1.0, x=0.0, y=0.0, z=0.0)
            for end in sorted(set(model.config.views.elevation_deg))
        ]
    )
    images = model.sample(latent[np.newaxis], asked).numpy()
    size, turns = images.shape[1], rotation(tf.constant(asked)).numpy()
    total, weights = np.zeros((len(vertices), 3)), np.full((len(vertices), 1), 1e-9)
    for image, turn in zip(images, turns, strict=True):
        seen, facing = vertices @ turn.T, (normals @ turn.T)[:, 2]
        column, row = (
            np.clip(np.round((s * p + 1) / 2 * size - 0.5), 0, size - 1).astype(int) for s, p in ((1, seen[:, 0]), (-1, seen[:, 1]))
        )
        nearest = np.full((size, size), -np.inf)
        np.maximum.at(nearest, (row, column), seen[:, 2])
        squarely = np.where(seen[:, 2] >= nearest[row, column] - BEHIND, np.maximum(facing, 0.0) ** 2, 0.0) + 1e-6
        total += squarely[:, np.newaxis] * image[row, column]
        weights += squarely[:, np.newaxis]
    return np.round(total / weights).astype(np.uint8)
