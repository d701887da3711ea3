"""Temperatures and calibration errors, against known truths, plain loops and simulation."""

import numpy as np
import pytest
import torch

from nctransfer.heads.calibration import (
    BINS,
    calibration_noise,
    expected_calibration_error,
    fitted_temperature,
    log_loss,
)


def drawn(n, classes, temperature, seed=0):
    """Scores, and labels that are drawn from ``softmax(scores / temperature)``."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, classes, generator=generator)
    labels = (scores / temperature).softmax(dim=1).multinomial(1, generator=generator)[:, 0]
    return scores, labels


@pytest.mark.parametrize(("classes", "truth"), [(2, 0.5), (10, 0.2), (10, 3.0)])
def test_the_temperature_of_many_images_is_the_true_one(classes, truth):
    scores, labels = drawn(100_000, classes, truth)
    assert fitted_temperature(scores, labels) == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_probability_is_the_share_of_right_answers_with_one_more_that_is_wrong(seed):
    scores, labels = drawn(20, 4, 0.7, seed)
    right = (scores.argmax(dim=1) == labels).sum()
    probabilities = (scores.double() / fitted_temperature(scores, labels)).softmax(dim=1)
    assert float(probabilities.amax(dim=1).mean()) == pytest.approx(float(right) / 21, abs=1e-6)


@pytest.mark.parametrize("n", [5, 50, 500])
def test_if_all_images_are_right_about_one_more_is_expected_to_be_wrong(n):
    scores = torch.tensor([[5.0, 0.0, -1.0]]).repeat(n, 1)
    temperature = fitted_temperature(scores, torch.zeros(n, dtype=torch.int64))
    wrong = float(1 - (scores / temperature).softmax(dim=1)[0, 0])
    assert wrong == pytest.approx(1 / (n + 1), rel=1e-3)


def test_scores_that_say_nothing_have_nearly_equal_probabilities():
    scores, _ = drawn(200, 5, 1.0)
    against = scores.argmin(dim=1)  # worse than chance
    probabilities = (scores / fitted_temperature(scores, against)).softmax(dim=1)
    assert float(probabilities.amax()) < 0.21
    assert fitted_temperature(torch.ones(4, 3), torch.tensor([0, 1, 2, 0])) == 1.0


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_the_temperature_grows_with_the_scores(scale):
    scores, labels = drawn(300, 6, 0.5)
    one, two = fitted_temperature(scores.double(), labels), fitted_temperature(scores.double() * scale, labels)
    assert two / scale == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("n", [4, 100, 152])
def test_calibration_error_is_the_plain_sum_over_bins(n):
    scores, labels = drawn(n, 4, 0.4)
    probabilities = scores.softmax(dim=1).numpy()
    top = probabilities.max(axis=1)
    order = np.argsort(top, kind="stable")
    expected = 0.0
    for rows in np.array_split(order, min(BINS, n)):
        accuracy = (probabilities[rows].argmax(axis=1) == labels.numpy()[rows]).mean()
        expected += len(rows) / n * abs(accuracy - top[rows].mean())
    found = expected_calibration_error(torch.from_numpy(probabilities), labels)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "temperature"), [(100, 1.0), (100, 0.2), (1500, 0.5)])
def test_calibration_noise_is_what_calibrated_probabilities_show(n, temperature):
    found, noise = [], []
    for seed in range(150):
        scores, labels = drawn(n, 5, temperature, seed)
        probabilities = (scores / temperature).softmax(dim=1)
        found.append(expected_calibration_error(probabilities, labels))
        noise.append(calibration_noise(probabilities))
    assert np.mean(noise) == pytest.approx(np.mean(found), rel=0.1)


def test_log_loss_is_that_of_the_right_class():
    scores = torch.tensor([[1.0, 3.0]])
    assert log_loss(scores, torch.tensor([1]), 2.0) == pytest.approx(float(np.log1p(np.exp(-1.0))))
