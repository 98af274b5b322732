import json

import pytest

from trl_mm.eval.mmvet import MMVetBenchmark
from trl_mm.eval.mmvet_wording import AGAIN, EXAMPLES, table_question


DATA = {
    f"v1_{number}": {
        "imagename": f"v1_{number}.png",
        "question": f"Question {number}?",
        "answer": "one<AND>two",
        "capability": capability,
    }
    for number, capability in enumerate((["ocr", "math"], ["rec"], ["ocr"]))
}


def benchmark(tmp_path, data=DATA, **settings):
    path = tmp_path / "mm-vet.json"
    path.write_text(json.dumps(data))
    return MMVetBenchmark(mmvet_file=str(path), **settings)


def judged(measure, reply):
    """Result of three answers, and what the judge was asked: number of the question, appended request, options."""
    asked = []

    def ask(questions, **options):
        replies = []
        for text, images in questions:
            assert images == []
            number = int(text.rpartition("Question ")[2][0])
            asked.append((number, text.endswith(AGAIN), options))
            replies.append(reply(number, asked))
        return replies

    rows = measure.questions(None, seed=0)
    columns = measure.judge(rows, ["One."] * 3, ask)
    return measure.score(
        [{**row, **column} for row, column in zip(rows, columns, strict=True)], [""] * 3, seed=0
    ), asked


def test_runs_are_asked_apart_and_averaged(tmp_path):
    result, asked = judged(benchmark(tmp_path), lambda number, asked: ["0.0", "0.5", "1.0"][number])
    assert [options for _, _, options in asked[::3]] == [{}, *({"seed": run} for run in range(1, 5))]
    assert result["total"] == pytest.approx(50)
    assert result["runs"] == pytest.approx([50] * 5)
    assert result["capabilities"] == {"ocr": 50, "math": 0, "rec": 50}
    assert list(MMVetBenchmark.metric_parts(result)) == ["mmvet", "mmvet_rec", "mmvet_ocr", "mmvet_math"]


def test_what_cannot_be_read_is_asked_for_again_and_then_zero(tmp_path):
    def reply(number, asked):
        tries = sum(one == number for one, _, _ in asked)
        return {0: "0.4", 1: "Correct", 2: "0.9" if tries == 3 else "Score"}[number]

    result, asked = judged(benchmark(tmp_path, mmvet_runs=1), reply)
    assert [options for number, _, options in asked if number == 1] == [
        {},
        *({"temperature": warmth} for warmth in (0.0, 0.5, 1.0, 1.5)),
    ]
    assert [again for number, again, _ in asked if number == 2] == [False, True, True]
    assert [number for number, _, _ in asked].count(0) == 1
    assert result["means"] == [0.4, 0.0, 0.9]
    assert "1 replies of the judge have no score to read. As published, they are graded 0." in "\n".join(
        MMVetBenchmark.lines(result)
    )


def test_what_is_refused_is_not_judged(tmp_path):
    result, asked = judged(benchmark(tmp_path, mmvet_runs=2), lambda number, asked: None if number == 1 else "1.0")
    assert result["means"] == MMVetBenchmark.row_scores(result) == [1.0, None, 1.0]
    assert result["total"] == 100
    assert len(asked) == 6
    assert "1 of 3 answers were not judged" in "\n".join(MMVetBenchmark.lines(result))


def test_the_table_has_seven_examples_and_lacks_its_last_cell():
    text = table_question("Who?", "Ann<AND>Bob<OR>Cy", "Ann")
    assert len(EXAMPLES) == 7
    assert text.endswith("\nWho? | Ann <AND> Bob <OR> Cy | Ann | ")
    assert all(line.count(" | ") == 3 for line in text.splitlines() if " | " in line)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "must be a JSON object"),
        ({"v1_0": {"question": "What?"}}, "v1_0: `imagename` must be a text. `mmvet_file` is mm-vet.json"),
        (
            {"v1_0": {**DATA["v1_0"], "capability": []}},
            'v1_0: `capability` must be a list such as \\["ocr", "math"\\]',
        ),
    ],
)
def test_bad_data_are_refused(tmp_path, data, said):
    with pytest.raises(ValueError, match=said):
        benchmark(tmp_path, data).questions(None, seed=0)


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`mmvet_file` is missing. `mmvet_file` is mm-vet.json"):
        MMVetBenchmark().questions(None, seed=0)
    with pytest.raises(FileNotFoundError, match="is no file"):
        MMVetBenchmark(mmvet_file=str(tmp_path / "none")).questions(None, seed=0)
    with pytest.raises(ValueError, match="`mmvet_runs` must be at least 1 and whole, got 0"):
        MMVetBenchmark(mmvet_runs=0)
