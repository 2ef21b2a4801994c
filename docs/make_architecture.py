"""Draws docs/images/architecture.svg: the networks of holotf/models/hologan.py at 64 px.

    python docs/make_architecture.py

Standard library only, so that the picture can be redrawn anywhere; tests/test_architecture.py holds the widths below
against the model and the file against this script.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

PICTURE = Path(__file__).parent / "images" / "architecture.svg"

GF = DF = 64
Z_DIM = 128
VOLUMES = ((4, 8 * GF), (8, 2 * GF), (16, GF))  # (voxels a side, channels)
MAPS = ((16, 16 * GF), (32, 4 * GF), (64, GF))  # (pixels a side, channels), from the projection unit on
LEVELS = ((32, DF), (16, 2 * DF), (8, 4 * DF), (4, 8 * DF))  # the discriminator's

INK, MUTED, LINE, PAPER, PANEL, EDGE = "#1f2933", "#5b6875", "#7b8794", "#ffffff", "#f6f8fa", "#d9e0e7"
AMBER, BLUE, SLATE, VIOLET, GREEN, RED = "#f0a830", "#4f8fd0", "#7f93ad", "#7a5bc0", "#2f9e6e", "#cf4b4b"
CAMERA = (28.0, 20.0)  # azimuth, elevation in degrees from which volumes and maps are drawn
VIEW = (-50.0, 12.0)  # the view that the picture's rigid transform applies
WIDTH, HEIGHT = 1760, 940
Point = Sequence[float]  # x, y, z
Points = Iterable[tuple[float, float]]  # on the page
Matrix = Sequence[Sequence[float]]  # [3, 3], row by row
Z_X, Z_Y, IMAGE_X = 118, 152, 1650  # where z enters, and where the image goes from one network to the other


# --- Solid geometry: right-handed, x right, y up, z toward the viewer, as in docs/conventions.md.


def rotation(azimuth_deg: float, elevation_deg: float) -> Matrix:
    """R_elevation R_azimuth: what a camera at (azimuth, elevation) sees of a point."""
    ca, sa = math.cos(math.radians(azimuth_deg)), math.sin(math.radians(azimuth_deg))
    ce, se = math.cos(math.radians(elevation_deg)), math.sin(math.radians(elevation_deg))
    return ((ca, 0, -sa), (-se * sa, ce, -se * ca), (ce * sa, se, ce * ca))


def turn(matrix: Matrix, point: Point) -> Point:
    """The matrix [3, 3] times the point [3]."""
    return tuple(sum(m * p for m, p in zip(row, point, strict=True)) for row in matrix)


def compose(a: Matrix, b: Matrix) -> Matrix:
    """The rotation that applies b, then a."""
    columns = [turn(a, column) for column in zip(*b, strict=True)]
    return tuple(zip(*columns, strict=True))


def mix(colour: str, other: str, share: float) -> str:
    """`colour` with `share` of `other` in it; both are #rrggbb."""
    pairs = [(int(colour[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def faces(low: Point, high: Point) -> Iterator[tuple[Point, list[Point]]]:
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


def shade(colour: str, normal: Point) -> str:
    """A face's colour under a lamp above the viewer's left shoulder; `normal` is in the view's frame."""
    light = sum(n * d for n, d in zip(normal, (-0.30, 0.80, 0.52), strict=True))
    return mix(colour, "#ffffff", 0.45 * light) if light > 0 else mix(colour, "#000000", -0.35 * light)


# --- Drawing: every function returns SVG text.


def polygon(points: Points, fill: str, stroke: str = "none", width: float = 1.0, opacity: float = 1.0) -> str:
    """A closed shape through points (x, y)."""
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polygon points="{at}" fill="{fill}" fill-opacity="{opacity:g}" stroke="{stroke}" stroke-width="{width:g}" '
        f'stroke-linejoin="round"/>'
    )


def line(points: Points, colour: str = LINE, width: float = 1.6, arrow: bool = True, dashed: bool = False) -> str:
    """A broken line, with a head at its last point."""
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    extra = (f' marker-end="url(#head-{colour[1:]})"' if arrow else "") + (' stroke-dasharray="5 4"' if dashed else "")
    return f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round"{extra}/>'


def text(
    x: float, y: float, words: str, size: float = 13, colour: str = INK, weight: str = "normal", anchor: str = "middle"
) -> str:
    """One line, or several parted by newlines; y is the first baseline."""
    spans = "".join(f'<tspan x="{x:.1f}" y="{y + i * size * 1.28:.1f}">{part}</tspan>' for i, part in enumerate(words.split("\n")))
    return f'<text font-size="{size}" fill="{colour}" font-weight="{weight}" text-anchor="{anchor}">{spans}</text>'


def rectangle(
    x: float, y: float, w: float, h: float, fill: str, stroke: str = "none", radius: float = 8, dashed: bool = False
) -> str:
    """A box with round corners; (x, y) is its upper left one."""
    extra = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{radius}" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="1.4"{extra}/>'
    )


def pill(x: float, y: float, words: str, colour: str, w: float, h: float = 26, size: float = 12.5, solid: bool = False) -> str:
    """A rounded label centred on (x, y)."""
    lines = words.count("\n")
    baseline = y + 0.36 * size - lines * size * 0.64
    fill, ink = (colour, "#ffffff") if solid else (mix(colour, "#ffffff", 0.86), mix(colour, "#000000", 0.25))
    box = rectangle(x - w / 2, y - h / 2, w, h, fill, colour, radius=min(h / 2, 13))
    return box + text(x, baseline, words, size, ink, "bold" if solid else "normal")


def solid(x: float, y: float, scale: float, low: Point, high: Point, colour: str, matrix: Matrix) -> str:
    """The visible faces of a box."""
    parts = []
    for normal, corners in faces(low, high):
        seen = turn(matrix, normal)
        if seen[2] > 1e-9:
            points = [(x + scale * p[0], y - scale * p[1]) for p in (turn(matrix, corner) for corner in corners)]
            parts.append(polygon(points, shade(colour, seen), mix(colour, "#000000", 0.45), 0.9))
    return "".join(parts)


def grid(x: float, y: float, scale: float, n: int, matrix: Matrix, colour: str, visible: bool = True) -> str:
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


def cube(x: float, y: float, scale: float, n: int) -> str:
    """An opaque volume of n voxels a side."""
    matrix = rotation(*CAMERA)
    body = solid(x, y, scale, (-1,) * 3, (1,) * 3, AMBER, matrix)
    return body + grid(x, y, scale, n, matrix, mix(AMBER, "#000000", 0.35))


def chair(x: float, y: float, scale: float, matrix: Matrix) -> str:
    """A chair that faces +z. Painted from its feet up: right for every camera that looks down on it."""
    wood = "#a9622b"
    legs = [((a, -0.78, b), (a + 0.13, -0.12, b + 0.13)) for a in (-0.52, 0.39) for b in (-0.52, 0.39)]
    legs.sort(key=lambda leg: turn(matrix, leg[0])[2])
    boxes = [*legs, ((-0.52, -0.12, -0.52), (0.52, 0.03, 0.52)), ((-0.52, 0.03, -0.52), (0.52, 0.82, -0.38))]
    return "".join(solid(x, y, scale, low, high, wood, matrix) for low, high in boxes)


def glass(x: float, y: float, scale: float, view: tuple[float, float]) -> str:
    """A 16^3 volume, drawn as glass, with the object under `view` in it."""
    matrix, parts = rotation(*CAMERA), []
    edge = mix(AMBER, "#000000", 0.25)
    for visible in (False, True):
        if visible:
            parts.append(chair(x, y, scale * 0.86, compose(matrix, rotation(*view))))
        for normal, corners in faces((-1,) * 3, (1,) * 3):
            if (turn(matrix, normal)[2] > 1e-9) == visible:
                points = [(x + scale * p[0], y - scale * p[1]) for p in (turn(matrix, corner) for corner in corners)]
                parts.append(polygon(points, AMBER, edge, 1.0, 0.10 if visible else 0.22))
        if not visible:
            parts.append(grid(x, y, scale, 8, matrix, mix(AMBER, "#ffffff", 0.35), visible=False))
    return "".join(parts)


def slab(x: float, y: float, half: float, thickness: float) -> str:
    """A feature map: its face is the image plane, its thickness stands for the channels."""
    return solid(x, y, 1.0, (-half, -half, -thickness), (half, half, thickness), BLUE, rotation(*CAMERA))


def photograph(x: float, y: float, half: float, view: tuple[float, float], ground: str = "#eef2f6") -> str:
    """A framed picture of the chair, centred on (x, y)."""
    frame = rectangle(x - half, y - half, 2 * half, 2 * half, ground, LINE, radius=3)
    return frame + chair(x, y + 0.03 * half, half * 0.84, rotation(*view))


# --- The picture.


def generator() -> str:
    """The upper panel: z and a view become an image."""
    parts = [rectangle(24, 84, WIDTH - 48, 432, PANEL, EDGE, 14), text(60, 116, "Generator", 18, INK, "bold", "start")]
    row, label, bus = 318, 418, Z_Y
    stages = {  # name: (x, half a side, what it is)
        "constant": (118, 24, "learned constant"),
        "up1": (288, 34, ""),
        "up2": (486, 54, "the object"),
        "turned": (712, 54, "the object, turned"),
        "after": (912, 54, "official: at 128 px only"),
        "projected": (1138, 44, ""),
        "up3": (1316, 48, ""),
        "up4": (1486, 52, ""),
        "image": (IMAGE_X, 46, "image"),
    }
    x = {name: stage[0] for name, stage in stages.items()}
    half = {name: stage[1] for name, stage in stages.items()}

    # z reaches the network here and nowhere else.
    styled = ("constant", "up1", "up2", "up3", "up4")
    parts.append(line([(Z_X, bus), (x["up4"], bus), (x["up4"], 187)], VIOLET))
    for name in styled:
        if name != "up4":
            parts.append(line([(x[name], bus), (x[name], 187)], VIOLET))
        parts.append(pill(x[name], 202, "AdaIN", VIOLET, 66))
        parts.append(line([(x[name], 215), (x[name], row - half[name] * 1.34 - 8)], VIOLET))
    parts.append(pill(Z_X, bus, f"latent z, {Z_DIM}", VIOLET, 136, 30, 13.5, solid=True))
    words = "one linear layer of z for each AdaIN: a scale and a shift per channel"
    parts.append(text((x["up2"] + x["up3"]) / 2, bus - 10, words, 12.5, mix(VIOLET, "#000000", 0.25)))

    # The stages.
    parts += [cube(x[name], row, half[name], n) for name, n in (("constant", 4), ("up1", 8))]
    parts += [glass(x["up2"], row, half["up2"], (0, 0)), glass(x["turned"], row, half["turned"], VIEW)]
    parts.append(rectangle(x["after"] - 82, row - 88, 164, 176, "none", AMBER, 12, dashed=True))
    parts.append(glass(x["after"], row, half["after"], VIEW))
    parts += [slab(x[name], row, half[name], depth(n)) for name, (_, n) in zip(("projected", "up3", "up4"), MAPS, strict=True)]
    parts.append(photograph(x["image"], row, half["image"], VIEW))
    sizes = [f"{n}³ × {c}" for n, c in VOLUMES] + [f"16³ × {GF}"] * 2 + [f"{n}² × {c}" for n, c in MAPS] + ["64² × 3"]
    for (at, _, words), size in zip(stages.values(), sizes, strict=True):
        parts.append(text(at, label + 10, size, 14, INK, "bold") + text(at, label + 28, words, 12.5, MUTED))

    # What makes one from the other.
    def step(start, end, left, right, words):
        x0, x1 = x[start] + left, x[end] - right
        above = row - 10 - words.count("\n") * 15.4
        return line([(x0, row), (x1, row)]) + text((x0 + x1) / 2, above, words, 12, MUTED)

    parts.append(step("constant", "up1", 38, 52, "conv ↑2\n3×3×3"))
    parts.append(step("up1", "up2", 52, 80, "conv ↑2\n3×3×3"))
    parts.append(step("up2", "turned", 80, 80, "rigid\ntransform,\ntrilinear"))
    parts.append(step("turned", "after", 80, 86, ""))
    parts.append(text(x["after"], row - 97, "two convs 3×3×3", 12, MUTED))
    parts.append(step("after", "projected", 88, 64, "projection\nunit"))
    parts.append(step("projected", "up3", 62, 56, "conv ↑2\n4×4"))
    parts.append(step("up3", "up4", 56, 54, "conv ↑2\n4×4"))
    parts.append(step("up4", "image", 56, 50, "conv\n4×4,\ntanh"))

    # The view enters here and nowhere else.
    middle = (x["up2"] + x["turned"]) / 2
    parts.append(line([(middle, 478), (middle, row + 6)], GREEN))
    parts.append(pill(middle, 486, "view: azimuth, elevation, scale, x, y, z", GREEN, 316, 30, 13.5, solid=True))
    words = "conv ↑2: transposed convolution, stride 2\n"
    words += "projection unit: [D, H, W, C] → [H, W, D·C], then a 1×1 convolution, which learns what hides what"
    return "".join(parts) + text(WIDTH - 150, 479, words, 12.5, MUTED, anchor="end")


def discriminator() -> str:
    """The lower panel, read from right to left: an image becomes a verdict, a latent, and a verdict per level."""
    top, row, heads = 540, 722, 878
    parts = [rectangle(24, top, WIDTH - 48, HEIGHT - top - 24, PANEL, EDGE, 14)]
    parts.append(text(60, top + 32, "Discriminator", 18, INK, "bold", "start"))

    # Its images: those of the generator above, and real ones.
    join = IMAGE_X - 82
    for y, view, ground, words in ((652, VIEW, "#eef2f6", "made"), (792, (35, 24), "#dfeadf", "real")):
        parts.append(photograph(IMAGE_X, y, 36, view, ground) + text(IMAGE_X, y + 54, words, 12.5, MUTED))
        parts.append(line([(IMAGE_X - 38, y), (join, y), (join, row)], arrow=False))
    parts.append(line([(IMAGE_X, 456), (IMAGE_X, 610)]))

    # Convolutions; the style heads look at what comes before instance normalisation.
    x = (1440, 1180, 940, 716)
    half = (50, 40, 30, 21)
    reach = [0.88 * h + 0.47 * depth(c) + 6 for h, (_, c) in zip(half, LEVELS, strict=True)]
    starts = [join] + [at - r for at, r in zip(x, reach, strict=True)]
    for level, (n, channels) in enumerate(LEVELS):
        parts.append(line([(starts[level], row), (x[level] + reach[level], row)]))
        room = starts[level] - x[level] - reach[level]
        if level == 0:
            parts.append(pill(x[level] + reach[level] + room / 2 + 4, row, "conv", SLATE, 52))
        else:
            parts.append(pill(starts[level] - 30, row, *_after(level)))
            parts.append(pill(x[level] + reach[level] + 55, row, "SN conv", SLATE, 70))
        parts.append(slab(x[level], row, half[level], depth(channels)))
        parts.append(text(x[level], row - 88, f"{n}² × {channels}", 14, INK, "bold"))
        if level > 0:
            parts.append(line([(x[level], row + half[level] * 1.1 + depth(channels) * 0.4 + 6), (x[level], heads - 23)], RED))
            parts.append(pill(x[level], heads, "style head: mean, std\n→ linear → real or made", RED, 172, 44, 12))

    # The two heads at its end.
    end, split = starts[-1], 578
    parts.append(line([(end, row), (split, row)], arrow=False) + pill(end - 29, row, *_after(2)))
    for y, head, verdict, colour in (
        (652, "dense 1", "logit: real or made", RED),
        (792, f"dense 128, dense {Z_DIM}, tanh", f"latent ẑ, {Z_DIM}", VIOLET),
    ):
        parts.append(line([(split, row), (split, y), (546, y)]) + line([(348, y), (288, y)], colour))
        parts.append(pill(446, y, head, SLATE, 196) + pill(199, y, verdict, colour, 172, 30, 13.5, solid=True))

    # Identity: both networks want the image to tell its latent.
    parts.append(line([(112, 792), (38, 792), (38, Z_Y), (50, Z_Y)], VIOLET, arrow=False, dashed=True))
    words = "identity loss, mean (z − ẑ)²:\nboth networks minimise it"
    parts.append(text(199, 832, words, 12.5, mix(VIOLET, "#000000", 0.25)))
    words = "conv: 5×5, stride 2  ·  SN: with spectral norm  ·  LR: leaky ReLU 0.2  ·  IN: instance norm, then leaky ReLU 0.2"
    parts.append(text(980, top + 32, words, 12.5, MUTED))
    words = "style heads see what comes before\ninstance norm (lambda_style above 0)"
    parts.append(text(x[-1] - 104, heads - 3, words, 12.5, mix(RED, "#000000", 0.25), anchor="end"))
    return "".join(parts)


def _after(level):
    """What follows the convolution before `level`: words, colour, width."""
    return ("LR", SLATE, 34) if level == 1 else ("IN", BLUE, 34)


def depth(channels: int) -> float:
    """Half the drawn thickness of a map with so many channels."""
    return 1.06 * math.sqrt(channels)


def picture() -> str:
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
        f"{text(40, 54, title, 24, INK, 'bold', 'start')}{generator()}{discriminator()}</svg>\n"
    )


def main() -> None:
    """Writes the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
