from hypothesis import given
from hypothesis import strategies as st

from trl_mm.data.held_out import side_of


def row(*contents, prompt="What?"):
    return {"images": [{"bytes": content, "path": None} for content in contents], "prompt": prompt}


def many(count=2000):
    return [row(str(number).encode()) for number in range(count)]


def test_about_the_share_is_held_out_and_larger_shares_contain_smaller_ones():
    sides = {share: [side_of(item, share) for item in many()] for share in (0.05, 0.2)}
    for share, found in sides.items():
        assert abs(found.count("test") / len(found) - share) < 0.02
    assert all(large == "test" for small, large in zip(sides[0.05], sides[0.2], strict=True) if small == "test")


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"]), min_size=1, max_size=3))
def test_a_row_is_on_the_side_of_all_its_images_or_on_none(contents):
    alone = {side_of(row(content), 0.5) for content in contents}
    assert side_of(row(*contents), 0.5) == (alone.pop() if len(alone) == 1 else None)
    assert {side_of(row(content), 0.5) for content in (b"a", b"b", b"c", b"d", b"e", b"f")} == {"train", "test"}


def test_a_file_is_its_content_whatever_its_name(tmp_path):
    for number in range(20):
        content = str(number).encode()
        for name in ("a", "b"):
            (tmp_path / f"{name}{number}.png").write_bytes(content)
            of_file = {"images": [{"bytes": None, "path": str(tmp_path / f"{name}{number}.png")}], "prompt": "?"}
            assert side_of(of_file, 0.5) == side_of(row(content), 0.5)


def test_a_row_without_images_goes_by_its_prompt():
    found = {prompt: side_of(row(prompt=prompt), 0.5) for prompt in map(str, range(20))}
    assert {*found.values()} == {"train", "test"}
    assert side_of(row(prompt="half \ud83d"), 0.5) in ("train", "test")
