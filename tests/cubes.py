"""A cube whose every side has a colour of its own, as mesh files of each kind; and a library of such."""

import argparse
import zipfile

import numpy as np

from data_prep import meshes

# The unit cube's faces: name -> outward normal, colour. Four corners counter-clockwise from outside, lower left first.
FACES = {
    "front": ((0, 0, 1), (1.0, 0.0, 0.0)),
    "behind": ((0, 0, -1), (0.0, 1.0, 0.0)),
    "right": ((1, 0, 0), (0.0, 0.0, 1.0)),
    "left": ((-1, 0, 0), (1.0, 0.0, 1.0)),
    "top": ((0, 1, 0), (1.0, 1.0, 0.0)),
    "below": ((0, -1, 0), (0.0, 1.0, 1.0)),
}


def quad(normal):
    """[4, 3]: the corners of the cube's face, as seen from outside: lower left, lower right, upper right, upper left."""
    normal = np.array(normal, float)
    up = np.array([0, 0, -normal[1]]) if normal[1] else np.array([0, 1.0, 0])
    right = np.cross(up, normal)
    return np.array([normal - right - up, normal + right - up, normal + right + up, normal - right + up]) / 2


def write_obj(folder, name="cube", texture=None, sides=FACES, lines=""):
    """A cube as OBJ and MTL, a material a face; `texture` replaces the front's colour."""
    obj, mtl = [f"mtllib {name}.mtl", "vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"], []
    for number, (side, (normal, colour)) in enumerate(sides.items()):
        mtl += [f"newmtl {side}", "Kd {} {} {}".format(*colour)]
        if texture and side == "front":
            mtl += [f"map_Kd {texture}"]
        obj += ["v {} {} {}".format(*corner) for corner in quad(normal)] + [f"usemtl {side}"]
        obj += ["f " + " ".join(f"{4 * number + k}/{k}" for k in (1, 2, 3, 4))]
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}.obj").write_text("\n".join(obj) + "\n")
    (folder / f"{name}.mtl").write_text("\n".join(mtl) + "\n" + lines)
    return folder / f"{name}.obj"


def write_glb(folder):
    """The same cube as GLB, a PBR material a face."""
    import trimesh

    scene = trimesh.Scene()
    for side, (normal, colour) in FACES.items():
        material = trimesh.visual.material.PBRMaterial(name=side, baseColorFactor=[*colour, 1.0])
        visual = trimesh.visual.TextureVisuals(uv=np.zeros((4, 2)), material=material)
        scene.add_geometry(trimesh.Trimesh(quad(normal), [[0, 1, 2], [0, 2, 3]], visual=visual, process=False))
    scene.export(folder / "cube.glb")
    return folder / "cube.glb"


def write_ply(folder):
    """The same cube as PLY, coloured vertices."""
    import trimesh

    corners = np.concatenate([quad(normal) for normal, _ in FACES.values()])
    faces = [[4 * n + a, 4 * n + b, 4 * n + c] for n in range(6) for a, b, c in ((0, 1, 2), (0, 2, 3))]
    colours = np.repeat([[*(255 * np.array(colour)), 255] for _, colour in FACES.values()], 4, 0).astype(np.uint8)
    trimesh.Trimesh(corners, faces, vertex_colors=colours, process=False).export(folder / "cube.ply")
    return folder / "cube.ply"


def write_library(folder, entries):
    """A Sweet Home 3D library of cubes: name -> further catalogue lines without their number."""
    folder.mkdir(exist_ok=True)
    lines = ["license=Free \\u00A9 someone"]
    with zipfile.ZipFile(folder / "some.sh3f", "w") as archive:
        for number, (name, more) in enumerate(entries.items(), 1):
            path = write_obj(folder / name, name)
            for file in (path, path.with_suffix(".mtl")):
                archive.write(file, f"lib/{name}/{file.name}")
            entry = {"name": name.title(), "category": "Toys", "model": f"/lib/{name}/{name}.obj", "creator": "Zo\\u00EB"}
            entry |= {"width": 50, "depth": 50, "height": 50} | more
            lines += [f"{key}#{number}={value}" for key, value in entry.items()]
        archive.writestr(meshes.CATALOGUE, "\n".join(lines).encode("latin-1"))
    return folder


def arguments(*words):
    parser = argparse.ArgumentParser()
    meshes.add_flags(parser)
    return parser.parse_args(list(map(str, words)))
