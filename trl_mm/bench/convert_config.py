"""What `trl-mm bench convert` measures."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class ConvertBenchmark:
    """
    Settings of a measurement of conversions.

    Args:
        rows (`int`, *optional*, defaults to `10000`): rows of texts with a small image that is not decoded.
        image_rows (`int`, *optional*, defaults to `512`): rows with an image that is decoded, for the comparison with
            `datasets.map`.
        image_size (`str`, *optional*, defaults to `"640x480"`): width and height of those images in pixels.
        memory_rows (`int`, *optional*, defaults to `200000`): rows of a source whose peak memory is compared with that
            of `rows`; `0` to leave it out.
        rounds (`int`, *optional*, defaults to `3`): timed rounds.
    """

    rows: int = 10_000
    image_rows: int = 512
    image_size: str = "640x480"
    memory_rows: int = 200_000
    rounds: int = 3

    def __post_init__(self):
        for name, least in {"rows": 1, "image_rows": 1, "rounds": 1, "memory_rows": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")
        width, _, height = self.image_size.partition("x")
        if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
            raise ValueError(f"`image_size` must be like 640x480, got {self.image_size!r}.")
