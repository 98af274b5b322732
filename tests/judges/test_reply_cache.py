import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.tiny import tiny_image

from trl_mm.judges.reply_cache import ReplyCache, reply_key


KEY = reply_key({"model": "judge", "text": "Which is better?"}, [])


@given(st.text())
def test_a_reply_comes_back_in_the_next_run(tmp_path_factory, reply):
    folder = tmp_path_factory.getbasetemp() / "replies"
    ReplyCache(folder).put(KEY, reply)
    assert ReplyCache(folder).get(KEY) == reply


def test_what_was_not_asked_has_no_reply(tmp_path):
    cache = ReplyCache(tmp_path / "replies")
    assert cache.get(KEY) is None and not cache.folder.exists()
    cache.put(KEY, "")
    assert cache.get(KEY) == "" and cache.get(reply_key({}, [])) is None


@pytest.mark.parametrize(
    "damage",
    [b"", b'{"reply": "Respon', b"[]", b"{}", b"3", b'{"reply": 3}', b"\xff", b"[" * 100_000 + b"]" * 100_000],
)
def test_a_damaged_file_counts_for_none(tmp_path, damage):
    cache = ReplyCache(tmp_path)
    cache.put(KEY, "Response 1")
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    file.write_bytes(damage)
    assert cache.get(KEY) is None
    cache.put(KEY, "Response 2")
    assert cache.get(KEY) == "Response 2"


def test_a_reply_that_cannot_be_kept_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        ReplyCache(tmp_path).put(KEY, "Response 1")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_key_depends_on_all_that_is_asked_and_on_nothing_else():
    request, image = {"model": "judge", "text": "Which?", "temperature": 0}, tiny_image(size=(4, 6))
    key = reply_key(request, [image])
    assert reply_key(dict(reversed(request.items())), [image.copy()]) == key
    turned = Image.frombytes("RGB", (6, 4), image.tobytes())
    cmyk = [Image.frombytes(mode, size, bytes(24)) for mode, size in (("RGB", (4, 2)), ("CMYK", (3, 2)))]
    keys = [
        key,
        *(reply_key({**request, name: "other"}, [image]) for name in request),
        *(reply_key(request, images) for images in ([], [image, image], [tiny_image(1, (4, 6))], [turned])),
        *(reply_key(request, [made]) for made in cmyk),
    ]
    assert len(set(keys)) == len(keys)
