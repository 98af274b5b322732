"""The modes of BDHS: what keeps the model from seeing the image, and how it then answers.

A new mode is its functions and an entry of `MODES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from .masking import visible_tokens
from .noise import MAX_STEPS, noisy_images


@dataclass(frozen=True, kw_only=True)
class Mode:
    """
    What one mode does in an attempt (Alg. 1, line 2). Its functions derive from the seed of the attempt, so that all
    that is written in it sees the same of the image.

    Args:
        visible (`Callable`, *optional*): from the number of image tokens, a [`BDHSConfig`] and a seed, those that the
            model sees; `None` for all. Only LLaVA models can hide them. All attempts share the features of the images.
        images (`Callable`, *optional*): from the images of a row, a [`BDHSConfig`] and a seed, those that are shown
            in their place.
        strength (`str`): setting that hides more of the image the higher it is.
        strongest (`float`): its highest value, which hides all.
        teacher_forced (`bool`, *optional*, defaults to `False`): whether each token is predicted after the chosen
            answer's own. That is one forward pass: no sentences, no further attempts, no gate.
    """

    visible: Callable | None = None
    images: Callable | None = None
    strength: str
    strongest: float
    teacher_forced: bool = False


def masked_tokens(num_image_tokens, config, seed):
    """Visible image tokens of mode attention."""
    # A mask that hides nothing is none, so that it works for any model
    return visible_tokens(num_image_tokens, config.mask_threshold, seed) if config.mask_threshold > 0 else None


NOISE = Mode(images=noisy_images, strength="noise_steps", strongest=MAX_STEPS)
MODES = {
    "attention": Mode(visible=masked_tokens, strength="mask_threshold", strongest=1.0),
    "noise": NOISE,
    "povid": replace(NOISE, teacher_forced=True),
}
