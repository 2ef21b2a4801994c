"""The viewer as a folder for any static host: the page, the model as ONNX, and what runs it in the visitor's browser.

docs/serving.md, "A page without a server", describes it. What the server would answer, web/local.js and web/worker.js do.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import files, onnx_model, serving
from holotf.errors import UserError
from holotf.npm import Package
from holotf.serving.exported import Exported

WEB = Path(serving.__file__).with_name("web")
FORMAT = 1  # of model.json
# What runs in the browser: {file of the package: name in the folder `runtime`}.
RUNTIME = {
    Package(
        "onnxruntime-web",
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    ): {f"dist/{name}": name for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")},
    Package("gifenc", "1.0.3", "sha512-xdr6AdrfGBcfzncONUOlXMBuc5wJDtOueE3c5rdG0oNgtINLD+f2iFZltrBRZYzACRbKr+mSVU/x98zv2u3jmw=="): {
        "dist/gifenc.esm.js": "gifenc.esm.js"
    },
}
# The page may run what lies beside it, WebAssembly too, and ask nobody else: the browser sees to that.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
SEEDS = 256  # whose latents are written out where no recipe gives them
COMPARED = 4  # objects, each from so many views
MOST = 8  # levels of 255 by which a pixel may differ from the SavedModel's; what computes in bfloat16 rounds by up to five


def write(source: str, folder: str, settings: ConfigDict) -> dict:
    """Writes the folder, under a temporary name first.

    Args:
      source: a SavedModel with its card, or a folder of such ones by number.
      folder: the new folder.
      settings: `config.export`.

    Returns:
      What model.json says.

    Raises:
      UserError: the folder exists, a package is missing, the model makes no images of latents, or its pixels would differ too much.
    """
    check(folder)
    model = Exported(source, settings.name)
    try:
        with files.new_folder(folder, replace=False) as temporary:
            for name in ("model", "runtime"):
                os.makedirs(os.path.join(temporary, name))
            for package, wanted in RUNTIME.items():
                package.copy(wanted, os.path.join(temporary, "runtime"), settings.runtime)
            packages = [f"{package}, MIT licence: {', '.join(wanted.values())}\n" for package, wanted in RUNTIME.items()]
            files.write(os.path.join(temporary, "runtime", "PACKAGES"), "From npm:\n" + "".join(packages))
            write_page(Path(temporary))
            return write_model(model, Path(temporary, "model"), settings.weights)
    except FileExistsError:
        check(folder)  # another export has come first
        raise


def check(folder: str) -> None:
    """Finds what stands in the way, before anything is made.

    Raises:
      UserError: the folder exists, or a package is missing.
    """
    if os.path.exists(folder):
        raise UserError(f"{folder} exists: remove it first, or give another export.dir")
    onnx_model.check_installed()


def write_page(folder: Path) -> None:
    """The page's own files: index.html and the folder `web`, as the server gives them but for the lines that tell them apart."""
    shutil.copytree(WEB, folder / "web", ignore=shutil.ignore_patterns("index.html"))
    page = (WEB / "index.html").read_text(encoding="utf-8")
    for old, new in (
        ('<html lang="en">', '<html lang="en" data-model="model/model.json">'),
        ('<meta charset="utf-8">', f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        ("Asking the server what it has…", "Fetching the model…"),
    ):
        assert page.count(old) == 1, old
        page = page.replace(old, new)
    files.write(folder / "index.html", page)


def write_model(model: Exported, folder: Path, weights: str) -> dict:
    """The files of the folder `model`, once their pixels have been compared with the export's.

    Args:
      model: an export whose default endpoint makes images of latents.
      folder: an empty one.
      weights: "float16" or "float32".

    Returns:
      What model.json says.

    Raises:
      UserError: the model makes no images of latents, or its pixels would differ too much.
    """
    endpoints, default = model.endpoints, model.pictured
    if default is None:
        raise UserError(f"export.format='web': {model.name} makes no images of latents: there is nothing to show")
    halves = {"volume", "render"} <= set(endpoints)
    names = [name for name in ("volume", "render", "depth") if name in endpoints] if halves else [default.name]
    parts = {name: onnx_model.convert(endpoints[name].function, weights) for name in names}
    differs = _differences(model, parts)
    for of, told in differs.items():
        if told["most"] > MOST:
            use = "export the run again" if weights == "float32" else "use --config.export.weights=float32"
            raise UserError(f"export.weights={weights!r} moves {of} by {told['most']} of 255 levels, {MOST} are allowed: {use}")
    for name, part in parts.items():
        (folder / f"{name}.onnx").write_bytes(part)
    told = {
        "format": FORMAT,
        "name": model.name,
        "parts": {name: f"{name}.onnx" for name in parts},
        "inputs": {key: [size or 1 for size in tensor.shape] for key, tensor in default.inputs.items()},
        "latents": _latents(endpoints.get("latents"), folder),
        "weights": weights,
        "differs": differs,  # levels of 255, from the SavedModel's
    }
    files.write_json(folder / "model.json", told)
    files.write_json(folder / "card.json", model.card)
    return told


def _differences(model, parts):
    """By how many levels of 255 what the ONNX models draw differs from the SavedModel's, over the range of views.

    {"pixels": {"most", "mean"}}, and of a model that shows depth "depths".
    """
    default, rng, found = model.pictured, np.random.default_rng(0), {"pixels": []} | ({"depths": []} if "depth" in parts else {})
    latents = model.endpoints.get("latents")
    drawn = latents({"seed": np.arange(COMPARED)})["z"] if latents else rng.uniform(-1, 1, (COMPARED, default.inputs["z"].shape[1]))
    told = model.card["endpoints"][default.name]["inputs"]
    run = {name: onnx_model.runner(part) for name, part in parts.items()}
    last = run.get("render") or run[default.name]
    for z in np.float32(drawn)[:, np.newaxis]:
        volume = run["volume"]({"z": z}) if "volume" in run else {}
        whole = model.endpoints["volume"]({"z": z}) if "depth" in run else {}
        for _ in range(COMPARED):
            limits = {key: np.transpose(told[key]["range"]) for key in default.inputs if key != "z"}
            views = {key: np.float32(rng.uniform(*pair))[np.newaxis] for key, pair in limits.items()}
            images = last({**volume, "z": z, **views})["images"]
            found["pixels"].append(images.astype(int) - default({"z": z, **views})["images"])
            if "depth" in run:
                near, expected = run["depth"]({**volume, **views}), model.endpoints["depth"]({**whole, **views})
                found["depths"].append(np.round(127.5 * (near["depth"] - expected["depth"])).astype(int))  # as the page shows them
    apart = {of: np.abs(differences) for of, differences in found.items()}
    return {of: {"most": int(levels.max()), "mean": round(float(levels.mean()), 4)} for of, levels in apart.items()}


def _latents(endpoint, folder):
    """How the page draws the latents of seeds: as TensorFlow does, by a recipe that web/draw.js knows, else from a file."""
    if endpoint is None:
        return None
    seeds = np.array([0, 1, 2**31 - 1])
    wanted = endpoint({"seed": seeds})["z"]
    for split in (False, True):
        for distribution in ("uniform", "normal"):
            if all(np.array_equal(_drawn(seed, z.shape, distribution, split), z) for seed, z in zip(seeds, wanted, strict=True)):
                return {"distribution": distribution, "split": split}
    endpoint({"seed": np.arange(SEEDS)})["z"].astype("<f4").tofile(folder / "latents.bin")
    return {"file": "latents.bin", "seeds": SEEDS}


def _drawn(seed, shape, distribution, split):
    pair = tf.constant([seed, 0], tf.int32)
    if split:
        pair = tf.random.split(pair, 2)[0]
    if distribution == "normal":
        return tf.random.stateless_normal([1, *shape], pair)[0].numpy()
    return tf.random.stateless_uniform([1, *shape], pair, -1.0, 1.0)[0].numpy()


def said(folder: str, told: dict) -> str:
    """What is printed of a new folder: its size, how far its pixels are from the SavedModel's, and how to look at it."""
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    differs = "{most} of 255 levels at most, {mean:g} on average".format(**told["differs"]["pixels"])
    return (
        f"Page: {folder}, {size / 1e6:.1f} MB; pixels differ from the SavedModel's by {differs}\n"
        f"To see it: python -m http.server -d {folder} 8000"
    )
