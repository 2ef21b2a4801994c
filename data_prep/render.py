"""Draw a mesh from any side: OpenGL through EGL; no display, no GPU needed.

TensorFlow and Mesa's software renderer crash each other in one process, so nothing here may import TensorFlow, and
`data_prep/meshes.py` runs these functions in processes of their own.

Frame: right-handed, x right, y up, z toward the viewer. Azimuth and elevation are the camera's: azimuth 0 faces the object's
front (+z), 90 stands on its +x side; positive elevation looks down.
"""

import functools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.blocks import turned
from data_prep.mesh import MAX_MATERIALS, PIP_RENDER, TEXTURE_PX, Mesh, MeshSpec, load, the_trimesh
from data_prep.raycast import AMBIENT, SUN, camera_axes
from holotf.errors import UserError
from holotf.images import encode

BLACKEST, WHITEST = 0.06, 0.94  # what black and white become: black still shows its shading, white its outline on white
LIFT = 0.3  # of full brightness: what black becomes under a full tint
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601

APT_EGL = "apt install libegl1 libgl1 libegl-mesa0 libgl1-mesa-dri"

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
class View:
    """Where the camera is: angles in degrees, distance in bounding radii."""

    azimuth_deg: float
    elevation_deg: float
    distance: float


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

    def draw(
        self, view: View, half_width: float, stretch: Sequence[float] = (1.0, 1.0, 1.0), recolour: np.ndarray | None = None
    ) -> np.ndarray:
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
    the_trimesh()
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
