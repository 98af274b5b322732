from pathlib import Path

import pytest

from trl_mm.eval.answer_ids import check_ids, entry_answer, need_file


def test_ids_that_do_not_match_are_counted_and_the_first_is_named():
    check_ids(Path("a.json"), ["1", "2", "2"], ["2", "1"], "data.json", "file")
    said = r"a.json does not belong to `file` \(data.json\): 2 answers .* has not, the first 3, and 1 questions .* 2\."
    with pytest.raises(ValueError, match=said):
        check_ids(Path("a.json"), ["1", "3", "4"], ["1", "2"], "data.json", "file")
    with pytest.raises(ValueError, match=r": 1 questions have no answer, the first i1 what\?\."):
        check_ids(Path("a.json"), [], [("i1", "what?")], "data.json", "file")


def test_an_answer_is_a_text_under_one_of_its_names():
    assert entry_answer(Path("a.json"), 1, {"text": ""}, ("answer", "text")) == ""
    with pytest.raises(ValueError, match="a.json, entry 2: needs a text under `answer` or `text`, got None"):
        entry_answer(Path("a.json"), 2, {"x": 1}, ("answer", "text"))


def test_the_published_file_is_asked_for():
    assert need_file("x.json", "file", "labels", Path("a.json")) == "x.json"
    with pytest.raises(ValueError, match="a.json has answers without labels: name the published file in `file`"):
        need_file(None, "file", "labels", Path("a.json"))
