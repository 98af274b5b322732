import numpy as np
import PIL.Image
import pytest
from tiny import tiny_image

from trl_mm.bdhs.noise import add_noise, noisy_image, signal_shares


GREY = PIL.Image.new("RGB", (120, 80), (128, 128, 128))


@pytest.mark.parametrize(("num_steps", "share"), [(100, 0.99661), (200, 0.98783), (500, 0.74554)])
def test_the_share_of_the_signal_is_that_of_the_schedule(num_steps, share):
    assert signal_shares()[num_steps - 1] == pytest.approx(share, abs=5e-6)


def test_the_first_step_is_its_own_beta_and_shares_fall():
    beta = (0.005 - 0.00001) / (1 + np.exp(6 - 0.012)) + 0.00001
    assert signal_shares()[0] == pytest.approx(1 - beta, abs=1e-12)
    assert signal_shares().shape == (1000,) and (np.diff(signal_shares()) < 0).all()


@pytest.mark.parametrize("num_steps", [1, 100, 500, 1000])
def test_noise_has_the_mean_and_variance_of_the_diffusion(num_steps):
    """x_N = √ᾱ_N·x_0 + √(1 - ᾱ_N)·ε, before it is clamped."""
    pixels = np.tile(np.float32([-1.0, 0.0, 0.5]), (200, 300, 1))
    noisy = add_noise(pixels, num_steps, np.random.default_rng(0))
    share = signal_shares()[num_steps - 1]
    assert noisy.shape == pixels.shape and noisy.dtype == np.float32
    error = 5 / np.sqrt(60_000)  # five standard errors
    deviation = np.sqrt(1 - share)
    assert np.abs(noisy.mean((0, 1)) - np.sqrt(share) * pixels[0, 0]).max() < error * deviation
    assert np.abs(noisy.std((0, 1)) / deviation - 1).max() < error
    noise = (noisy - np.sqrt(share) * pixels) / deviation
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < error  # a channel has noise of its own
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < error  # and so has a pixel


def test_grey_stays_grey_in_the_mean_and_is_clamped_at_the_ends():
    noisy = np.asarray(noisy_image(GREY, 500, (0,)), dtype=float)
    deviation = np.sqrt(1 - signal_shares()[499]) * 127.5  # 64.3 of 255: the range ends two deviations away
    assert abs(noisy.mean() - 127.5) < 2
    assert 0.9 * deviation < noisy.std() < deviation
    assert noisy.min() == 0 and noisy.max() == 255
    assert 0.01 < (noisy == 255).mean() < 0.04


def test_white_fades_to_grey_and_wraps_nowhere():
    means = [
        np.asarray(noisy_image(PIL.Image.new("RGB", (60, 40), "white"), steps, (0,))).mean() for steps in (1, 500)
    ]
    assert 254 < means[0] <= 255 and 128 < means[1] < 245


def test_noise_depends_on_its_seed_alone():
    image = tiny_image(3)
    again, other = noisy_image(image, 500, (0, "a", 1)), noisy_image(image, 500, (0, "a", 2))
    assert noisy_image(image, 500, (0, "a", 1)).tobytes() == again.tobytes() != other.tobytes()
    assert image.tobytes() == tiny_image(3).tobytes(), "the image itself is left alone"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_images_of_any_mode_become_rgb_of_the_same_size(mode):
    image = PIL.Image.new("I;16", (30, 20)) if mode == "I;16" else tiny_image(0, (30, 20)).convert(mode)
    noisy = noisy_image(image, 500, (0,))
    assert (noisy.mode, noisy.size) == ("RGB", (30, 20))


def test_few_steps_hardly_change_an_image_and_all_hide_it():
    pixels = np.asarray(tiny_image(0, (200, 200)), dtype=float).ravel()

    def likeness(num_steps):
        return np.corrcoef(pixels, np.asarray(noisy_image(tiny_image(0, (200, 200)), num_steps, (0,))).ravel())[0, 1]

    assert likeness(1) > 0.999 and 0.6 < likeness(500) < 0.9 and likeness(1000) < 0.3
