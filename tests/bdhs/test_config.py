import pytest

from trl_mm import BDHSConfig


@pytest.mark.parametrize(
    "setting, value",
    [
        ("mode", "blur"),
        ("mask_threshold", 1.2),
        ("mask_threshold", -0.01),
        ("noise_steps", 0),
        ("noise_steps", 1001),
        ("swap_probability", -0.1),
        ("top_p", 2),
        ("max_attempts", 0),
        ("temperature", -1),
        ("positions", "moved"),
        ("batch_size", 0),
        ("max_batch_tokens", 0),
        ("language", "klingon"),
        ("language", "xx"),
        ("language", "en-US"),
        ("language", ""),
    ],
)
def test_values_out_of_range_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"`{setting}` must .* got '?{value}"):
        BDHSConfig(**{setting: value})


def test_povid_without_guidance_is_a_contradiction():
    with pytest.raises(ValueError, match="`guided=False` contradicts `mode='povid'`.*Leave `guided=True`.*'noise'"):
        BDHSConfig(mode="povid", guided=False)
