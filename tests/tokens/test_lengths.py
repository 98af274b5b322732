import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import FAMILIES, family
from support.rows import image_dataset as dataset
from support.tiny import BARE_TEMPLATE, bare_processor, tiny_image, tiny_processor, tiny_row

from trl_mm.tokens import lengths
from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.tokens.lengths import TokenCounts, count_tokens


PROCESSOR = tiny_processor()
SIZES = st.tuples(st.integers(5, 130), st.integers(5, 130))
WORDS = st.integers(1, 12)


def row(seed=0, images=(), prompt=1, turns=0, **answers):
    """A row with so many words in its prompt and answers."""
    messages = [{"role": "user", "content": "Describe the image. " * prompt}]
    earlier = [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Is it late?"}]
    made = {
        **tiny_row(seed),
        "images": [tiny_image(seed, size) for size in images],
        "prompt": messages + earlier * turns,
    }
    for name, count in answers.items():
        made[name] = [{"role": "assistant", "content": " ".join(["sofa"] * count)}]
    return made


ROWS = st.builds(
    row,
    seed=st.integers(0, 9),
    images=st.lists(SIZES, max_size=2),
    prompt=WORDS,
    turns=st.integers(0, 2),
    chosen=WORDS,
    rejected=WORDS,
)


def counts_of_the_batch(rows, max_length=None, processor=PROCESSOR):
    """Tokens of each row, and the share of padding, in the batch that is trained on."""
    batch = PreferenceCollator(processor, max_length)(rows)
    answers = batch["completion_mask"].sum(1)
    chosen, rejected = answers.chunk(2)
    prompt = (batch["attention_mask"].sum(1) - answers)[: len(rows)]
    image = (batch["input_ids"] == PROCESSOR.image_token_id).sum(1)[: len(rows)]
    padding = 1 - batch["attention_mask"].float().mean().item()
    return TokenCounts(*(values.numpy() for values in (prompt, chosen, rejected, image))), padding


def columns(counts):
    return [getattr(counts, name).tolist() for name in ("prompt", "chosen", "rejected", "image")]


@settings(max_examples=25)
@given(st.lists(ROWS, min_size=1, max_size=4), st.integers(0, 40))
def test_counts_and_padding_are_those_of_the_batch(rows, room):
    rows.append(row(images=[(40, 30)], chosen=3, rejected=1))  # a list of images that is always empty has no type
    counts = count_tokens(dataset(rows), PROCESSOR)
    expected, padding = counts_of_the_batch(rows)
    assert columns(counts) == columns(expected)
    assert counts.padding(range(len(rows)), len(rows)) == pytest.approx(padding, abs=1e-6)
    assert counts.longest.tolist() == (expected.prompt + np.maximum(expected.chosen, expected.rejected)).tolist()
    # A limit that the longest prompt may not fit
    limit = int(counts.prompt.max()) + room - 10
    fitting = [made for made, prompt in zip(rows, counts.prompt, strict=True) if prompt < limit]
    if fitting:
        expected, padding = counts_of_the_batch(fitting, limit)
        assert columns(counts.cut(limit)) == columns(expected)
        assert counts.cut(limit).padding(range(len(fitting)), len(fitting)) == pytest.approx(padding, abs=1e-6)


def test_tokens_that_the_chat_template_leaves_out_count():
    rows = [row(images=[(40, 30)], chosen=3, rejected=1), row(1, chosen=1, rejected=5)]
    # Without the space after an answer, which would count as much as the EOS token in its place
    processor = bare_processor(BARE_TEMPLATE.replace(" + ' '", ""))
    counts, _ = counts_of_the_batch(rows, processor=processor)
    assert columns(count_tokens(dataset(rows), processor)) == columns(counts)


def test_answers_that_are_not_there_count_nothing():
    made = row(images=[(40, 30)], chosen=3, rejected=2)
    (prompt, chosen, _, image) = columns(count_tokens(dataset([made]), PROCESSOR))
    del made["rejected"]
    assert columns(count_tokens(dataset([made]), PROCESSOR)) == [prompt, chosen, [0], image]
    del made["chosen"]
    assert columns(count_tokens(dataset([made]), PROCESSOR)) == [prompt, [0], [0], image]


def test_several_batches_and_processes_count_alike(monkeypatch, tmp_path):
    monkeypatch.setattr(lengths, "_BATCH", 2)
    paths = [str(tmp_path / f"{size}.png") for size in (20, 90)]
    for path, size in zip(paths, (20, 90), strict=True):
        tiny_image(size=(size, 40)).save(path)
    rows = [{**row(chosen=1 + index, rejected=2), "images": [paths[index % 2]]} for index in range(5)]
    opened = []
    monkeypatch.setattr(
        lengths, "image_size", lambda image, real=lengths.image_size: opened.append(image) or real(image)
    )
    counts = count_tokens(dataset(rows), PROCESSOR)
    assert columns(counts) == columns(counts_of_the_batch(rows)[0])
    assert len(opened) == 2  # each file once
    assert columns(count_tokens(dataset(rows), PROCESSOR, num_proc=2)) == columns(counts)


def test_a_file_that_has_changed_is_counted_again(tmp_path):
    rows = dataset([{**row(chosen=1, rejected=2), "images": [str(tmp_path / "image.png")]}])
    tiny_image(size=(28, 28)).save(tmp_path / "image.png")
    before = count_tokens(rows, PROCESSOR).image[0]
    tiny_image(size=(90, 90)).save(tmp_path / "image.png")
    assert count_tokens(rows, PROCESSOR).image[0] > before


@pytest.mark.parametrize("name", FAMILIES)
def test_counts_are_those_of_the_batch_in_every_family(name):
    processor = family(name)[1]
    images = [[(40, 30)], [(90, 30), (20, 70)], [], [(30, 60)] * 3]
    rows = [row(index, sizes, prompt=index + 1, chosen=2, rejected=3) for index, sizes in enumerate(images)]
    batch = PreferenceCollator(processor)(rows)
    expected = (batch["attention_mask"].sum(1) - batch["completion_mask"].sum(1))[: len(rows)]
    assert count_tokens(dataset(rows), processor).prompt.tolist() == expected.tolist()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_image_counts_as_it_is_shown(orientation):
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    tiny_image(size=(70, 30)).save(buffer, "JPEG", exif=exif)
    made = {**row(chosen=1, rejected=1), "images": [{"bytes": buffer.getvalue(), "path": None}]}
    counts = count_tokens(dataset([made]), PROCESSOR)
    assert columns(counts) == columns(counts_of_the_batch([made])[0])
    upright = count_tokens(dataset([tiny_row(size=(70, 30)), tiny_row(size=(30, 70))]), PROCESSOR).image
    assert upright[0] != upright[1] and counts.image[0] == upright[int(orientation in (6, 8))]


def test_no_pixel_is_decoded(monkeypatch):
    buffer = io.BytesIO()
    tiny_image().save(buffer, "JPEG")
    stored = dataset([{**row(chosen=1, rejected=1), "images": [{"bytes": buffer.getvalue(), "path": None}]}])
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("pixels were decoded"))
    assert count_tokens(stored, PROCESSOR).image[0] > 0


@pytest.mark.parametrize("name", ["chosen", "rejected"])
def test_an_answer_that_spells_the_image_token_is_refused_before_training(name):
    rows = [
        row(chosen=3, rejected=2),
        {**row(chosen=3, rejected=2), name: tiny_row(answer="An <image> of it.")["chosen"]},
    ]
    with pytest.raises(ValueError, match=f"'An <image> of it.' in `{name}` holds <image>, which .* Remove it"):
        count_tokens(dataset(rows), PROCESSOR)
