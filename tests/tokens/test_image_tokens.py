from copy import copy, deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import FAMILIES, family
from support.tiny import tiny_image, tiny_model, tiny_processor, tiny_row

from trl_mm.data.loading import prepare_preferences
from trl_mm.generation import Completer
from trl_mm.tokens.image_tokens import ImageTokenCounter, check_processor
from trl_mm.tokens.lengths import count_tokens


def changed(**settings):
    processor = copy(tiny_processor())
    for name, value in settings.items():
        setattr(processor, name, value)
    return processor


def test_the_processor_of_the_model_is_taken():
    check_processor(tiny_processor(), tiny_model().config)


def test_a_processor_without_patch_size_is_refused():
    with pytest.raises(ValueError, match="has no `patch_size`.*processor_config.json"):
        check_processor(changed(patch_size=None))


@pytest.mark.parametrize(
    ("name", "value"),
    [("patch_size", 7), ("vision_feature_select_strategy", "full"), ("num_additional_image_tokens", 0)],
)
def test_a_processor_that_counts_otherwise_than_the_model_is_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` of the processor is {value}, but the model makes"):
        check_processor(changed(**{name: value}), tiny_model().config)


def test_other_tiles_than_those_of_the_model_are_refused():
    config = deepcopy(tiny_model().config)
    config.image_grid_pinpoints = [[28, 28]]
    with pytest.raises(ValueError, match="`image_grid_pinpoints` of the processor"):
        check_processor(tiny_processor(), config)


class Choosy:
    """The processor, which takes no long images, as those of Qwen do."""

    def __init__(self):
        self.processor = tiny_processor()

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, *args, **kwargs):
        return self.processor(*args, **kwargs)

    def _get_num_multimodal_tokens(self, image_sizes):
        if any(max(size) > 200 * min(size) for size in image_sizes):
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return self.processor._get_num_multimodal_tokens(image_sizes=image_sizes)


def test_an_image_that_the_processor_does_not_take_is_named_with_its_row():
    rows = [tiny_row(index, rejected=[{"role": "assistant", "content": "No."}]) for index in range(2)]
    rows[1]["images"] = [tiny_image(size=(402, 2))]
    message = r"Row 1: images of 402 x 2 pixels cannot be processed.*aspect ratio.*Crop, pad or resize"
    with pytest.raises(ValueError, match=message):
        count_tokens(prepare_preferences(rows), Choosy())
    with pytest.raises(ValueError, match=message):
        Completer(Choosy()).prompts(rows)


def tokens_of(processor, sizes):
    """What the processor makes of images of these sizes `(height, width)`, with all that stands around them."""
    images = [tiny_image(number, (width, height)) for number, (height, width) in enumerate(sizes)]
    text = processor.image_token * len(sizes)
    return len(processor(text=[text], images=[images], add_special_tokens=False)["input_ids"][0])


@pytest.mark.parametrize("name", FAMILIES)
@given(st.lists(st.lists(st.tuples(st.integers(20, 120), st.integers(20, 120)), min_size=1, max_size=3), max_size=3))
@settings(max_examples=5)
def test_images_take_the_tokens_that_the_processor_makes_of_them(name, rows):
    processor = family(name)[1]
    count = ImageTokenCounter(processor)
    assert count(()) == 0
    for sizes in rows:
        assert count(tuple(sizes)) == tokens_of(processor, sizes)


class Counted:
    """A processor that counts its calls, and `more` tokens than there are."""

    def __init__(self, more):
        self.processor, self.more, self.calls = tiny_processor(), more, 0

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.processor(*args, **kwargs)

    def _get_num_multimodal_tokens(self, image_sizes):
        counts = self.processor._get_num_multimodal_tokens(image_sizes=image_sizes)["num_image_tokens"]
        return {"num_image_tokens": [count + self.more for count in counts]}


@pytest.mark.parametrize(("more", "calls"), [(0, 2), (1, 5)])
def test_a_processor_is_believed_once_it_is_right_and_else_given_blank_images(more, calls):
    processor = Counted(more)
    count = ImageTokenCounter(processor)
    for _ in range(2):  # what was counted is kept
        for sizes in [((30, 40),), ((60, 30),), ((30, 40), (60, 30))]:
            assert count(sizes) == tokens_of(processor.processor, sizes)
    assert processor.calls == calls  # one for rows of one image, one for those of two, and one for each size
