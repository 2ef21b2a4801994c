"""Writes tests/golden/golden.json: what a few iterations of each model give. `python tests/golden/make_golden.py`.

Run it again only where the change was meant to change what a model computes; say in the commit which, and why.
"""

import hashlib
import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from conftest import PUBLISHED, small_config  # noqa: E402

from holotf import models  # noqa: E402

FILE = Path(__file__).with_name("golden.json")
ITERATIONS = 3
CASES = {
    "hologan": {},
    "hologan_official": PUBLISHED | {"train.g_steps": 2},
    "hologan_paper_style": PUBLISHED | {"model.variant": "paper", "loss.lambda_style": 1.0, "train.g_steps": 2},
    "hologan_wgan": PUBLISHED | {"loss.gan": "wgan", "views.azimuth_deg": (-45.0, 45.0), "train.g_steps": 1},
    "dcgan": {"model.name": "dcgan", "train.g_steps": 2},
    "dcgan_r1_spectral": {
        "model.name": "dcgan",
        "model.d_norm": "spectral",
        "loss.gan": "hinge",
        "loss.lambda_r1": 1.0,
        "train.g_steps": 2,
    },
    "vae": {"model.name": "vae"},
    "classifier": {
        "model.name": "classifier",
        "model.network": "improved",
        "optim.optimizer": "sgd",
        "train.augmentation": "significant",
    },
    "projection_gan": {"model.name": "projection_gan", "loss.gradient_penalty": True, "train.diff_augment": ("color", "cutout")},
    "conditional_hologan": {"model.name": "conditional_hologan"},
    "dann": {"model.name": "dann"},
    "pixelda": {"model.name": "pixelda", "loss.lambda_content": 0.1},
    "pose_dann": {"model.name": "pose_dann"},
    "pose_pixelda": {"model.name": "pose_pixelda"},
}


def measure(changes):
    """Losses of each iteration, and of each part's weights at the end the norm and a fixed projection."""
    keras.utils.set_random_seed(0)
    config = small_config(**changes)
    model = models.build(config)
    step = tf.function(lambda batch: model.train_step(model.augment(batch)), autograph=False)
    images = np.random.default_rng(0).integers(0, 256, (ITERATIONS, config.train.batch_size, 32, 32, 3)).astype(np.uint8)
    logs = [{k: float(v) for k, v in step(batch_of(model.FEATURES, batch)).items()} for batch in images]
    weights, digest = {}, hashlib.sha256()
    for name in model.PARTS:
        values = [v.numpy() for v in getattr(model, name).variables]
        for value in values:
            digest.update(np.ascontiguousarray(value).tobytes())
        flat = np.concatenate([v.astype(np.float64).ravel() for v in values])
        direction = np.random.default_rng(1).normal(size=len(flat)) / np.sqrt(len(flat))
        weights[name] = {"count": len(flat), "norm": float(np.linalg.norm(flat)), "projection": float(flat @ direction)}
    return {"logs": logs, "weights": weights}, digest.hexdigest()


def batch_of(features, images):
    """A batch as a model wants it: of one data set, or of several, whose images are the same."""
    if isinstance(features, dict):
        return {name: batch_of(each, images) for name, each in features.items()}
    return {name: images if name == "image" else tf.range(len(images), dtype=tf.int64) % 3 for name in features}


def main():
    """Writes the file, and prints a digest of all weights, bit for bit, by which one machine compares two commits."""
    found = {name: measure(changes) for name, changes in CASES.items()}
    for name, (_, digest) in found.items():
        print(name, digest)
    FILE.write_text(json.dumps({name: values for name, (values, _) in found.items()}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
