"""The surface of a generated object: from its density to a triangle mesh whose colours are those of its pictures."""

from collections.abc import Mapping, Sequence

import numpy as np

from holotf import views

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


def photographed(ranges: Mapping[str, Sequence[float]]) -> np.ndarray:
    """The views in which an object's colours are looked for, [K, 6]; `ranges` of views as a config or a card has them."""
    centred = {"scale": 1.0, "x": 0.0, "y": 0.0, "z": 0.0}
    ends = sorted(set(ranges["elevation_deg"]))
    return np.concatenate([views.sweep(ranges, "azimuth_deg", PHOTOGRAPHS, elevation_deg=end, **centred) for end in ends])


def mesh(density: np.ndarray, images: np.ndarray, asked: np.ndarray) -> bytes | None:
    """A binary glTF file: y up, the object's front toward +z, its volume from -1 to 1, a colour for each vertex.

    Args:
      density: [n, n, n], of the object.
      images: uint8 [K, H, W, 3], of it.
      asked: [K, 6], the views of `photographed`.

    Returns:
      None where it has no surface.
    """
    import trimesh

    found = lay(density)
    if found is None:
        return None
    vertices, faces = found
    laid = trimesh.Trimesh(vertices, faces, process=False)
    laid.visual.vertex_colors = colours(images, asked, vertices, np.asarray(laid.vertex_normals))
    return laid.export(file_type="glb")


def lay(density: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where air turns into matter: marching cubes (Lorensen and Cline 1987; Lewiner et al. 2003) through a density.

    The opacities of the voxels, 1 - exp(-density), are parted into two kinds (Otsu 1979), as what a generator calls air is not
    quite clear; the surface lies halfway between the means of the two.

    Args:
      density: [N, N, N] >= 0, index 0 of the axes the nearest, the top and the left.

    Returns:
      (vertices [V, 3] float32, x right, y up, z toward the viewer, in half volumes; triangles [F, 3], counterclockwise from
      outside), or None where all voxels are alike, or not numbers.
    """
    from scipy import ndimage
    from skimage import filters, measure

    n, opacity = len(density), 1.0 - np.exp(-density.astype(np.float64))
    if not np.ptp(opacity) >= 1e-6:  # NaN, too
        return None
    matter = opacity > filters.threshold_otsu(opacity)
    level = (opacity[matter].mean() + opacity[~matter].mean()) / 2
    # The surface closes at the faces of the volume, beyond which there is air.
    fine = ndimage.zoom(np.pad(opacity, 1, constant_values=opacity.min()), FINER, order=1, grid_mode=True, mode="nearest")
    places, faces, *_ = measure.marching_cubes(fine, level)
    depth, row, column = ((places + 0.5) / FINER - 1.5 - (n - 1) / 2).T / (n / 2)  # [V] each, in half volumes from the middle
    return np.stack([column, -row, -depth], axis=1).astype(np.float32), faces.astype(np.int64)


def turns(asked: np.ndarray) -> np.ndarray:
    """`holotf.layers.rigid.rotation` of views [K, 6], without TensorFlow: [K, 3, 3]."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("yx", asked[:, :2] * [-1, 1], degrees=True).as_matrix()


def colours(images: np.ndarray, asked: np.ndarray, vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """What colour each vertex has in the pictures of the object in which it is seen, weighted by how squarely it is.

    Args:
      images, asked: as `mesh` takes them.
      vertices, normals: [V, 3], as `lay` gives them.

    Returns:
      uint8 [V, 3].
    """
    size, turned = images.shape[1], turns(asked)
    total, weights = np.zeros((len(vertices), 3)), np.full((len(vertices), 1), 1e-9)
    for image, turn in zip(images, turned, strict=True):
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
