import pytest

from trl_mm import BDHSConfig


@pytest.mark.parametrize(
    "setting, value",
    [
        ("mask_threshold", 1.2),
        ("swap_probability", -0.1),
        ("top_p", 2),
        ("max_attempts", 0),
        ("temperature", -1),
        ("positions", "moved"),
        ("batch_size", 0),
    ],
)
def test_values_out_of_range_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"`{setting}` must .* got '?{value}"):
        BDHSConfig(**{setting: value})
