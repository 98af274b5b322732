from hypothesis import given
from hypothesis import strategies as st

from trl_mm.eval.textvqa_scores import normalized_answer
from trl_mm.reward.answer_forms import answer_text, normalized


@given(st.text(max_size=30))
def test_what_is_normalized_stays(text):
    once = normalized(text)
    assert once == once.strip() and "  " not in once and normalized(f" {text} ") == once
    assert bool(once) == bool(text.strip())


@given(st.lists(st.sampled_from(["The", "dog", "Two", "cats", "a", "12", "3.5", "red"]), min_size=1))
def test_plain_words_are_compared_as_textvqa_does(words):
    texts = [normalized_answer(" ".join(words)).replace("two", "2"), normalized(" ".join(words)).replace("two", "2")]
    if texts[0]:  # else articles alone, which stay
        assert texts[0] == texts[1]


@given(st.text(max_size=20))
def test_an_answer_is_the_last_message_or_text(text):
    parts = [{"type": "text", "text": text}]
    for completion in (text, *([{"role": "assistant", "content": content}] for content in (text, parts))):
        assert answer_text(completion) == text
    assert answer_text([{"role": "assistant", "content": "first"}, {"role": "assistant", "content": text}]) == text
    assert answer_text([]) == answer_text([{"role": "assistant", "content": None}]) == ""
