"""Our spectral and instance normalisation against tensorflow-addons 0.23, through the arrays make_golden.py wrote.

TFA overwrites a layer's kernel with kernel / sigma at every training call; we keep the raw kernel W and divide on the fly
(Miyato et al. 2018, algorithm 1). The two agree call for call: u and v do not change when W is scaled, and if W_k is TFA's
kernel after call k, then W_k = W_{k-1} / (v_k W_{k-1} u_k^T) = W / (v_k W u_k^T), because every earlier sigma cancels.
"""

import make_golden
import numpy as np
import pytest
import tensorflow as tf

from holotf.layers.normalise import InstanceNorm, instance_norm
from holotf.layers.spectral import SpectralConv2D, SpectralDense, power_iteration, sigma

GOLDEN = np.load(make_golden.GOLDEN)
LAYERS = {"conv": lambda: SpectralConv2D(8, 5, strides=2), "dense": lambda: SpectralDense(7)}
each_spectral_case = pytest.mark.parametrize(
    ("name", "iterations"), [(name, iterations) for name in LAYERS for iterations in make_golden.ITERATIONS]
)


def golden(prefix, *keys):
    return [GOLDEN[f"{prefix}/{key}"] for key in keys]


def assert_close(ours, theirs, relative):
    """The largest difference, as a share of the largest value: single entries near zero have no relative precision."""
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= relative * np.abs(theirs).max()


@each_spectral_case
def test_layer_follows_tfa_call_by_call(name, iterations):
    x, kernel, bias, u = golden(f"spectral/{name}", "x", "kernel", "bias", "u")
    kernels, us, ys, y_inference = golden(f"spectral/{name}/{iterations}", "kernels", "us", "ys", "y_inference")
    layer = LAYERS[name]()
    layer.build(x.shape)
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    layer.u.assign(u)
    for call in range(make_golden.CALLS):
        layer.update_u(iterations)
        assert_close(layer.u, us[call], 1e-6)
        assert_close(layer.normalised_kernel(), kernels[call], 1e-6)
        assert_close(layer(x), ys[call], 1e-6)
    np.testing.assert_array_equal(layer.kernel, kernel)  # where we differ: the raw kernel stays
    for _ in range(2):  # and a call has no side effect
        assert_close(layer(x), y_inference, 1e-6)
    assert_close(layer.u, us[-1], 1e-6)


@each_spectral_case
def test_functions_agree_from_the_raw_and_from_tfas_kernel(name, iterations):
    kernel, u = golden(f"spectral/{name}", "kernel", "u")
    kernels, us = golden(f"spectral/{name}/{iterations}", "kernels", "us")
    before = [kernel, *kernels]  # what TFA's layer held when call k began
    total = 1.0
    for call in range(make_golden.CALLS):
        raw_u, raw_v = power_iteration(tf.constant(kernel), tf.constant(u), iterations)
        tfa_u, tfa_v = power_iteration(tf.constant(before[call]), tf.constant(u), iterations)
        assert_close(raw_u, us[call], 1e-6)
        assert_close(tfa_u, us[call], 1e-6)
        assert_close(raw_v, tfa_v.numpy(), 1e-6)
        norm = sigma(tf.constant(kernel), raw_u, raw_v)
        total *= float(sigma(tf.constant(before[call]), tfa_u, tfa_v))
        assert_close(kernel / norm, kernels[call], 1e-6)
        assert float(norm) == pytest.approx(total, rel=1e-6)  # earlier sigmas cancel
        u = us[call]


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_golden_arrays_can_tell_mistakes_apart(name):
    u, kernel = golden(f"spectral/{name}", "u", "kernel")
    one, five = golden(f"spectral/{name}/1", "us", "kernels"), golden(f"spectral/{name}/5", "us", "kernels")
    u_steps = np.abs(np.diff(np.concatenate([u[None], one[0]]), axis=0)).max((1, 2))
    assert u_steps.min() > 1e-4  # one update too few or too many shows
    assert np.abs(one[0][0] - five[0][0]).max() > 1e-3  # and so do other iterations
    assert np.abs(one[1][0] - one[1][1]).max() > 1e-4 * np.abs(one[1]).max()
    # After 20 iterations the estimate is near the true norm, from below.
    largest = np.linalg.svd(five[1][-1].reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
    assert 1 - 1e-6 <= largest < 1.02


@pytest.mark.parametrize("slope", make_golden.SLOPES)
@pytest.mark.parametrize("epsilon", make_golden.EPSILONS)
@pytest.mark.parametrize("case", ["image", "volume", "offset", "per_sample"])
def test_instance_norm_equals_tfa(case, epsilon, slope):
    inputs = [tf.constant(value) for value in golden(f"instance/{case}", "x", "gamma", "beta")]
    (upstream,) = golden(f"instance/{case}", "upstream")
    y, *gradients = golden(f"instance/{case}/{epsilon:g}/{slope:g}", "y", "dx", "dgamma", "dbeta")
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        normalised = instance_norm(*inputs, epsilon=epsilon, negative_slope=slope)
    # TFA folds into x * a + (beta - mean * a), which loses mean / deviation = 10 times as many bits on `offset`.
    tolerance = 1e-5 if case == "offset" else 2e-6
    assert_close(normalised, y, tolerance)
    for ours, theirs in zip(tape.gradient(normalised, inputs, upstream), gradients, strict=True):
        assert_close(ours, theirs, tolerance)


@pytest.mark.parametrize("case", ["image", "volume"])
def test_instance_norm_layer_equals_tfa(case):
    x, gamma, beta = golden(f"instance/{case}", "x", "gamma", "beta")
    layer = InstanceNorm(negative_slope=0.2, epsilon=1e-5)
    layer.build(x.shape)
    layer.scale.assign(gamma)
    layer.shift.assign(beta)
    assert_close(layer(x), *golden(f"instance/{case}/1e-05/0.2", "y"), 2e-6)


def test_make_golden_refuses_this_environment():
    with pytest.raises(SystemExit, match=r"needs an environment of its own with tensorflow-cpu==2\.15\.1 tensorflow-addons"):
        make_golden.main()
