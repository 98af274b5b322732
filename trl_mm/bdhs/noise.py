"""Diffusion noise on an image, the other way of BDHS to keep a model from seeing (arXiv 2407.02477).

x_0 are the pixels of the image scaled to [-1, 1]: noise is to be clamped to the range of pixels before the processor
sees it, so it is added to pixels and not to what the processor makes of them. In [-1, 1], where diffusion models have
them, mid-grey is zero, so that an image fades into grey noise; in [0, 1] it would fade into black. The processors of
CLIP models scale pixels by about twice as much; noise in their space would be about half as strong.
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
    x_N = √ᾱ_N·x_0 + √(1 - ᾱ_N)·ε, not clamped.

    Args:
        pixels (`numpy.ndarray`): x_0, of any shape, with values in [-1, 1].
        num_steps (`int`): N, 1 to 1,000.
        rng (`numpy.random.Generator`): source of ε ~ N(0, 1).

    Returns:
        `numpy.ndarray` of the shape of `pixels`, in float32.
    """
    share = signal_shares()[num_steps - 1]
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return (np.sqrt(share) * pixels + np.sqrt(1 - share) * noise).astype(np.float32)


def noisy_image(image, num_steps, seed):
    """
    Image after some steps of diffusion noise, clamped to the range of pixels and rounded to 8 bits.

    Args:
        image (`PIL.Image.Image`): image of any mode.
        num_steps (`int`): N, 1 to 1,000.
        seed (`tuple`): what the noise derives from.

    Returns:
        `PIL.Image.Image`: RGB image of the same size.
    """
    # PIL warns if a palette with transparent colours becomes RGB in one step
    image = (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
    pixels = np.asarray(image, dtype=np.float32) / 127.5 - 1  # (height, width, 3)
    noisy = add_noise(pixels, num_steps, np.random.Generator(np.random.Philox(derived_seed("noise", *seed))))
    return PIL.Image.fromarray(np.rint((noisy.clip(-1, 1) + 1) * 127.5).astype(np.uint8))
