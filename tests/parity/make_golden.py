"""Writes golden.npz: what tensorflow-addons 0.23 computes, for test_parity.py to hold our layers against.

tensorflow-addons cannot be imported beside Keras 3, so this runs in an environment of its own (Python 3.11, 40 s to make):

    python3.11 -m venv /tmp/tfa_oracle
    /tmp/tfa_oracle/bin/pip install tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0
    /tmp/tfa_oracle/bin/python tests/parity/make_golden.py

Run again it gives the same arrays on the same machine; on another CPU the last bits may differ. Arrays, all float32:

    spectral/LAYER/x, kernel, bias, u       inputs, and the weights at the start; LAYER is conv (5x5, stride 2) or dense
    spectral/LAYER/N/kernels, us, ys        after each of CALLS training calls with N power iterations (first axis: the call)
    spectral/LAYER/N/y_inference            one call with training=False after them
    instance/CASE/x, gamma, beta, upstream  inputs; CASE is image, volume, offset (mean 5, deviation 0.5) or per_sample,
                                            where gamma and beta are [B,C] and TFA's layer runs on one sample at a time
    instance/CASE/EPS/SLOPE/y, dx, dgamma, dbeta   the layer, then leaky ReLU with SLOPE; gradients of sum(y * upstream)
"""

import os
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np

NEEDS = {"tensorflow-cpu": "2.15.1", "tensorflow-addons": "0.23.0"}
GOLDEN = Path(__file__).with_name("golden.npz")
CALLS = 4
ITERATIONS = (1, 2, 5)
EPSILONS = (1e-3, 1e-5)  # TFA's default; the official HoloGAN's
SLOPES = (1.0, 0.2)  # 1.0: no activation


def require_oracle_environment():
    """Leaves with the commands that make the environment, unless we run in it."""
    found = {}
    for package in NEEDS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    if found != NEEDS:
        wanted = " ".join(f"{package}=={version}" for package, version in NEEDS.items())
        got = ", ".join(f"{package} {version}" for package, version in found.items())
        raise SystemExit(
            f"make_golden.py needs an environment of its own with {wanted}; here: {got}. Make and use it with\n"
            f"  python3.11 -m venv /tmp/tfa_oracle\n"
            f"  /tmp/tfa_oracle/bin/pip install {wanted}\n"
            f"  /tmp/tfa_oracle/bin/python tests/parity/make_golden.py"
        )


def spectral_arrays(tf, tfa, rng):
    """Successive training calls of tfa.layers.SpectralNormalization; each overwrites the kernel with kernel / sigma."""
    layers = {
        "conv": (lambda: tf.keras.layers.Conv2D(8, 5, strides=2, padding="same"), (2, 8, 8, 3), (5, 5, 3, 8)),
        "dense": (lambda: tf.keras.layers.Dense(7), (4, 12), (12, 7)),
    }
    arrays = {}
    for name, (make, x_shape, kernel_shape) in layers.items():
        start = {
            "x": rng.uniform(-1, 1, x_shape),
            "kernel": rng.normal(0, 0.02, kernel_shape),
            "bias": rng.normal(0, 0.5, kernel_shape[-1]),
            "u": rng.normal(0, 0.02, (1, kernel_shape[-1])),
        }
        start = {key: value.astype(np.float32) for key, value in start.items()}
        arrays |= {f"spectral/{name}/{key}": value for key, value in start.items()}
        for iterations in ITERATIONS:
            layer = tfa.layers.SpectralNormalization(make(), power_iterations=iterations)
            layer.build(x_shape)
            layer.layer.set_weights([start["kernel"], start["bias"]])
            layer.u.assign(start["u"])
            kernels, us, ys = [], [], []
            for _ in range(CALLS):
                ys.append(layer(start["x"], training=True).numpy())
                kernels.append(layer.layer.kernel.numpy())
                us.append(layer.u.numpy())
            prefix = f"spectral/{name}/{iterations}"
            arrays |= {f"{prefix}/kernels": np.stack(kernels), f"{prefix}/us": np.stack(us), f"{prefix}/ys": np.stack(ys)}
            arrays[f"{prefix}/y_inference"] = layer(start["x"], training=False).numpy()
    return arrays


def instance_norm(tf, tfa, x, gamma, beta, upstream, epsilon, slope):
    """Returns y, dx, dgamma, dbeta of tfa.layers.InstanceNormalization followed by a leaky ReLU."""
    layer = tfa.layers.InstanceNormalization(axis=-1, epsilon=epsilon)
    layer.build(x.shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.nn.leaky_relu(layer(x), slope)
        loss = tf.reduce_sum(y * upstream)
    return [value.numpy() for value in (y, *tape.gradient(loss, (x, layer.gamma, layer.beta)))]


def instance_arrays(tf, tfa, rng):
    """tfa.layers.InstanceNormalization on images, volumes, data far from zero, and one sample at a time (AdaIN's case)."""
    cases = {  # x shape, mean and deviation of x
        "image": ((3, 6, 5, 4), 0.0, 1.0),
        "volume": ((2, 4, 3, 5, 3), 0.3, 2.0),
        "offset": ((2, 6, 6, 3), 5.0, 0.5),
        "per_sample": ((3, 5, 4, 4), -0.5, 0.1),
    }
    arrays = {}
    for name, (shape, mean, deviation) in cases.items():
        rows = (shape[0],) if name == "per_sample" else ()
        start = {
            "x": rng.normal(mean, deviation, shape),
            "gamma": rng.normal(1, 0.5, (*rows, shape[-1])),
            "beta": rng.normal(0, 0.5, (*rows, shape[-1])),
            "upstream": rng.normal(0, 1, shape),
        }
        start = {key: value.astype(np.float32) for key, value in start.items()}
        arrays |= {f"instance/{name}/{key}": value for key, value in start.items()}
        for epsilon in EPSILONS:
            for slope in SLOPES:
                if rows:
                    samples = [
                        instance_norm(tf, tfa, x[None], gamma, beta, upstream[None], epsilon, slope)
                        for x, gamma, beta, upstream in zip(*start.values(), strict=True)
                    ]
                    y, dx, dgamma, dbeta = zip(*samples, strict=True)
                    results = [np.concatenate(y), np.concatenate(dx), np.stack(dgamma), np.stack(dbeta)]
                else:
                    results = instance_norm(tf, tfa, *start.values(), epsilon, slope)
                for key, value in zip(("y", "dx", "dgamma", "dbeta"), results, strict=True):
                    arrays[f"instance/{name}/{epsilon:g}/{slope:g}/{key}"] = value
    return arrays


def main():
    """Checks the environment, computes, writes."""
    require_oracle_environment()
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    warnings.filterwarnings("ignore", message="(?s).*TensorFlow Addons")  # it announces its end of life on import
    import tensorflow as tf
    import tensorflow_addons as tfa

    arrays = spectral_arrays(tf, tfa, np.random.default_rng(20191))
    arrays |= instance_arrays(tf, tfa, np.random.default_rng(20192))
    for name, value in arrays.items():
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise ValueError(f"{name} is {value.dtype}, finite: {np.isfinite(value).all()}; want finite float32")
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN}: {len(arrays)} arrays, {GOLDEN.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
