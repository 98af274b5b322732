"""Imports point down, are relative, and make no ring; nothing is called `utils`."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest


PACKAGE = Path(__file__).parents[1] / "trl_mm"
SHAPES = PACKAGE.parent / "recipes" / "shapes"

# Room: what it may import besides itself. A folder within one of them is a room of its own; `__init__` is the root of
# the package, which nothing may import.
PREPARED = {"data", "tokens", "generation"}  # what methods and trainers build on
PARTS_OF_TRAINER = {"trainer.prefix_sharing", "trainer.parts", "trainer.reference", "trainer.on_policy"}
METHODS = {"bdhs", "judges", "corruption", "reward"}
LIBRARY = {*PREPARED, *METHODS, "report", "trainer", *PARTS_OF_TRAINER, "trainer.estimate", "eval"}
BELOW = {
    "data": set(),
    "tokens": {"data"},
    "report": {"data"},
    "generation": {"data", "tokens"},
    "bdhs": PREPARED,
    "judges": PREPARED,
    "corruption": {*PREPARED, "bdhs", "judges"},
    "reward": PREPARED,
    "trainer.prefix_sharing": PREPARED,
    "trainer.parts": PREPARED,
    "trainer.reference": PREPARED,
    "trainer.on_policy": PREPARED,
    "trainer.estimate": {*PREPARED, "trainer.parts"},
    "trainer": {*PREPARED, "reward", "report", *PARTS_OF_TRAINER},
    "eval": {*PREPARED, "report", "judges", "trainer", "trainer.on_policy"},
    "bench": LIBRARY,
    "scripts": {*LIBRARY, "bench"},
    "cli": {"scripts"},
    "__init__": LIBRARY,
}


def room(module: str) -> str:
    """Innermost room of a module."""
    parts = module.split(".")[1:]
    inner = ".".join(parts[:2])
    return inner if inner in BELOW else parts[0] if parts else "__init__"


def imports(package: Path, path: Path, modules: dict[str, Path]) -> list[tuple[int, str]]:
    """Line and absolute name of each module of the package that a file imports, wherever in the file."""
    here = [package.name, *path.relative_to(package).parts[:-1]]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])
            # `from . import x` means the module x where there is one, else a name of the package itself
            names = [f"{base}.{alias.name}" for alias in node.names]
            found += [(node.lineno, name if name in modules else base) for name in names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, f"absolute:{node.module}"))
        elif isinstance(node, ast.Import):
            found += [(node.lineno, f"absolute:{alias.name}") for alias in node.names]
    return found


def problems(package: Path) -> list[str]:
    """What is wrong with the imports of a package, one line each."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    lines, graph = [], {}
    for module, path in modules.items():
        if "utils" in module.split("."):
            lines.append(f"{module}: give the helper to its user or a name of its own instead of `utils`")
        if room(module) not in BELOW:
            lines.append(f"{module}: room `{room(module)}` is not in BELOW")
            continue
        graph[module] = set()
        for number, target in imports(package, path, modules):
            where = f"{path.relative_to(package)}:{number}"
            if target.startswith("absolute:"):
                if target.removeprefix("absolute:").split(".")[0] == package.name:
                    lines.append(f"{where}: import {target.removeprefix('absolute:')} relatively")
            elif target not in modules:
                lines.append(f"{where}: there is no {target}")
            else:
                graph[module].add(target)
                if room(target) != room(module) and room(target) not in BELOW[room(module)]:
                    lines.append(f"{where}: {room(module)} must not import {room(target)} ({target})")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        lines.append("ring: " + " -> ".join(error.args[1]))
    return lines


def test_imports_point_down():
    assert problems(PACKAGE) == []


def test_the_package_is_found():
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert found == {name.split(".")[0] for name in BELOW}


def test_rooms_are_ordered():
    TopologicalSorter(BELOW).prepare()


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("data/rows.py", "from ..bdhs import sampler", "data/rows.py:1: data must not import bdhs (trl_mm.bdhs."),
        ("data/rows.py", "def f():\n    from ..bdhs.sampler import X", "data/rows.py:2: data must not import bdhs"),
        ("data/rows.py", "from .. import X", "data/rows.py:1: data must not import __init__ (trl_mm)"),
        ("bdhs/mask.py", "from ..trainer.dpo import X", "bdhs/mask.py:1: bdhs must not import trainer"),
        ("cli/run.py", "from ..data import loading", "cli/run.py:1: cli must not import data (trl_mm.data.loading)"),
        ("generation.py", "from .trainer import dpo", "generation.py:1: generation must not import trainer"),
        ("trainer/dpo.py", "from trl_mm.data import loading", "trainer/dpo.py:1: import trl_mm.data relatively"),
        ("trainer/dpo.py", "import torch, trl_mm.data", "trainer/dpo.py:1: import trl_mm.data relatively"),
        ("trainer/dpo.py", "from .gone import X", "trainer/dpo.py:1: there is no trl_mm.trainer.gone"),
        ("trainer/parts/x.py", "from ..dpo import X", "trainer/parts/x.py:1: trainer.parts must not import trainer ("),
        ("tokens/x.py", "from ..generation import X", "tokens/x.py:1: tokens must not import generation"),
        ("data/loading.py", "from .shards import X", "ring: "),
        ("data/loading.py", "from . import shards", "ring: "),
        ("eval/utils.py", "", "trl_mm.eval.utils: give the helper"),
        ("data/utils/__init__.py", "", "trl_mm.data.utils: give the helper"),
        ("extra/x.py", "", "trl_mm.extra.x: room `extra` is not in BELOW"),
    ],
)
def test_a_bad_module_is_caught(tmp_path, file, text, problem):
    package = tmp_path / "trl_mm"
    good = {
        "__init__.py": "from .bdhs.sampler import X",
        "data/__init__.py": "",
        "data/loading.py": "import torch\nfrom trl import DPOTrainer",
        "data/shards.py": "from .loading import X\nfrom . import loading",
        "bdhs/__init__.py": "",
        "bdhs/sampler.py": "from .. import generation\nfrom ..data import loading, shards",
        "generation.py": "from .data.loading import X",
        "trainer/__init__.py": "",
        "trainer/dpo.py": "from ..data import loading",
    }
    for name, content in good.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(content)
    assert problems(package) == []

    (package / file).parent.mkdir(parents=True, exist_ok=True)
    (package / file).write_text(text)
    (found,) = problems(package)
    assert found.startswith(problem)


def ring(folder: Path) -> list[str] | None:
    """A ring of scripts of one folder, which import one another by their bare names, wherever in the file."""
    paths = {path.stem: path for path in folder.glob("*.py")}
    graph = {}
    for name, path in paths.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                imported.update(alias.name for alias in node.names)
        graph[name] = imported & set(paths)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_the_shapes_scripts_make_no_ring():
    assert ring(SHAPES) is None
    assert (SHAPES / "run.py").is_file()


@pytest.mark.parametrize(
    "text",
    ["from run import X", "import run", "def f():\n    from run import X", "from .run import X", "from . import run"],
)
def test_a_ring_of_scripts_is_caught(tmp_path, text):
    (tmp_path / "run.py").write_text("import json\nfrom study import study")
    (tmp_path / "study.py").write_text("import run.other, running")
    assert ring(tmp_path) is None
    (tmp_path / "study.py").write_text(text)
    assert set(ring(tmp_path)) == {"run", "study"}
