import json

import pytest
from support.tiny import tiny_image, tiny_model, tiny_processor

from trl_mm.data.images import open_image
from trl_mm.data.shards import read_manifest
from trl_mm.eval.answers import answer_questions, read_answers, shard_size_of
from trl_mm.generation import Completer, Request, SamplingSettings


PROCESSOR = tiny_processor()
MODEL = tiny_model(scale=8)


@pytest.fixture
def questions(tmp_path):
    """Nine questions, so with a batch of one three shards, the last of a single one."""
    made = []
    for index in range(9):
        path = tmp_path / f"{index}.png"
        tiny_image(index, (30 + 10 * (index % 4), 40)).save(path)
        made.append({"image": str(path), "question": "Is it late?" if index % 2 else "Describe the image."})
    return made


def ask(questions, folder, model=MODEL, **options):
    options = {"max_new_tokens": 5, "batch_size": 1, **options}
    answer_questions(model, PROCESSOR, questions, folder, {"model": "tiny"}, **options)


def by_completer(questions):
    completer = Completer(PROCESSOR, SamplingSettings(5, temperature=0.0))
    rows = [
        {"images": [open_image(q["image"])], "prompt": [{"role": "user", "content": q["question"]}]} for q in questions
    ]
    return [text.strip() for text in completer.complete(MODEL, [Request(p) for p in completer.prompts(rows)])]


class Silent:
    """A model that must not be asked."""


def test_answers_are_greedy_ones_in_the_order_of_the_questions(questions, tmp_path):
    ask(questions, tmp_path / "answers")
    answers = read_answers(tmp_path / "answers")
    assert answers == by_completer(questions)
    assert len(set(answers)) > 1
    manifest = read_manifest(tmp_path / "answers")
    assert manifest["settings"]["model"] == "tiny" and manifest["settings"]["max_new_tokens"] == 5
    assert manifest["complete"] and manifest["num_rows"] == 9


def test_finished_answers_are_not_asked_for_again(questions, tmp_path):
    ask(questions, tmp_path / "answers")
    ask(questions, tmp_path / "answers", Silent())
    assert read_answers(tmp_path / "answers") == by_completer(questions)


def test_a_killed_run_asks_only_what_is_missing(questions, tmp_path, monkeypatch):
    complete, asked = Completer.complete, []

    def dying(self, model, requests):
        if len(asked) == 1:
            raise KeyboardInterrupt
        asked.append(len(requests))
        return complete(self, model, requests)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Completer, "complete", dying)
        ask(questions, tmp_path / "answers")

    def counting(self, model, requests):
        asked.append(len(requests))
        return complete(self, model, requests)

    monkeypatch.setattr(Completer, "complete", counting)
    ask(questions, tmp_path / "answers")
    assert asked == [4, 4, 1]
    monkeypatch.undo()
    assert read_answers(tmp_path / "answers") == by_completer(questions)


def test_two_processes_give_the_same_answers(questions, tmp_path):
    for rank in (1, 0):
        ask(questions, tmp_path / "answers", rank=rank, world_size=2)
    assert read_answers(tmp_path / "answers") == by_completer(questions)


def test_other_questions_or_settings_are_refused(questions, tmp_path):
    ask(questions, tmp_path / "answers")
    changed = json.loads(json.dumps(questions))
    changed[3]["question"] = "Is it red?"
    for other, options in ((changed, {}), (questions[:5], {}), (questions, {"max_new_tokens": 6})):
        with pytest.raises(ValueError, match="made with other settings"):
            ask(other, tmp_path / "answers", Silent(), **options)


def test_questions_to_one_image_are_asked_together_and_answered_in_their_order(questions, tmp_path, monkeypatch):
    """As POPE has them: all images, and then all of them again."""
    asked = [{**q, "question": text, "row_id": "?"} for text in ("Is it late?", "Is it a dog?") for q in questions[:4]]
    complete, sizes = Completer.complete, []

    def counting(self, model, requests):
        sizes.append([len({id(request.prompt.row["images"][0]) for request in requests}), len(requests)])
        return complete(self, model, requests)

    monkeypatch.setattr(Completer, "complete", counting)
    ask(asked, tmp_path / "answers")
    assert sizes == [[2, 4], [2, 4]]
    monkeypatch.undo()
    assert read_answers(tmp_path / "answers") == by_completer(asked)


def test_a_question_without_an_image_is_text(questions, tmp_path):
    ask([*questions[:2], {"image": None, "question": "Is it late?"}], tmp_path / "answers")
    completer = Completer(PROCESSOR, SamplingSettings(5, temperature=0.0))
    prompts = completer.prompts([{"images": [], "prompt": [{"role": "user", "content": "Is it late?"}]}])
    assert read_answers(tmp_path / "answers")[2] == completer.complete(MODEL, [Request(prompts[0])])[0].strip()


@pytest.mark.parametrize(("each", "batch_size", "size"), [(18, 32, 126), (1, 32, 128), (6, 1, 6), (200, 32, 200)])
def test_shards_tear_no_image_apart(each, batch_size, size):
    questions = [{"image": str(index % 7)} for index in range(7 * each)]
    assert shard_size_of(questions, batch_size) == size
    assert shard_size_of(questions[:-1], batch_size) == 4 * batch_size or each == 1


def test_the_bar_of_the_first_process_counts_answers(questions, tmp_path, capsys):
    ask(questions, tmp_path / "answers", name="pope")
    shown = capsys.readouterr().err
    assert "pope: 100%" in shown and "9/9" in shown
    ask(questions, tmp_path / "other", rank=1, world_size=2, name="pope")
    assert "pope" not in capsys.readouterr().err
