"""What a config says of the devices: what is refused, and what compiling the whole step does."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf import devices, native
from holotf.errors import UserError
from holotf.layers.normalise import instance_norm


def step(images, play=True):
    """What a train step has: our kernels where they may be used, a Python option, a dict of scalars."""
    step.kernels = native.kernels(images)
    x = instance_norm(images, tf.ones(3), tf.zeros(3), epsilon=1e-5, negative_slope=0.2)
    return {"loss": tf.reduce_sum(x**2) if play else tf.reduce_sum(x)}


def test_a_step_compiled_whole_gives_the_same_without_our_kernels():
    device = small_config().device
    images = tf.random.stateless_normal([2, 4, 4, 3], [0, 0])
    expected = [float(step(images, play=play)["loss"]) for play in (True, False)]
    device.xla = "on"
    devices.configure(device)
    whole = devices.compiled(device, 1, step)
    found = [float(whole(images, play=play)["loss"]) for play in (True, False)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert step.kernels is None
    device.xla = "auto"
    devices.configure(device)
    assert native.kernels() is not None or native._load() is None


@pytest.mark.parametrize(("xla", "replicas"), [("off", 1), ("auto", 1), ("auto", 2)])
def test_on_a_cpu_and_between_replicas_a_step_stays_as_it_is(xla, replicas):
    device = small_config().device
    device.xla = xla
    assert devices.compiled(device, replicas, step) is step


@pytest.mark.parametrize(
    ("name", "value", "call", "message"),
    [
        ("xla", "maybe", devices.configure, r"device.xla='maybe': use auto, on or off"),
        ("xla", "on", lambda d: devices.compiled(d, 2, step), r"device.xla='on' with 2 replicas: use auto or off"),
        ("precision", "float16", devices.configure, r"device.precision='float16': use float32 or mixed_bfloat16"),
        ("threads", -1, devices.configure, r"device.threads=-1: use 0 \(TensorFlow's choice\) to 1024"),
        ("threads", 10**8, devices.configure, r"device.threads=100000000: use 0 \(TensorFlow's choice\) to 1024"),
        ("strategy", "tpu", devices.configure, r"device.strategy='tpu': use auto, one, mirrored or multi_worker"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, value, call, message):
    device = small_config(**{f"device.{name}": value}).device
    with pytest.raises(UserError, match=message):
        call(device)
