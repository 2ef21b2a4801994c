import itertools
import math
import tracemalloc

import numpy as np
import pytest

from holotf.errors import UserError
from holotf.evaluators import distribution
from holotf.evaluators.distribution import collapse, fid, kid


def normal(seed, n, d, **kwargs):
    return np.random.default_rng(seed).normal(size=(n, d), **kwargs).astype(np.float32)


def exact(mean, covariance, n, seed=0):
    """n samples [n, d] whose mean and covariance (n - 1) are the given ones, to rounding."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(np.asarray(covariance, float)).T + mean


def naive_mmd2(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    n, pairs = len(x), list(itertools.permutations(range(len(x)), 2))
    within = sum(k(z[i], z[j]) for z in (x, y) for i, j in pairs) / (n * (n - 1))
    return within - 2 * sum(k(a, b) for a in x for b in y) / n**2


def test_kid_of_one_whole_subset_is_the_naive_double_loop():
    real, fake = normal(0, 13, 5), normal(1, 13, 5) + 0.5
    mean, std = kid(real, fake, subsets=3)
    assert mean == pytest.approx(naive_mmd2(real, fake), rel=1e-12)
    assert std == pytest.approx(0, abs=1e-12)  # every subset is the whole


def test_kid_by_hand():
    # d = 1; x = 0, 1; y = 1, 2: k(0,1) = 1, k(1,2) = 27, cross: k(0,1) + k(0,2) + k(1,1) + k(1,2) = 1 + 1 + 8 + 27
    assert kid(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]]))[0] == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_kid_averages_subsets_drawn_without_replacement():
    # With replacement a pair i != j would often be the same image twice, and k(x, x) is large: the mean would be far off.
    x, y = normal(2, 6, 40) * 3, normal(3, 6, 40) * 3
    every = [
        naive_mmd2(x[list(i)], y[list(j)]) for i in itertools.combinations(range(6), 3) for j in itertools.combinations(range(6), 3)
    ]
    mean, std = kid(x, y, subsets=4000, subset_size=3)
    assert mean == pytest.approx(np.mean(every), abs=5 * np.std(every) / math.sqrt(4000))
    assert std == pytest.approx(np.std(every), rel=0.1)


def test_kid_is_unbiased():
    # Its mean over many pairs of small sets of one distribution is 0, which a biased estimate's (with i = j) is not.
    values = [kid(normal(2 * i, 4, 3), normal(2 * i + 1, 4, 3), subsets=1)[0] for i in range(3000)]
    assert np.mean(values) == pytest.approx(0, abs=4 * np.std(values) / math.sqrt(len(values)))
    assert 0.2 < np.mean(np.array(values) < 0) < 0.8


def test_kid_of_one_distribution_is_zero_within_its_std_and_of_two_it_is_not():
    a, b = normal(0, 600, 16), normal(1, 600, 16)
    mean, std = kid(a, b, subsets=50, subset_size=100)
    assert abs(mean) < std
    mean, std = kid(a, b + 0.5, subsets=50, subset_size=100)
    assert mean > 5 * std


def test_kid_follows_from_its_seed():
    a, b = normal(0, 60, 4), normal(1, 60, 4)
    assert kid(a, b, 5, 20, seed=3) == kid(a, b, 5, 20, seed=3)
    assert kid(a, b, 5, 20, seed=3) != kid(a, b, 5, 20, seed=4)


def test_kid_of_fewer_features_than_a_subset_uses_what_there_is():
    real, fake = normal(0, 30, 4), normal(1, 9, 4)
    assert kid(real, fake, 20, 1000) == kid(real, fake, 20, 9)
    assert kid(real, fake, 20, 1000)[1] > 0  # the real ones are still drawn


def test_kid_is_computed_in_float64():
    # Far from the origin float32 kernels would lose the difference: values near 1e8, and a distance near 1.
    real, fake = normal(0, 50, 8) + 500, normal(1, 50, 8) + 500
    assert kid(real, fake, 1)[0] == pytest.approx(naive_mmd2(real, fake), rel=1e-4)


def test_permuting_the_samples_changes_nothing():
    real, fake = normal(0, 40, 6), normal(1, 40, 6) * 1.5
    turned = fake[np.random.default_rng(5).permutation(40)]
    assert kid(real, turned, 2)[0] == pytest.approx(kid(real, fake, 2)[0], rel=1e-10)
    assert fid(real, turned) == pytest.approx(fid(real, fake), rel=1e-10)
    assert collapse(real, turned) == pytest.approx(collapse(real, fake), rel=1e-10)


def test_an_orthogonal_change_of_basis_changes_nothing():
    real, fake = normal(0, 60, 6).astype(np.float64), normal(1, 60, 6) * 1.5 + np.arange(6.0)
    q, _ = np.linalg.qr(normal(7, 6, 6).astype(np.float64))
    assert fid(real @ q, fake @ q) == pytest.approx(fid(real, fake), rel=1e-9)
    assert kid(real @ q, fake @ q, 2)[0] == pytest.approx(kid(real, fake, 2)[0], rel=1e-9)
    assert collapse(real @ q, fake @ q) == pytest.approx(collapse(real, fake), rel=1e-9)


def test_distances_are_symmetric_and_fid_to_oneself_is_zero():
    real, fake = normal(0, 50, 6), normal(1, 50, 6) * 2 + 1
    assert fid(real, fake) == pytest.approx(fid(fake, real), rel=1e-9)
    assert kid(real, fake, 2)[0] == pytest.approx(kid(fake, real, 2)[0], rel=1e-9)
    assert 0 <= fid(fake, fake) < 1e-9


def test_fid_closed_form_of_commuting_gaussians():
    # Diagonal: sum (m - m')^2 + sum (s - s')^2, s the standard deviations = 9 + 16 + (1 - 3)^2 + (2 - 5)^2
    real, fake = exact([0, 0], np.diag([1, 4]), 30), exact([3, -4], np.diag([9, 25]), 50, seed=1)
    assert fid(real, fake) == pytest.approx(25 + 4 + 9, rel=1e-9)


def test_fid_closed_form_of_gaussians_that_do_not_commute():
    # 2 x 2: tr (A B)^1/2 = sqrt(tr AB + 2 sqrt(det AB)). A = [[2, 1], [1, 2]], B = diag(1, 4): tr AB = 10, det AB = 12
    real, fake = exact([1, 2], [[2, 1], [1, 2]], 30), exact([1, 2], np.diag([1, 4]), 40, seed=1)
    assert fid(real, fake) == pytest.approx(4 + 5 - 2 * math.sqrt(10 + 2 * math.sqrt(12)), rel=1e-9)


def test_fid_equals_the_general_matrix_square_root():
    linalg = pytest.importorskip("scipy.linalg")
    real, fake = normal(0, 80, 12) @ normal(2, 12, 12), normal(1, 90, 12) @ normal(3, 12, 12) + 0.5
    a, b = (np.cov(x.astype(np.float64), rowvar=False) for x in (real, fake))
    gap = real.mean(0, np.float64) - fake.mean(0, np.float64)
    assert fid(real, fake) == pytest.approx(gap @ gap + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real), rel=1e-8)


def test_fid_of_fewer_samples_than_features_is_finite():
    # Covariances of rank 4 in 32 dimensions, at right angles: nothing in common, so the traces remain.
    q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(32, 32)))
    real, fake = exact(np.zeros(4), np.eye(4), 5) @ q[:4], exact(np.zeros(4), 4 * np.eye(4), 5, seed=1) @ q[4:8]
    assert fid(real, fake) == pytest.approx(4 + 16, abs=1e-5)


def test_chunks_change_nothing(monkeypatch):
    real, fake = normal(0, 100, 7), normal(1, 83, 7) + 0.1
    whole = fid(real, fake)
    monkeypatch.setattr(distribution, "ROWS", 9)  # of which neither 100 nor 83 is a multiple
    assert fid(real, fake) == pytest.approx(whole, rel=1e-10)


def test_fid_of_float32_far_from_the_origin_keeps_its_digits():
    far = exact([1000.0] * 3, np.eye(3) * 0.01, 5000).astype(np.float32)
    assert fid(far, far + np.float32(0.5)) == pytest.approx(3 * 0.25, rel=1e-4)


def test_no_float64_copy_of_the_features_is_made():
    real, fake = normal(0, 40_000, 64), normal(1, 40_000, 64)  # 10 MB each, 20 MB in float64
    for metric in (fid, lambda a, b: kid(a, b, 2, 200), lambda a, b: collapse(a, b, batch_size=200)):
        tracemalloc.start()
        metric(real, fake)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 6e6


@pytest.mark.parametrize("offset", [9, 1e7])  # far out |x|^2 + |y|^2 - 2 x.y has no digits left
def test_collapse_is_the_naive_ratio(offset):
    real, fake = normal(0, 11, 5), normal(1, 11, 5).astype(np.float64) * 0.25 + offset

    def naive(x):
        return np.mean([np.linalg.norm(a - b) for a, b in itertools.combinations(x.astype(np.float64), 2)])

    assert collapse(real, fake) == pytest.approx(naive(fake) / naive(real), rel=1e-7)


def test_collapse_known_answers():
    real = normal(0, 400, 8)
    assert collapse(real, np.tile(real[:1] + 100, (400, 1))) == pytest.approx(0, abs=1e-6)  # one image over and over
    assert collapse(real, normal(1, 400, 8)) == pytest.approx(1, abs=0.05)
    assert collapse(real, real * 3 + 5) == pytest.approx(3, rel=1e-5)
    two = np.repeat([[0.0] * 8, [1.0] * 8], 50, axis=0)
    assert collapse(two, two) == pytest.approx(1)


def test_collapse_draws_a_batch_by_its_seed():
    real, fake = normal(0, 300, 8), normal(1, 300, 8)
    first = collapse(real, fake, seed=1, batch_size=20)
    assert first == collapse(real, fake, seed=1, batch_size=20)
    assert first != collapse(real, fake, seed=2, batch_size=20)


GOOD = np.arange(8.0).reshape(4, 2)
BAD = GOOD.copy()
BAD[2, 1] = np.nan


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (GOOD[0], GOOD, "real features of shape \\(2,\\)"),
        (GOOD, GOOD[None], "fake features of shape \\(1, 4, 2\\)"),
        (GOOD, GOOD[:, :0], "fake features of shape \\(4, 0\\)"),
        (GOOD, GOOD.astype(str), "fake features of .* type <U"),
        (GOOD, np.ones([4, 3]), "2 wide, fake ones 3"),
        (GOOD, GOOD[:1], "fake features of 1 images: use at least 2"),
        (GOOD, BAD, "fake features of image 2 are not finite"),
        (np.where(GOOD == 1, np.inf, GOOD), GOOD, "real features of image 0 are not finite"),
    ],
)
@pytest.mark.parametrize("metric", [kid, fid, collapse])
def test_bad_features_are_named(metric, real, fake, message):
    with pytest.raises(UserError, match=message):
        metric(real, fake)


def test_a_bad_image_is_numbered_across_chunks(monkeypatch):
    monkeypatch.setattr(distribution, "ROWS", 2)
    with pytest.raises(UserError, match="real features of image 2 are not finite"):
        fid(BAD, GOOD)


def test_bad_settings_are_named():
    with pytest.raises(UserError, match="kid subsets=0"):
        kid(GOOD, GOOD, subsets=0)
    with pytest.raises(UserError, match="kid subset_size=1"):
        kid(GOOD, GOOD, subset_size=1)
    with pytest.raises(UserError, match="collapse batch_size=1"):
        collapse(GOOD, GOOD, batch_size=1)
    with pytest.raises(UserError, match="all alike"):
        collapse(np.ones([4, 2]), GOOD)
