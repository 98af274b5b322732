"""Every field of our own is documented in its class, with its real default, in TRL's docstring format."""

import ast
import inspect
import re
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from importlib import import_module
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]


def config_classes() -> list[type]:
    """The dataclasses of trl_mm that a user fills in, found by their names."""
    found = []
    for path in sorted((ROOT / "trl_mm").rglob("*.py")):
        names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
        names = [name for name in names if name.endswith(("Config", "Arguments", "Settings", "Benchmark"))]
        if names:
            module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found += [getattr(module, name) for name in names]
    return [cls for cls in found if is_dataclass(cls)]


def problems(cls: type) -> list[str]:
    """Where the docstring of a config and its fields differ, one line each."""
    documented = dict(re.findall(r"^ {4}(\w+) \((`.*?)\):\s", inspect.getdoc(cls), flags=re.MULTILINE | re.DOTALL))
    known = {item.name: item for item in fields(cls)}
    lines = [f"{name}: documented, but no field" for name in documented.keys() - known.keys()]
    for name in inspect.get_annotations(cls):
        if name not in known:  # a ClassVar
            continue
        if name not in documented:
            lines.append(f"{name}: not documented")
            continue
        item = known[name]
        default = item.default if item.default_factory is MISSING else item.default_factory()
        stated = re.search(r"defaults to `([^`]*)`", documented[name])
        if stated is None:
            if default is not MISSING and default is not None:
                lines.append(f"{name}: no default documented, is {default!r}")
        elif ast.literal_eval(stated[1]) != default:
            lines.append(f"{name}: documented default {stated[1]}, is {default!r}")
        if ("*optional*" in documented[name]) != (default is not MISSING):
            lines.append(f"{name}: *optional* belongs to exactly the fields with a default")
    return sorted(lines)


def test_the_configs_are_found():
    assert {"BDHSConfig", "DPOBenchmark", "EvalArguments", "PopeBenchmark", "SamplingSettings"} <= {
        cls.__name__ for cls in config_classes()
    }


# One test for all: the list comes from the tree, and an import that fails should fail here rather than at collection.
def test_fields_are_documented_with_their_defaults():
    assert {cls.__name__: problems(cls) for cls in config_classes() if problems(cls)} == {}


@dataclass
class Good:
    """
    Parameters:
        path (`str`):
            Required.
        share (`float`, *optional*, defaults to `0.99`):
            A share.
        mode (`str`, *optional*, defaults to `"attention"`):
            A mode, with `code (x)` in its text.
        names (`list[str]`, *optional*, defaults to `[]`):
            Some names.
        limit (`int`, *optional*):
            No limit by default.
    """

    path: str
    share: float = 0.99
    mode: str = "attention"
    names: list = field(default_factory=list)
    limit: int | None = None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("`0.99`", "`0.9`", "share: documented default 0.9, is 0.99"),
        ('`"attention"`', '`"noise"`', "mode: documented default \"noise\", is 'attention'"),
        (", defaults to `[]`", "", "names: no default documented, is []"),
        ("limit (", "limits (", "limit: not documented"),
        ("limit (`int`, *optional*)", "limit (`int`, *optional*, defaults to `3`)", "limit: documented default 3"),
        ("path (`str`)", "path (`str`, *optional*)", "path: *optional* belongs to exactly the fields with a default"),
        ("share (`float`, *optional*, ", "share (`float`, ", "share: *optional* belongs to exactly the fields"),
        ("path (`str`):", "gone (`str`):\n            Old.\n        path (`str`):", "gone: documented, but no field"),
    ],
)
def test_a_wrong_docstring_is_caught(monkeypatch, old, new, problem):
    assert problems(Good) == []
    assert old in Good.__doc__
    monkeypatch.setattr(Good, "__doc__", Good.__doc__.replace(old, new))
    assert any(line.startswith(problem) for line in problems(Good))
