"""Draws docs/images/architecture.svg: the networks of holotf/models/hologan.py at 64 px.

    python docs/make_architecture.py

Standard library only, so that the picture can be redrawn anywhere; tests/docs/test_architecture.py holds the widths below
against the model and the file against this script.
"""

import math
from pathlib import Path

PICTURE = Path(__file__).parent / "images" / "architecture.svg"

GF = DF = 64
Z_DIM = 128
VOLUMES = ((4, 8 * GF), (8, 2 * GF), (16, GF))  # (voxels a side, channels)
MAPS = ((16, 16 * GF), (32, 4 * GF), (64, GF))  # (pixels a side, channels), from the projection unit on
LEVELS = ((32, DF), (16, 2 * DF), (8, 4 * DF), (4, 8 * DF))  # the discriminator's

INK, MUTED, LINE, PAPER, PANEL = "#1f2933", "#5b6875", "#7b8794", "#ffffff", "#f5f7fa"
AMBER, BLUE, SLATE, VIOLET, GREEN, RED = "#f0a830", "#4f8fd0", "#7f93ad", "#7a5bc0", "#2f9e6e", "#cf4b4b"
CAMERA = (28.0, 20.0)  # azimuth, elevation in degrees from which volumes and maps are drawn
VIEW = (-50.0, 18.0)  # the view that the picture's rigid transform applies
WIDTH, HEIGHT = 1640, 960


# --- Solid geometry: right-handed, x right, y up, z toward the viewer, as in docs/conventions.md.


def rotation(azimuth_deg, elevation_deg):
    """R_elevation R_azimuth: what a camera at (azimuth, elevation) sees of a point."""
    ca, sa = math.cos(math.radians(azimuth_deg)), math.sin(math.radians(azimuth_deg))
    ce, se = math.cos(math.radians(elevation_deg)), math.sin(math.radians(elevation_deg))
    return ((ca, 0, -sa), (-se * sa, ce, -se * ca), (ce * sa, se, ce * ca))


def turn(matrix, point):
    """The matrix [3, 3] times the point [3]."""
    return tuple(sum(m * p for m, p in zip(row, point, strict=True)) for row in matrix)


def compose(a, b):
    """The rotation that applies b, then a."""
    columns = [turn(a, column) for column in zip(*b, strict=True)]
    return tuple(zip(*columns, strict=True))


def mix(colour, other, share):
    """`colour` with `share` of `other` in it; both are #rrggbb."""
    pairs = [(int(colour[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def faces(low, high):
    """The six faces of a box as (outward normal, four corners, the axis it is normal to)."""
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for side in (low, high):
            corners = []
            for a, b in ((low, low), (high, low), (high, high), (low, high)):
                corner = [0.0] * 3
                corner[axis], corner[u], corner[v] = side[axis], a[u], b[v]
                corners.append(tuple(corner))
            normal = [0.0] * 3
            normal[axis] = 1.0 if side is high else -1.0
            yield tuple(normal), corners


def shade(colour, normal):
    """A face's colour under a lamp above the viewer's left shoulder; `normal` is in the view's frame."""
    light = sum(n * d for n, d in zip(normal, (-0.30, 0.80, 0.52), strict=True))
    return mix(colour, "#ffffff", 0.45 * light) if light > 0 else mix(colour, "#000000", -0.35 * light)


# --- Drawing: every function returns SVG text.


def polygon(points, fill, stroke="none", width=1.0, opacity=1.0):
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polygon points="{at}" fill="{fill}" fill-opacity="{opacity:g}" stroke="{stroke}" stroke-width="{width:g}" '
        f'stroke-linejoin="round"/>'
    )


def line(points, colour=LINE, width=1.6, arrow=True, dashed=False):
    """A broken line, with a head at its last point."""
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    extra = (f' marker-end="url(#head-{colour[1:]})"' if arrow else "") + (' stroke-dasharray="5 4"' if dashed else "")
    return f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round"{extra}/>'


def text(x, y, words, size=13, colour=INK, weight="normal", anchor="middle"):
    """One line, or several parted by newlines; y is the first baseline."""
    spans = "".join(
        f'<tspan x="{x:.1f}" y="{y + i * size * 1.28:.1f}">{part}</tspan>' for i, part in enumerate(words.split("\n"))
    )
    return f'<text font-size="{size}" fill="{colour}" font-weight="{weight}" text-anchor="{anchor}">{spans}</text>'


def rectangle(x, y, w, h, fill, stroke="none", radius=8, dashed=False):
    extra = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{radius}" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="1.4"{extra}/>'
    )


def pill(x, y, words, colour, w, h=26, size=12.5, solid=False):
    """A rounded label centred on (x, y)."""
    lines = words.count("\n")
    baseline = y + 0.36 * size - lines * size * 0.64
    fill, ink = (colour, "#ffffff") if solid else (mix(colour, "#ffffff", 0.86), mix(colour, "#000000", 0.25))
    box = rectangle(x - w / 2, y - h / 2, w, h, fill, colour, radius=min(h / 2, 13))
    return box + text(x, baseline, words, size, ink, "bold" if solid else "normal")


def solid(x, y, scale, low, high, colour, matrix):
    """The visible faces of a box."""
    parts = []
    for normal, corners in faces(low, high):
        seen = turn(matrix, normal)
        if seen[2] > 1e-9:
            points = [(x + scale * p[0], y - scale * p[1]) for p in (turn(matrix, corner) for corner in corners)]
            parts.append(polygon(points, shade(colour, seen), mix(colour, "#000000", 0.45), 0.9))
    return "".join(parts)


def grid(x, y, scale, n, matrix, colour, visible=True):
    """The n x n lines on the visible (or the hidden) faces of the cube [-1, 1]^3."""
    parts = []
    for normal, corners in faces((-1,) * 3, (1,) * 3):
        if (turn(matrix, normal)[2] > 1e-9) != visible:
            continue
        a, b, c, d = (turn(matrix, corner) for corner in corners)
        for i in range(1, n):
            for (p, q), (r, s) in (((a, b), (d, c)), ((a, d), (b, c))):
                ends = [tuple(m + (o - m) * i / n for m, o in zip(*pair, strict=True)) for pair in ((p, q), (r, s))]
                points = " L".join(f"{x + scale * e[0]:.1f} {y - scale * e[1]:.1f}" for e in ends)
                parts.append(f"M{points}")
    return f'<path d="{"".join(parts)}" stroke="{colour}" stroke-width="0.6" fill="none"/>'


def cube(x, y, scale, n):
    """An opaque volume of n voxels a side."""
    matrix = rotation(*CAMERA)
    body = solid(x, y, scale, (-1,) * 3, (1,) * 3, AMBER, matrix)
    return body + grid(x, y, scale, n, matrix, mix(AMBER, "#000000", 0.35))


def chair(x, y, scale, matrix):
    """A chair that faces +z. Painted from its feet up: right for every camera that looks down on it."""
    wood = "#a9622b"
    legs = [((a, -0.78, b), (a + 0.13, -0.12, b + 0.13)) for a in (-0.52, 0.39) for b in (-0.52, 0.39)]
    legs.sort(key=lambda leg: turn(matrix, leg[0])[2])
    boxes = [*legs, ((-0.52, -0.12, -0.52), (0.52, 0.03, 0.52)), ((-0.52, 0.03, -0.52), (0.52, 0.82, -0.38))]
    return "".join(solid(x, y, scale, low, high, wood, matrix) for low, high in boxes)


def glass(x, y, scale, view, dashed=False):
    """A 16^3 volume, drawn as glass, with the object under `view` in it."""
    matrix, parts = rotation(*CAMERA), []
    edge = mix(AMBER, "#000000", 0.25)
    for visible in (False, True):
        if visible and not dashed:
            parts.append(chair(x, y, scale * 0.86, compose(matrix, rotation(*view))))
        for normal, corners in faces((-1,) * 3, (1,) * 3):
            if (turn(matrix, normal)[2] > 1e-9) == visible:
                points = [(x + scale * p[0], y - scale * p[1]) for p in (turn(matrix, corner) for corner in corners)]
                parts.append(polygon(points, AMBER, edge, 1.0, 0.10 if visible else 0.22))
        if not visible:
            parts.append(grid(x, y, scale, 8, matrix, mix(AMBER, "#ffffff", 0.35), visible=False))
    return "".join(parts)


def slab(x, y, half, thickness, colour):
    """A feature map: its face is the image plane, its thickness stands for the channels."""
    return solid(x, y, 1.0, (-half, -half, -thickness), (half, half, thickness), colour, rotation(*CAMERA))


def photograph(x, y, half, view, ground="#eef2f6"):
    frame = rectangle(x - half, y - half, 2 * half, 2 * half, ground, LINE, radius=3)
    return frame + chair(x, y + 0.03 * half, half * 0.84, rotation(*view))


# --- The picture.


def generator():
    parts = [rectangle(24, 84, WIDTH - 48, 440, PANEL, "#d9e0e7", 14), text(48, 116, "Generator", 18, INK, "bold", "start")]
    row, label, bus = 310, 408, 152
    columns = {"constant": 118, "up1": 282, "up2": 468, "turned": 702, "after": 912, "projected": 1118}
    columns |= {"up3": 1278, "up4": 1430, "image": 1560}
    halves = {"constant": 24, "up1": 34, "up2": 56, "turned": 56, "after": 56, "projected": 44, "up3": 48, "up4": 52}

    # z, through one linear layer for each AdaIN.
    z_x = columns["constant"]
    styled = ["constant", "up1", "up2", "up3", "up4"]
    parts.append(line([(z_x + 68, bus), (columns["up4"], bus)], VIOLET, arrow=False))
    for name in styled:
        if name != "constant":
            parts.append(line([(columns[name], bus), (columns[name], 190)], VIOLET))
        else:
            parts.append(line([(z_x, bus + 15), (z_x, 190)], VIOLET))
        parts.append(pill(columns[name], 205, "AdaIN", VIOLET, 66))
        top = row - halves[name] * 1.42 - 6
        parts.append(line([(columns[name], 219), (columns[name], top)], VIOLET))
    parts.append(pill(z_x, bus, f"latent z, {Z_DIM}", VIOLET, 136, 30, 13.5, solid=True))
    words = "each AdaIN has one linear layer of z: a scale and a shift per channel"
    parts.append(text((columns["up2"] + columns["up3"]) / 2, bus - 9, words, 12.5, mix(VIOLET, "#000000", 0.25)))

    # The stages.
    parts += [cube(columns[name], row, halves[name], n) for name, n in (("constant", 4), ("up1", 8))]
    parts.append(glass(columns["up2"], row, halves["up2"], (0, 0)))
    parts.append(glass(columns["turned"], row, halves["turned"], VIEW))
    left, right = columns["after"] - 74, columns["after"] + 74
    parts.append(rectangle(left - 12, row - 92, right - left + 24, 184, "none", AMBER, 12, dashed=True))
    parts.append(glass(columns["after"], row, halves["after"], VIEW))
    for name, thickness in (("projected", 34), ("up3", 17), ("up4", 8)):
        parts.append(slab(columns[name], row, halves[name], thickness, BLUE))
    parts.append(photograph(columns["image"], row, 46, VIEW))

    # What they are.
    sizes = dict(zip(("constant", "up1", "up2"), (f"{n}³ × {c}" for n, c in VOLUMES), strict=True))
    sizes |= dict(zip(("projected", "up3", "up4"), (f"{n}² × {c}" for n, c in MAPS), strict=True))
    sizes |= dict.fromkeys(("turned", "after"), f"16³ × {GF}") | {"image": "64² × 3"}
    names = {"constant": "learned constant", "up2": "the object", "turned": "the object, turned", "image": "image"}
    names["after"] = "mixed (paper’s networks)"
    for name, x in columns.items():
        parts.append(text(x, label + (14 if name == "after" else 0), sizes[name], 14, INK, "bold"))
        parts.append(text(x, label + (32 if name == "after" else 18), names.get(name, ""), 12.5, MUTED))

    # What turns one into the next.
    def step(a, b, left, right, words, y=row):
        x0, x1 = columns[a] + left, columns[b] - right
        lines = words.count("\n")
        return line([(x0, y), (x1, y)]) + text((x0 + x1) / 2, y - 10 - lines * 15.4, words, 12, MUTED)

    parts.append(step("constant", "up1", 38, 52, "conv T\n3³, s2"))
    parts.append(step("up1", "up2", 52, 82, "conv T\n3³, s2"))
    parts.append(step("up2", "turned", 82, 82, "rigid\ntransform,\ntrilinear"))
    parts.append(step("turned", "after", 82, 88, ""))
    parts.append(text(columns["after"], row - 99, "two 3D conv 3³", 12, MUTED))
    parts.append(step("after", "projected", 88, 62, "projection\nunit"))
    parts.append(step("projected", "up3", 62, 56, ""))
    parts.append(step("up3", "up4", 56, 54, ""))
    parts.append(step("up4", "image", 54, 50, ""))
    for a, b, words in (("projected", "up3", "conv T 4², s2"), ("up3", "up4", "conv T 4², s2"), ("up4", "image", "conv 4², tanh")):
        parts.append(text((columns[a] + columns[b]) / 2 + 2, row + 84 - 4, words, 11.5, MUTED))

    # The view, and what the projection unit does.
    middle = (columns["up2"] + columns["turned"]) / 2
    parts.append(line([(middle, 458), (middle, row + 6)], GREEN))
    parts.append(pill(middle, 474, "view: azimuth, elevation, scale, x, y, z", GREEN, 300, 30, 13.5, solid=True))
    words = "projection unit: [D, H, W, C] → [H, W, D·C], then a 1×1 convolution that learns what hides what"
    parts.append(text(columns["projected"] + 120, 479, words, 12.5, MUTED))
    return "".join(parts)


def discriminator():
    top = 548
    parts = [rectangle(24, top, WIDTH - 48, 388, PANEL, "#d9e0e7", 14), text(48, top + 32, "Discriminator", 18, INK, "bold", "start")]
    return "".join(parts)


def legend():
    return ""


def picture():
    """The whole SVG document."""
    colours = (LINE, VIOLET, GREEN, RED, BLUE)
    heads = "".join(
        f'<marker id="head-{c[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="{c}"/></marker>'
        for c in colours
    )
    title = "HoloGAN as built here, at 64 px"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img" aria-label="{title}">'
        f"<title>{title}</title><defs>{heads}</defs>{rectangle(0, 0, WIDTH, HEIGHT, PAPER, radius=0)}"
        f"{text(40, 54, title, 24, INK, 'bold', 'start')}{legend()}{generator()}{discriminator()}</svg>\n"
    )


def main():
    """Writes the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
