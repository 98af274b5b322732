import itertools
import math

import numpy as np
import PIL.Image
import pytest
from support.tiny import tiny_image

from trl_mm.bdhs.noise import add_noise, noisy_image, signal_shares
from trl_mm.data.seeds import derived_seed


def smooth_picture(seed, size=(320, 240)):
    """Colours that change slowly over the picture, as those of photographs do."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize(size, PIL.Image.Resampling.BICUBIC)


def correlation(image, noise_range, num_steps=500):
    noisy = noisy_image(image, num_steps, (0,), noise_range)
    return np.corrcoef(np.asarray(image).ravel(), np.asarray(noisy).ravel())[0, 1]


@pytest.mark.parametrize(("num_steps", "share"), [(100, 0.99661), (200, 0.98783), (500, 0.74554)])
def test_the_share_of_the_signal_is_that_of_the_schedule(num_steps, share):
    assert signal_shares()[num_steps - 1] == pytest.approx(share, abs=5e-6)


def test_the_first_step_is_its_own_beta_and_shares_fall():
    beta = (0.005 - 0.00001) / (1 + np.exp(6 - 0.012)) + 0.00001
    assert signal_shares()[0] == pytest.approx(1 - beta, abs=1e-12)
    assert signal_shares().shape == (1000,) and (np.diff(signal_shares()) < 0).all()


@pytest.mark.parametrize("num_steps", [1, 100, 500, 1000])
def test_noise_has_the_mean_and_variance_of_the_diffusion(num_steps):
    """x_N = √ᾱ_N·x_0 + √(1 - ᾱ_N)·ε, before it becomes 8 bits."""
    pixels = np.tile(np.float32([0.0, 0.5, 1.0]), (200, 300, 1))
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


@pytest.mark.parametrize("noise_range", ["povid", "clamped"])
@pytest.mark.parametrize("num_steps", [50, 500, 900])
def test_an_image_becomes_what_is_published(num_steps, noise_range):
    """A pixel at a time, from the description: [0, 1], noise, back to 8 bits by wrapping around or by clamping."""
    image, seed = tiny_image(2, (12, 7)), (3, "row", 1)
    rng = np.random.Generator(np.random.Philox(derived_seed("noise", *seed)))
    epsilon = rng.standard_normal((7, 12, 3), dtype=np.float32)
    share = math.prod(1 - (0.00499 / (1 + math.exp(6 - 0.012 * k)) + 0.00001) for k in range(1, num_steps + 1))
    noisy = noisy_image(image, num_steps, seed, noise_range)
    for x, y, channel in itertools.product(range(12), range(7), range(3)):
        x_0 = image.getpixel((x, y))[channel] / 255
        value = 255 * (math.sqrt(share) * x_0 + math.sqrt(1 - share) * float(epsilon[y, x, channel]))
        expected = int(value) % 256 if noise_range == "povid" else round(min(max(value, 0), 255))
        # Rounding in float32 may fall on the other side of a whole number, or of a half
        near = abs(2 * value - round(2 * value)) < 1e-3
        assert (noisy.getpixel((x, y))[channel] - expected) % 256 in ((0, 1, 255) if near else (0,))


@pytest.mark.parametrize("seed", range(3))
def test_nothing_of_a_picture_is_left_after_500_steps_and_much_of_it_if_they_are_clamped(seed):
    image = smooth_picture(seed)
    assert abs(correlation(image, "povid")) < 0.02
    assert 0.25 < correlation(image, "clamped") < 0.45
    assert correlation(image, "povid", 1) > 0.9


def test_all_values_are_equally_frequent_under_the_published_noise():
    """So neither a mean nor a shrunk copy of the image tells what it was."""
    image = PIL.Image.new("RGB", (400, 300), (250, 20, 128))
    counts = np.bincount(np.asarray(noisy_image(image, 500, (0,))).ravel() // 8, minlength=32) / (400 * 300 * 3 / 32)
    assert np.abs(counts[1:-1] - 1).max() < 0.05
    assert counts.min() > 0.8  # what is just below black is cut to black, and not to white


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
