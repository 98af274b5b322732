"""Diffusion noise on an image, the other way of BDHS to keep a model from seeing (arXiv 2407.02477).

What is unusual in it is the way back to 8 bits. The paper takes the noise of POVID's implementation, where x_0 is the
picture with values in [0, 1], as large as it is, and what leaves that range is not clamped: it wraps around, white
being followed by black. After 500 steps the noise has a standard deviation of half that range, and a Gaussian that is
wrapped so is uniform to within 2 %: no pixel tells any more what it was. Clamped, the same noise leaves a correlation
of about 0.35 with a smooth picture, and a model still sees it.
"""

from functools import cache

import numpy as np
import PIL.Image

from ..data.seeds import derived_seed


MAX_STEPS = 1000


@cache
def signal_shares():
    """
    ᾱ_1 ... ᾱ_1000: which share of the variance is still the image's after so many steps.

    Returns:
        `numpy.ndarray` of shape `(1000,)`: ᾱ_N = Π_{k≤N}(1 - β_k) at index N - 1.
    """
    steps = np.arange(1, MAX_STEPS + 1)
    betas = (0.005 - 0.00001) / (1 + np.exp(6 - 12 * steps / MAX_STEPS)) + 0.00001
    return np.cumprod(1 - betas)


def add_noise(pixels, num_steps, rng):
    """
    x_N = √ᾱ_N·x_0 + √(1 - ᾱ_N)·ε, neither clamped nor wrapped.

    Args:
        pixels (`numpy.ndarray`): x_0, of any shape, with values in [0, 1].
        num_steps (`int`): N, 1 to 1,000.
        rng (`numpy.random.Generator`): source of ε ~ N(0, 1).

    Returns:
        `numpy.ndarray` of the shape of `pixels`, in float32.
    """
    share = signal_shares()[num_steps - 1]
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return (np.sqrt(share) * pixels + np.sqrt(1 - share) * noise).astype(np.float32)


def noisy_image(image, num_steps, seed, noise_range="povid"):
    """
    Image after some steps of diffusion noise, as large as it was, in 8 bits.

    Args:
        image (`PIL.Image.Image`): image of any mode.
        num_steps (`int`): N, 1 to 1,000.
        seed (`tuple`): what the noise derives from.
        noise_range (`str`, *optional*, defaults to `"povid"`): what becomes of values outside of [0, 1]: `"povid"`
            wraps them around, as POVID's implementation does; `"clamped"` takes the nearest end.

    Returns:
        `PIL.Image.Image`: RGB image of the same size.
    """
    # PIL warns if a palette with transparent colours becomes RGB in one step
    image = (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
    pixels = np.asarray(image, dtype=np.float32) / 255  # (height, width, 3)
    noisy = add_noise(pixels, num_steps, np.random.Generator(np.random.Philox(derived_seed("noise", *seed))))
    return PIL.Image.fromarray(TO_8_BITS[noise_range](noisy))


def noisy_images(images, config, seed):
    """Images (`list[PIL.Image.Image]`) of a row after the noise of a [`BDHSConfig`], each one of its own."""
    return [
        noisy_image(image, config.noise_steps, (*seed, number), config.noise_range)
        for number, image in enumerate(images)
    ]


def _wrapped(values):
    # Towards zero and then modulo 256, as torchvision's `ToPILImage` turns numbers into bytes
    return (values * 255).astype(np.int16).astype(np.uint8)


def _clamped(values):
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


TO_8_BITS = {"povid": _wrapped, "clamped": _clamped}
