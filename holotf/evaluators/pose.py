"""Does it turn? Poses read off generated sweeps by a regressor that was trained on labelled renders."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from holotf.errors import UserError
from holotf.evaluators.features import content_key

HELD_OUT = 500  # images
EPOCHS = 12
BATCH = 64
AMBIGUOUS_DEG = 90.0  # an error beyond it: front taken for back, or side for side
_ELEVATION_UNIT_DEG = 30.0  # brings elevations to the size of a cosine


class PoseRegressor:
    """Azimuth and elevation of an image, and how well it reads them.

    Args:
      network: images [N, H, W, 3] float32 in [-1, 1] -> [N, 3]: cos and sin of the azimuth, elevation / 30 degrees.
      held_out: what `judge_regressor` found.
    """

    def __init__(self, network, held_out):
        self.network, self.held_out = network, held_out

    def __call__(self, images):
        """uint8 [..., H, W, 3] -> (azimuth_deg, elevation_deg), float64 arrays [...]; azimuth in (-180, 180]."""
        flat = images.reshape(-1, *images.shape[-3:])
        parts = [flat[i : i + 256] for i in range(0, len(flat), 256)]
        found = np.concatenate([self.network(p.astype(np.float32) / 127.5 - 1.0, training=False).numpy() for p in parts])
        found = found.astype(np.float64).reshape(*images.shape[:-3], 3)
        return np.degrees(np.arctan2(found[..., 1], found[..., 0])), found[..., 2] * _ELEVATION_UNIT_DEG


def wrap(angle_deg):
    """Degrees -> the same angle in (-180, 180]."""
    return -((180.0 - np.asarray(angle_deg)) % 360.0 - 180.0)


def labelled(builder, split, *labels):
    """All images of a data set, and what it says of each.

    Args:
      builder: the tfds data set.
      split: of it.
      *labels: names of features.

    Returns:
      (uint8 [N, H, W, 3], an array [N] for each label), or None where the data set lacks one.
    """
    if not set(labels) <= set(builder.info.features):
        return None
    examples = list(tfds.as_numpy(builder.as_dataset(split, read_config=tfds.ReadConfig(try_autocache=False))))
    return tuple(np.stack([e[name] for e in examples]) for name in ("image", *labels))


def turntables(builder, split):
    """Real objects turning, which is what sweeps should be like.

    Args:
      builder: a tfds data set with features image, object and azimuth_deg, as `data_prep --turntable` makes it.
      split: of it.

    Returns:
      (uint8 [N, K, H, W, 3], azimuth_deg [K]) of N objects from K sides.

    Raises:
      UserError: no such features, or not every object from the same sides.
    """
    found = labelled(builder, split, "object", "azimuth_deg")
    if found is None:
        raise UserError(f"{builder.data_path} has no object and azimuth_deg: make it with data_prep's --turntable")
    order = np.lexsort(found[:0:-1])  # by object, then by azimuth
    images, objects, azimuth_deg = (values[order] for values in found)
    count = len(np.unique(objects))
    if len(images) % count or not np.array_equal(azimuth_deg, np.tile(azimuth_deg[: len(images) // count], count)):
        raise UserError(f"{builder.data_path} does not show every object from the same sides: make it with data_prep's --turntable")
    return images.reshape(count, -1, *images.shape[1:]), azimuth_deg[: len(images) // count].astype(np.float64)


def regressor(builder, split, cache, seed=0):
    """The pose regressor of a labelled data set: read from the cache, or trained (a minute or two) and put there.

    Args:
      builder: the tfds data set, with features image, azimuth_deg and elevation_deg.
      split: of it.
      cache: folder.
      seed: of weights and order.

    Returns:
      A `PoseRegressor`.

    Raises:
      UserError: too few images.
    """
    shards = [os.fspath(p) for p in builder.info.splits[split].filepaths]
    path = Path(cache) / f"{content_key('pose', shards, f'{split} {seed} {EPOCHS}')}.keras"
    facts = path.with_suffix(".json")
    if path.exists() and facts.exists():
        return PoseRegressor(keras.models.load_model(path), json.loads(facts.read_text()))
    images, azimuth_deg, elevation_deg = labelled(builder, split, "azimuth_deg", "elevation_deg")
    if len(images) < 2 * HELD_OUT:
        raise UserError(f"{builder.data_path} has {len(images)} images: a pose regressor needs at least {2 * HELD_OUT}")
    print(f"training a pose regressor on {len(images)} images", flush=True)
    trained = train(images, azimuth_deg, elevation_deg, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    trained.network.save(temporary)
    facts.write_text(json.dumps(trained.held_out))
    temporary.replace(path)  # last: the pair is complete once the network is there
    return trained


def train(images, azimuth_deg, elevation_deg, seed=0, epochs=EPOCHS):
    """Trains on all but the first `HELD_OUT` images (in a shuffled order) and judges on those; returns a `PoseRegressor`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        keras.utils.set_random_seed(seed)
        order = np.random.default_rng(seed).permutation(len(images))
        images, azimuth_deg, elevation_deg = images[order], azimuth_deg[order], elevation_deg[order]
        radians = np.radians(azimuth_deg)
        targets = np.stack([np.cos(radians), np.sin(radians), elevation_deg / _ELEVATION_UNIT_DEG], 1).astype(np.float32)
        network = _network(images.shape[1:])
        steps = epochs * -(-(len(images) - HELD_OUT) // BATCH)
        network.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)), "mse")
        stream = tf.data.Dataset.from_tensor_slices((images[HELD_OUT:], targets[HELD_OUT:])).shuffle(len(images), seed=seed)
        stream = stream.batch(BATCH).map(lambda x, y: (tf.cast(x, tf.float32) / 127.5 - 1.0, y)).prefetch(2)
        network.fit(stream, epochs=epochs, shuffle=False, verbose=0)
        made = PoseRegressor(network, {})
        made.held_out = judge_regressor(made, images[:HELD_OUT], azimuth_deg[:HELD_OUT], elevation_deg[:HELD_OUT])
        return made
    finally:
        keras.config.set_dtype_policy(before)


def _network(shape):
    layers = [keras.layers.Input(shape)]
    for filters in (32, 64, 128, 256):
        layers += [keras.layers.Conv2D(filters, 4, 2, "same"), keras.layers.BatchNormalization(), keras.layers.LeakyReLU(0.2)]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dropout(0.3), keras.layers.Dense(3)])


def judge_regressor(read, images, azimuth_deg, elevation_deg):
    """What the regressor can tell of images it has not seen.

    Returns:
      Dict: azimuth_mae_deg, elevation_mae_deg, and ambiguous_share, the share of azimuths it misses by more than 90 degrees
      (a front taken for a back: the objects' symmetry, or the regressor's weakness).
    """
    azimuth, elevation = read(images)
    error = np.abs(wrap(azimuth - azimuth_deg))
    return {
        "azimuth_mae_deg": float(error.mean()),
        "elevation_mae_deg": float(np.abs(elevation - elevation_deg).mean()),
        "ambiguous_share": float(np.mean(error > AMBIGUOUS_DEG)),
    }


def azimuth_scores(read_deg, asked_deg):
    """How well azimuth sweeps turn.

    An unsupervised generator may settle on a mirrored world and another zero, so one sign and one offset are fitted to all sweeps
    together. A step is the difference between neighbouring views, the last and the first among them, so a sweep's steps add up to
    whole turns. An object may turn more than once while the view does: each half of a chair then passes for the whole.

    Args:
      read_deg: [N, K] azimuths read off N sweeps of K views.
      asked_deg: [K] azimuths asked for, evenly round the circle.

    Returns:
      (scores, per identity). Scores by path: `pose/sign` (+1 or -1), `pose/azimuth_mae_deg`, `pose/correlation` (circular, of
      read and asked; Fisher and Lee 1983), `pose/monotonicity` (share of steps that turn the right way), `pose/coverage_deg` (net
      degrees that a sweep covers, mean; swinging there and back is 0), `pose/full_turn_share` (identities that turn round once,
      neither less nor more), `pose/offset_spread_deg` (deviation of each identity's own offset). Per identity, arrays [N]:
      `coverage_deg`, `azimuth_mae_deg`, `offset_deg`.
    """
    steps = wrap(np.roll(read_deg, -1, axis=1) - read_deg)
    fits = [(*_fit(wrap(read_deg - sign * asked_deg)), sign) for sign in (1, -1)]
    error, own, sign = min(fits, key=lambda fit: np.abs(fit[0]).mean())
    net = sign * steps.sum(axis=1)
    scores = {
        "pose/sign": float(sign),
        "pose/azimuth_mae_deg": float(np.abs(error).mean()),
        "pose/correlation": _circular_correlation(sign * read_deg, np.broadcast_to(asked_deg, read_deg.shape)),
        "pose/monotonicity": float(np.mean(sign * steps > 0)),
        "pose/coverage_deg": float(net.mean()),
        "pose/full_turn_share": float(np.mean(np.round(net / 360.0) == 1)),
        "pose/offset_spread_deg": float(np.sqrt(np.mean(own**2))),
    }
    return scores, {"coverage_deg": net, "azimuth_mae_deg": np.abs(error).mean(axis=1), "offset_deg": own}


def _fit(difference_deg):
    """Takes the mean direction off [N, K] angles: (what is left, each row's own mean direction)."""
    common = np.degrees(np.angle(np.exp(1j * np.radians(difference_deg)).mean()))
    left = wrap(difference_deg - common)
    return left, np.degrees(np.angle(np.exp(1j * np.radians(left)).mean(axis=1)))


def _circular_correlation(a_deg, b_deg):
    """Fisher and Lee's T-linear correlation, sum over pairs sin(a_i - a_j) sin(b_i - b_j), normalised; 0 for a constant."""
    a, b = np.exp(1j * np.radians(a_deg.ravel())), np.exp(1j * np.radians(b_deg.ravel()))

    def pairs(u, v):  # sum_ij sin(u_i - u_j) sin(v_i - v_j) = (|sum u v*|^2 - |sum u v|^2) / 2
        return (abs(np.sum(u * v.conj())) ** 2 - abs(np.sum(u * v)) ** 2) / 2

    scale = np.sqrt(pairs(a, a) * pairs(b, b))
    return float(pairs(a, b) / scale) if scale > 1e-9 * len(a) ** 2 else 0.0


def elevation_scores(read_deg, asked_deg):
    """How well elevation sweeps tilt: one sign and one offset fitted as for the azimuth.

    Args:
      read_deg: [N, K].
      asked_deg: [K].

    Returns:
      Dict: `pose/elevation_mae_deg`, `pose/elevation_correlation` (Pearson's, of the mean sweep and what was asked, in [-1, 1]).
    """
    fits = []
    for sign in (1, -1):
        error = read_deg - sign * asked_deg
        fits.append(np.abs(error - error.mean()).mean())
    mean = read_deg.mean(axis=0)
    correlation = np.corrcoef(mean, asked_deg)[0, 1] if mean.std() > 0 and np.std(asked_deg) > 0 else 0.0
    return {"pose/elevation_mae_deg": float(min(fits)), "pose/elevation_correlation": float(correlation)}
