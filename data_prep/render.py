"""Load one mesh with its materials (trimesh) and draw it from any side (OpenGL through EGL; no display, no GPU needed).

TensorFlow and Mesa's software renderer crash each other in one process, so nothing here may import TensorFlow, and
`data_prep/meshes.py` runs these functions in processes of their own.

Frame: right-handed, x right, y up, z toward the viewer. Azimuth and elevation are the camera's: azimuth 0 faces the object's
front (+z), 90 stands on its +x side; positive elevation looks down.
"""

import functools
import io
import math
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.blocks import turned
from data_prep.images import encode
from data_prep.raycast import AMBIENT, SUN, camera_axes
from holotf.errors import UserError

MAX_FACES = 100_000  # heavier meshes draw slowly here and show nothing more at 64 or 128 px
MAX_MATERIALS = 256  # rows of the shader's table of colour changes
TEXTURE_PX = 256  # every texture is resized to this: layers of one array texture, so a mesh is one draw call
CREASE_COS = math.cos(math.radians(35))  # a corner whose smooth normal leans further than this is drawn flat
GREY_RGBA = (190, 190, 190, 255)  # a mesh without any material
BLACKEST, WHITEST = 0.06, 0.94  # what black and white become: black still shows its shading, white its outline on white
LIFT = 0.3  # of full brightness: what black becomes under a full tint
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601

APT_EGL = "apt install libegl1 libgl1 libegl-mesa0 libgl1-mesa-dri"
PIP_RENDER = "pip install 'holotf[render]'"

CORNER = np.dtype(
    [("xyz", "f4", 3), ("normal", "f4", 3), ("uv", "f4", 2), ("rgba", "u1", 4), ("material", "i4"), ("texture", "i4")]
)

VERTEX_SHADER = """
#version 330
uniform mat4 clip_from_world;
uniform vec3 stretch;
in vec3 xyz; in vec3 normal; in vec2 uv; in vec4 rgba; in int material; in int texture_layer;
out vec3 world; out vec3 world_normal; out vec2 st; out vec4 albedo; flat out int row; flat out int layer;
void main() {
    world = xyz * stretch;
    world_normal = normal / stretch;
    st = uv; albedo = rgba; row = 3 * material; layer = texture_layer;
    gl_Position = clip_from_world * vec4(world, 1.0);
}
"""

FRAGMENT_SHADER = """
#version 330
uniform sampler2DArray textures;
uniform vec3 eye, sun;
uniform float ambient;
uniform vec2 paper;            // what black and white become
uniform vec4 recolour[768];    // three rows per material: rgb1 -> rgb
uniform bool blended;
in vec3 world; in vec3 world_normal; in vec2 st; in vec4 albedo; flat in int row; flat in int layer;
out vec4 colour;
void main() {
    vec4 base = layer < 0 ? albedo : albedo * texture(textures, vec3(st, float(layer)));
    if (!blended && base.a < 0.5) discard;
    vec4 rgb1 = vec4(base.rgb, 1.0);
    vec3 rgb = clamp(vec3(dot(recolour[row], rgb1), dot(recolour[row + 1], rgb1), dot(recolour[row + 2], rgb1)), 0.0, 1.0);
    vec3 n = normalize(world_normal);
    if (dot(n, eye - world) < 0.0) n = -n;   // two-sided: a surface is lit on the side that is seen
    float shade = ambient + (1.0 - ambient) * (1.0 + dot(n, sun)) / 2.0;   // Lambert wrapped round to the far side
    colour = vec4(mix(paper.xxx, paper.yyy, rgb) * shade, blended ? base.a : 1.0);
}
"""


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


@dataclass(frozen=True)
class View:
    """Where the camera is: angles in degrees, distance in bounding radii."""

    azimuth_deg: float
    elevation_deg: float
    distance: float


def yaw_matrix(yaw_deg: float) -> np.ndarray:
    """The 3x3 rotation about y that takes +z to (sin, 0, cos)."""
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _trimesh():
    try:
        import trimesh
    except ImportError as error:
        raise UserError(f"meshes: {error}: {PIP_RENDER}") from error
    return trimesh


def _scene(spec: MeshSpec):
    """The trimesh scene of a file, with its materials; textures are found beside it, or in its folder inside the ZIP."""
    trimesh = _trimesh()
    if not spec.member:
        return trimesh.load_scene(spec.path, process=False)
    folder = spec.member.rsplit("/", 1)[0] + "/"
    with zipfile.ZipFile(spec.path) as archive:
        files = {n[len(folder) :]: archive.read(n) for n in archive.namelist() if n.startswith(folder) and not n.endswith("/")}
    data = io.BytesIO(files[spec.member[len(folder) :]])
    resolver = trimesh.resolvers.ZipResolver(files)
    return trimesh.load_scene(data, file_type=Path(spec.member).suffix[1:].lower(), resolver=resolver, process=False)


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
        scene = _scene(spec)
        parts = [scene.graph[node] for node in sorted(scene.graph.nodes_geometry)]
        parts = [(placement, scene.geometry[name]) for placement, name in parts if hasattr(scene.geometry[name], "faces")]
    except UserError:
        raise
    except Exception as error:  # trimesh's readers raise whatever a malformed file makes them raise
        raise UserError(f"mesh {spec.name}: cannot be read ({error}): export it again as OBJ, GLB or PLY") from error
    face_count = sum(len(geometry.faces) for _, geometry in parts)
    if face_count == 0:
        raise UserError(f"mesh {spec.name}: no faces in {spec.member or spec.path}: leave it out")
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
    creased = np.abs((normal * flat).sum(-1, keepdims=True)) < CREASE_COS
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


def camera(view: View, half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """The camera's matrix clip_from_world [4, 4] (column vectors) and its position [3], looking at the origin."""
    axes = camera_axes(view.azimuth_deg, view.elevation_deg).astype(np.float64)
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3] = axes
    camera_from_world[2, 3] = -view.distance
    near, far = max(view.distance - 1.05, 0.05), view.distance + 1.05  # the unit sphere and a little more
    clip_from_camera = np.zeros((4, 4))
    clip_from_camera[0, 0] = clip_from_camera[1, 1] = 1 / half_width
    clip_from_camera[2, 2:] = (far + near) / (near - far), 2 * far * near / (near - far)
    clip_from_camera[3, 2] = -1
    return clip_from_camera @ camera_from_world, view.distance * axes[2]


def recolour_rows(rng: np.random.Generator, materials: int) -> np.ndarray:
    """A random colour change: [materials, 3, 4], for each material an affine map (r, g, b, 1) -> (r, g, b) in [0, 1].

    One turn of the hue for the whole object (a rotation about the grey axis), then for each material its own brightness
    and, for most, a blend toward its own tint, which colours what is grey and lifts what is black.
    """
    turn = rng.uniform(-np.pi, np.pi)
    c, s, axis = np.cos(turn), np.sin(turn), np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    hue = c * np.eye(3) + s * cross + (1 - c) * np.outer(axis, axis)  # Rodrigues
    phase, depth = rng.uniform(0, 1, materials), rng.uniform(0.2, 0.9, materials)
    # The tint: a hue of full value, `depth` saturated. [materials, 3]
    wheel = np.abs((phase[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    tint = 1 + depth[:, None] * (np.clip(wheel, 0, 1) - 1)
    blend, gain = rng.uniform(0, 1, materials), rng.uniform(0.7, 1.25, materials)
    blend = np.where(rng.uniform(0, 1, materials) < 0.6, blend, 0)
    tinted = tint[:, :, None] * np.append((1 - LIFT) * LUMA, LIFT)  # [materials, 3, 4]
    turned = np.concatenate([hue, np.zeros((3, 1))], 1)
    return gain[:, None, None] * ((1 - blend)[:, None, None] * turned + blend[:, None, None] * tinted)


class Renderer:
    """Draws one mesh at a time into square images.

    Args:
      size_px: side of the image.
      supersample: samples per pixel and side; 2 means 2x2.
    """

    def __init__(self, size_px: int, supersample: int = 2):
        try:
            import moderngl
        except ImportError as error:
            raise UserError(f"meshes: {error}: {PIP_RENDER}") from error
        os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's own threads: there is a process for each core already
        try:
            self.context = moderngl.create_context(standalone=True, backend="egl", require=330)
        except Exception as error:  # moderngl raises a plain Exception
            raise UserError(f"meshes: no OpenGL through EGL ({error}): {APT_EGL}") from error
        self.moderngl, self.size_px, self.supersample = moderngl, size_px, supersample
        side = size_px * supersample
        self.program = self.context.program(vertex_shader=VERTEX_SHADER, fragment_shader=FRAGMENT_SHADER)
        self.frame = self.context.framebuffer(
            [self.context.texture((side, side), 4)], self.context.depth_renderbuffer((side, side))
        )
        self.program["sun"] = tuple(SUN)
        self.program["ambient"] = AMBIENT
        self.program["paper"] = (BLACKEST, WHITEST)
        self.uploaded = []
        self.mesh = None

    def upload(self, mesh: Mesh) -> None:
        """Put a mesh into the vertex buffer, in place of the last one."""
        for thing in self.uploaded:
            thing.release()
        buffer = self.context.buffer(mesh.corners.tobytes())
        layout = "3f4 3f4 2f4 4f1 1i4 1i4"
        names = ("xyz", "normal", "uv", "rgba", "material", "texture_layer")
        indices = self.context.buffer(mesh.indices.tobytes())
        vertices = self.context.vertex_array(self.program, [(buffer, layout, *names)], index_buffer=indices)
        pixels = mesh.textures if len(mesh.textures) else np.zeros((1, TEXTURE_PX, TEXTURE_PX, 4), np.uint8)
        textures = self.context.texture_array((TEXTURE_PX, TEXTURE_PX, len(pixels)), 4, pixels.tobytes())
        textures.build_mipmaps()
        textures.filter = (self.moderngl.LINEAR_MIPMAP_LINEAR, self.moderngl.LINEAR)
        textures.use(0)
        self.vertices, self.mesh, self.uploaded = vertices, mesh, [vertices, buffer, indices, textures]

    def draw(self, view: View, half_width: float, stretch=(1.0, 1.0, 1.0), recolour: np.ndarray | None = None) -> np.ndarray:
        """One image, uint8 [size_px, size_px, 3], top row first, on a white ground.

        Args:
          view: the camera.
          half_width: tangent of half its field of view.
          stretch: factors along x, y, z; the stretched mesh is scaled to bounding radius 1 again.
          recolour: [materials, 3, 4] from `recolour_rows`; None keeps the colours.
        """
        mesh, gl = self.mesh, self.moderngl
        stretch = np.asarray(stretch, np.float64)
        stretch = stretch / math.sqrt(float((mesh.points.astype(np.float64) ** 2 @ stretch**2).max()))
        rows = np.zeros((MAX_MATERIALS, 3, 4), np.float32)
        rows[: mesh.materials] = np.eye(3, 4) if recolour is None else recolour
        clip_from_world, eye = camera(view, half_width)
        self.program["clip_from_world"].write(clip_from_world.T.astype("f4").tobytes())
        self.program["stretch"] = tuple(stretch)
        self.program["eye"] = tuple(eye)
        self.program["recolour"].write(rows.tobytes())
        self.frame.use()
        self.frame.clear(1.0, 1.0, 1.0, 1.0, depth=1.0)
        self.context.enable_only(gl.DEPTH_TEST)
        self.program["blended"] = False
        if mesh.opaque:
            self.vertices.render(gl.TRIANGLES, vertices=mesh.opaque)
        if mesh.opaque < len(mesh.indices):
            self.context.enable_only(gl.DEPTH_TEST | gl.BLEND)
            self.context.blend_func = gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA
            self.frame.depth_mask = False
            self.program["blended"] = True
            self.vertices.render(gl.TRIANGLES, vertices=len(mesh.indices) - mesh.opaque, first=mesh.opaque)
            self.frame.depth_mask = True
        n, k = self.size_px, self.supersample
        samples = np.frombuffer(self.frame.read(components=4), np.uint8).reshape(n, k, n, k, 4)  # [H,k,W,k,RGBA]
        total = sum(samples[:, i, :, j].astype(np.uint16) for i in range(k) for j in range(k))  # 8 times faster than mean()
        return ((total + k * k // 2) // (k * k)).astype(np.uint8)[::-1, :, :3]


@functools.cache
def renderer(size_px: int) -> Renderer:
    """This process's renderer for a size: a context is made once and kept."""
    return Renderer(size_px)


@functools.lru_cache(maxsize=1)
def _loaded(spec: MeshSpec) -> Mesh:
    return load(spec)


def probe(size_px: int) -> str:
    """Returns the name of the OpenGL implementation, or raises a UserError that says what is to be installed."""
    _trimesh()
    return renderer(size_px).context.info["GL_RENDERER"]


def fault(spec: MeshSpec) -> str:
    """What is wrong with a mesh, in one line; "" where it loads."""
    try:
        load(spec)
    except UserError as error:
        return str(error)
    return ""


def examples(
    task: tuple[MeshSpec, Sequence[int]],
    seed: int,
    ranges: dict[str, tuple[float, float]],
    recolour: bool,
    size_px: int,
    half_width: float,
    turntable: int = 1,
) -> list[tuple[int, dict]]:
    """Draws one mesh once for each index.

    Args:
      task: the mesh, and which examples show it; an index and `seed` are the only source of an example's randomness.
      seed: of the data set.
      ranges: `azimuth_deg`, `elevation_deg`, `distance` (bounding radii) -> (low, high), uniform; `stretch` -> (low, high),
        log-uniform, drawn for x, y and z each.
      recolour: whether each material's colour changes at random.
      size_px: side of the images.
      half_width: tangent of half the field of view.
      turntable: as `data_prep.blocks.turned` takes it.

    Returns:
      (index, example) for each, the image as PNG bytes.
    """
    spec, indices = task
    mesh, drawer = _loaded(spec), renderer(size_px)
    drawer.upload(mesh)
    found = []
    for index in indices:
        shown, views = turned(index, turntable, ranges)
        rng = np.random.default_rng([seed, shown])
        view = View(*(float(rng.uniform(*views[name])) for name in ("azimuth_deg", "elevation_deg", "distance")))
        stretch = np.exp(rng.uniform(*np.log(ranges["stretch"]), size=3))
        pixels = drawer.draw(view, half_width, stretch, recolour_rows(rng, mesh.materials) if recolour else None)
        example = {
            "image": encode(pixels, "png"),
            "azimuth_deg": np.float32(view.azimuth_deg),
            "elevation_deg": np.float32(view.elevation_deg),
            "object": shown,
            "mesh": spec.name,
            "creator": spec.creator,
            "license": spec.license,
        }
        found.append((index, example))
    return found
