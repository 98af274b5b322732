import pytest
import yaml

from trl_mm.scripts.recipes import read_recipe
from trl_mm.scripts.yaml_files import LARGEST, read_yaml


LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (LAUGHS, "with its aliases it has more than 10,000 values"),
        ("a: &a [*a]\n", "an alias stands for what it is a part of"),
        ("a: " + "[" * 50_000, "nested deeper than 20 levels"),
        ("".join(" " * n + "a:\n" for n in range(200)), "nested deeper than 20 levels"),
        ("a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000)), "20 levels"),
        ("a: " + "x" * LARGEST, "has more than 200,000 bytes"),
        ("a: 2024-13-45\n", "not valid YAML: month must be in 1..12"),
        ("a: " + "9" * 5000, "not valid YAML: Exceeds the limit"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_what_no_settings_need_is_refused(tmp_path, text, error):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match=error) as raised:
        read_yaml(tmp_path / "recipe.yaml")
    assert len(str(raised.value)) < 1000


def test_aliases_are_read_as_yaml_says(tmp_path):
    text = "one: &one {a: 1, b: [1, 2]}\ntwo: {<<: *one, a: 2}\nthree: *one\n"
    (tmp_path / "recipe.yaml").write_text(text)
    assert read_yaml(tmp_path / "recipe.yaml") == yaml.safe_load(text)
    (tmp_path / "recipe.yaml").write_text("")
    assert read_yaml(tmp_path / "recipe.yaml") is None


@pytest.mark.parametrize(
    ("env", "error"),
    [
        ("{A: [1, 2]}", "`env` must give A a text or a number"),
        ('{A: "a\\0b"}', "`env` must give A a text or a number"),
        ('{"A=B": 1}', "'A=B', which is no name"),
        ("{1: 1}", "1, which is no name"),
        ("[A]", "`env` must hold `NAME: value` lines"),
    ],
)
def test_what_is_no_environment_variable_is_refused(tmp_path, env, error):
    (tmp_path / "recipe.yaml").write_text(f"env: {env}\n")
    parser = type("Parser", (), {"dataclass_types": []})
    with pytest.raises(ValueError, match=error):
        read_recipe(str(tmp_path / "recipe.yaml"), parser)
