"""Load one mesh with its materials, by trimesh: stood up, centred, of radius 1, ready to be drawn (data_prep/render.py).

Frame: right-handed, x right, y up, z toward the viewer; the object's front is +z.
"""

import io
import math
import types
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.archives import MAX_FILE_BYTES
from data_prep.names import printable
from holotf.errors import UserError

MAX_FACES = 100_000  # heavier meshes draw slowly here and show nothing more at 64 or 128 px
MAX_MATERIALS = 256  # rows of the shader's table of colour changes
TEXTURE_PX = 256  # every texture is resized to this: layers of one array texture, so a mesh is one draw call
CREASE_COS = math.cos(math.radians(35))  # a corner whose smooth normal leans further than this is drawn flat
GREY_RGBA = (190, 190, 190, 255)  # a mesh without any material
PIP_RENDER = "pip install 'holotf[render]'"

CORNER = np.dtype(
    [("xyz", "f4", 3), ("normal", "f4", 3), ("uv", "f4", 2), ("rgba", "u1", 4), ("material", "i4"), ("texture", "i4")]
)


@dataclass(frozen=True)
class MeshSpec:
    """Where a mesh is and how it is to stand.

    Attributes:
      name: unique name, e.g. "scopia/chair3".
      path: the mesh file, or the ZIP (.sh3f) it is in.
      member: its path inside the ZIP; "" for a plain file.
      creator: who made it; "" if not known.
      license: its licence; "" if not known.
      rotation: 3x3 rows, applied to the file's coordinates (a catalogue's modelRotation).
      size: width (x), height (y), depth (z) it is to be scaled to after `rotation`, any one unit; None keeps its proportions.
      yaw_deg: turn about y applied last; positive takes +z to +x.
    """

    name: str
    path: str
    member: str = ""
    creator: str = ""
    license: str = ""
    rotation: tuple = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    size: tuple | None = None
    yaw_deg: float = 0.0


@dataclass(frozen=True)
class Mesh:
    """A mesh ready for upload, its bounding box centred on the origin, its furthest point at distance 1.

    Attributes:
      corners: [V] of CORNER, each once.
      indices: int32 [3 F] into them, three per triangle; the blended (see-through) triangles come last.
      opaque: how many of the indices belong to opaque triangles.
      points: [P, 3] the distinct positions, for the bounding radius under a stretch.
      textures: [L, TEXTURE_PX, TEXTURE_PX, 4] uint8, bottom row first.
      materials: how many materials there are.
    """

    corners: np.ndarray
    indices: np.ndarray
    opaque: int
    points: np.ndarray
    textures: np.ndarray
    materials: int


def yaw_matrix(yaw_deg: float) -> np.ndarray:
    """The 3x3 rotation about y that takes +z to (sin, 0, cos)."""
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def the_trimesh() -> types.ModuleType:
    """The library, or a `UserError` that says how to install it."""
    try:
        import trimesh
    except ImportError as error:
        raise UserError(f"meshes: {error}: {PIP_RENDER}") from error
    return trimesh


def _scene(spec: MeshSpec):
    """The trimesh scene of a file, with its materials; textures are found beside it, or in its folder inside the ZIP."""
    trimesh = the_trimesh()
    if not Path(spec.path).is_file():  # not opened: a FIFO would wait for somebody to write
        raise ValueError("it is no file, or a folder that cannot be entered")
    if not spec.member:
        _check_size(Path(spec.path).stat().st_size)
        return trimesh.load_scene(spec.path, process=False)
    folder = spec.member.rsplit("/", 1)[0] + "/"
    with zipfile.ZipFile(spec.path) as archive:
        members = [info for info in archive.infolist() if info.filename.startswith(folder) and not info.is_dir()]
        _check_size(sum(info.file_size for info in members))
        files = {info.filename[len(folder) :]: archive.read(info) for info in members}
    data = io.BytesIO(files[spec.member[len(folder) :]])
    resolver = trimesh.resolvers.ZipResolver(files)
    return trimesh.load_scene(data, file_type=Path(spec.member).suffix[1:].lower(), resolver=resolver, process=False)


def _check_size(size: int) -> None:
    """Refuses what would fill the memory, before it is unpacked."""
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{size:,} bytes are more than {MAX_FILE_BYTES:,}")


def _opacity(material) -> float:
    """MTL's `d` (1 is opaque) or `Tr` (0 is opaque), which trimesh leaves as strings."""
    for key, flip in (("d", False), ("Tr", True), ("tr", True)):
        words = getattr(material, "kwargs", {}).get(key)
        if words:
            value = float(words[-1])
            return 1.0 - value if flip else value
    return 1.0


def _look(geometry) -> tuple[np.ndarray, Image.Image | None]:
    """A geometry's colours: RGBA uint8 [F, 3, 4] per corner, and its texture or None."""
    visual, faces = geometry.visual, geometry.faces
    rgba, image = np.array(GREY_RGBA, np.uint8), None
    if visual.kind == "texture":
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        flat = getattr(material, "baseColorFactor", None)
        flat = getattr(material, "diffuse", None) if flat is None else flat
        if flat is not None:
            rgba = np.array(flat, np.float64)
            rgba[3] *= _opacity(material)
        if visual.uv is None:
            image = None
        elif image is not None and flat is not None and not hasattr(material, "baseColorFactor"):
            # OBJ exporters write any diffuse beside a texture, often black; its brightness is dropped, its hue kept.
            rgba[:3] = 255 * rgba[:3] / rgba[:3].max() if rgba[:3].max() > 0 else 255
    elif visual.kind == "vertex":
        return np.asarray(visual.vertex_colors, np.uint8)[faces], None
    elif visual.kind == "face":
        return np.repeat(np.asarray(visual.face_colors, np.uint8)[:, None], 3, axis=1), None
    return np.broadcast_to(np.rint(rgba).astype(np.uint8), (len(faces), 3, 4)), image


def _pixels(image: Image.Image) -> np.ndarray:
    """A texture as uint8 [TEXTURE_PX, TEXTURE_PX, 4], bottom row first as OpenGL wants it."""
    small = image.convert("RGBA").resize((TEXTURE_PX, TEXTURE_PX), Image.Resampling.BOX)
    return np.asarray(small)[::-1]


def load(spec: MeshSpec) -> Mesh:
    """Read a mesh, stand it up, centre and scale it; `UserError` names the mesh where that cannot be done."""
    try:
        with np.errstate(all="ignore"):  # what is not finite shows in the radius
            return _load(spec)
    except UserError:
        raise
    except Exception as error:  # trimesh's readers, and NumPy on what they read, raise whatever a malformed file makes them raise.
        why = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        raise UserError(f"mesh {spec.name}: cannot be read ({why}): export it again as OBJ, GLB or PLY") from error


def _load(spec: MeshSpec) -> Mesh:
    scene = _scene(spec)
    parts = [scene.graph[node] for node in sorted(scene.graph.nodes_geometry)]
    parts = [(placement, scene.geometry[name]) for placement, name in parts if hasattr(scene.geometry[name], "faces")]
    face_count = sum(len(geometry.faces) for _, geometry in parts)
    if face_count == 0:
        raise UserError(f"mesh {spec.name}: no faces in {printable(spec.member or spec.path)}: leave it out")
    if face_count > MAX_FACES:
        raise UserError(f"mesh {spec.name}: {face_count} faces: decimate it to at most {MAX_FACES}, or leave it out")
    if len(parts) > MAX_MATERIALS:
        raise UserError(f"mesh {spec.name}: {len(parts)} parts: join those that share a material, at most {MAX_MATERIALS}")

    opaque, blended, images = [], [], {}
    for material, (placement, geometry) in enumerate(parts):
        corners = np.zeros((len(geometry.faces), 3), CORNER)
        positions = geometry.vertices @ placement[:3, :3].T + placement[:3, 3]
        smooth = geometry.vertex_normals @ np.linalg.inv(placement[:3, :3])  # (M^-1)^T n, written for rows
        corners["xyz"], corners["normal"] = positions[geometry.faces], smooth[geometry.faces]
        corners["rgba"], image = _look(geometry)
        corners["material"], corners["texture"] = material, -1
        if image is not None:
            corners["texture"] = images.setdefault(id(image), (len(images), image))[0]
            corners["uv"] = geometry.visual.uv[geometry.faces]
        see_through = corners["rgba"][:, 0, 3] < 250
        opaque.append(corners[~see_through])
        blended.append(corners[see_through])
    triangles = np.concatenate(opaque + blended)  # [F, 3]
    textures = [_pixels(image) for _, image in images.values()]

    xyz = triangles["xyz"].astype(np.float64)
    turn = yaw_matrix(spec.yaw_deg)
    normal = triangles["normal"].astype(np.float64) @ np.array(spec.rotation).T
    xyz = xyz @ np.array(spec.rotation).T
    low, high = xyz.min((0, 1)), xyz.max((0, 1))
    scale = np.ones(3)
    if spec.size is not None:
        scale = np.where(high > low, np.array(spec.size) / np.where(high > low, high - low, 1), 1)
    xyz = ((xyz - (low + high) / 2) * scale) @ turn.T
    normal = (normal / scale) @ turn.T
    radius = np.linalg.norm(xyz, axis=-1).max()
    if not 0 < radius < math.inf:
        raise UserError(f"mesh {spec.name}: its bounding radius is {radius}: leave it out")
    xyz /= radius

    flat = np.cross(xyz[:, 1] - xyz[:, 0], xyz[:, 2] - xyz[:, 0])[:, None]  # [F, 1, 3]
    flat = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    creased = ~(np.abs((normal * flat).sum(-1, keepdims=True)) >= CREASE_COS)  # Where a file's normals are NaN, too.
    triangles["normal"] = np.where(creased, flat, normal)
    triangles["xyz"] = xyz
    # Corners shared by triangles are shaded once: software vertex shading is what takes the time. [3 F] -> [V], [3 F]
    rows, indices = np.unique(triangles.reshape(-1).view(np.dtype((np.void, CORNER.itemsize))), return_inverse=True)
    return Mesh(
        corners=rows.view(CORNER),
        indices=indices.astype(np.int32),
        opaque=3 * sum(len(c) for c in opaque),
        points=np.unique(triangles["xyz"].reshape(-1, 3), axis=0),
        textures=np.stack(textures) if textures else np.zeros((0, TEXTURE_PX, TEXTURE_PX, 4), np.uint8),
        materials=len(parts),
    )
