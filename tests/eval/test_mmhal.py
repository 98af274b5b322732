import json

import pytest
from PIL import Image
from support.published import published

from trl_mm.eval.mmhal import MMHalBenchmark, MMHalVBenchmark
from trl_mm.eval.mmhal_scores import types_by_order
from trl_mm.eval.mmhal_wording import EXAMPLES, grading_question


ROWS = [
    {
        "question_type": "attribute",
        "image_src": f"https://example.org/8/{number}_o.jpg",
        "image_content": ["Dog", "Ball"],
        "question": "Which colour is the ball?",
        "gt_answer": "It is blue.",
        "model_answer": "",
    }
    for number in range(10)
]


def benchmark(tmp_path, rows=ROWS, kind=MMHalBenchmark):
    path = tmp_path / "response_template.json"
    path.write_text(json.dumps(rows))
    return kind(**{f"{kind.name}_file": str(path)})


@pytest.mark.parametrize("kind", [MMHalBenchmark, MMHalVBenchmark])
def test_the_judge_of_v_sees_the_images(tmp_path, kind):
    measure = benchmark(tmp_path, kind=kind)
    rows = measure.questions(None, seed=0)
    assert rows[3]["image"] == "3_o.jpg"
    for number, row in enumerate(rows):
        Image.new("RGB", (4 + number, 4)).save(tmp_path / row["image"])
    rows = [{**row, "image": str(tmp_path / row["image"])} for row in rows]
    asked = []

    def ask(questions, **options):
        asked.extend((text, [image.width for image in images]) for text, images in questions)
        return [f"Rating: {len(asked) % 7}"] * len(questions)

    columns = measure.judge(rows, ["Red."] * 10, ask)
    assert len(columns) == len(asked) == 10
    assert [images for _, images in asked] == ([[4 + n] for n in range(10)] if kind.with_image else [[]] * 10)
    text = asked[0][0]
    sections = ["Contents\nDog, Ball", "Question\nWhich", "Answer\nIt is blue.", "Evaluate\nRed."]
    places = [text.rindex(part) for part in sections]
    assert places == sorted(places)
    assert ("believe the image" in text) == kind.with_image
    result = measure.score([{**row, **column} for row, column in zip(rows, columns, strict=True)], [""] * 10, seed=0)
    assert set(measure.metric_parts(result)) == set(kind.metrics)
    assert kind.title in measure.lines(result)[0]
    assert measure.row_scores(result) == result["ratings"]


def test_the_text_has_five_examples_and_seven_grades():
    text = grading_question(["Dog"], "What {is} it?", "A dog.", "{}")
    assert len(EXAMPLES) == 5
    assert text.count("### Example") == 5
    assert [text.index(f"- Rating: {grade}, ") for grade in range(7)] == sorted(
        (text.index(f"- Rating: {grade}, ") for grade in range(7)), reverse=True
    )
    assert text.endswith(
        "### Question\nWhat {is} it?\n\n### Standard Human-Generated Answer\nA dog.\n\n"
        "### LMM Response to Evaluate\n{}\n"
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "is empty"),
        ([{"question": "What?"}], "entry 1: needs `image_src`, `image_content`, `question`, `gt_answer`"),
        ([{**ROWS[0], "image_content": "Dog"}], "entry 1: `image_content` must be a list of names"),
        ([{**ROWS[0], "image_src": "https://example.org/"}], "`image_src` must end with the name of a file"),
    ],
)
def test_bad_data_are_refused(tmp_path, rows, said):
    with pytest.raises(ValueError, match=said):
        benchmark(tmp_path, rows).questions(None, seed=0)


def test_missing_data_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match="`mmhal_v_file` is missing. `mmhal_v_file` is response_template.json"):
        MMHalVBenchmark().questions(None, seed=0)
    with pytest.raises(FileNotFoundError, match="`mmhal_file` .* is no file. `mmhal_file` is"):
        MMHalBenchmark(mmhal_file=str(tmp_path / "none.json")).questions(None, seed=0)


def test_published_data_are_read():
    rows = MMHalBenchmark(mmhal_file=str(published("mmhal_bench/response_template.json"))).questions(None, seed=0)
    assert len({row["image"] for row in rows}) == 96
    assert [row["truth"]["type"] for row in rows] == types_by_order(96)
    assert rows[0]["image"] == "7206072054_c53d53b97d_o.jpg"
