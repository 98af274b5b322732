"""
What trl_mm relies on in private parts of TRL and its companions: docs/design/trl-contract.md says it, this holds it.

A step to the next TRL begins here: each failure names what moved and the file of ours that relies on it. What the code
touches is read from its syntax, so a new touch point without a line in the document fails as well.
"""

import ast
import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import trl

from trl_mm import MMDPOTrainer, MMOnlineDPOTrainer, MMPPOTrainer, MMRLOOTrainer
from trl_mm.trainer.on_policy.pair_losses import _Trainer
from trl_mm.trainer.trl_online_dpo import OnlineDPOTrainer


ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "design" / "trl-contract.md"
LIBRARIES = ("trl", "transformers", "accelerate", "peft", "deepspeed", "datasets", "bitsandbytes", "huggingface_hub")
# Documented submodules, which are as public as the package itself
PUBLIC_MODULES = ("accelerate.utils", "transformers.utils", "transformers.integrations", "huggingface_hub.constants")
PUBLIC_MODULES += ("huggingface_hub.errors", "huggingface_hub.utils", "datasets.utils")
OF_PYTHON = {"_replace"}  # of named tuples


@dataclass(frozen=True)
class Touch:
    """
    A line of the document.

    Args:
        path (`str`): dotted name, such as `"trl.DPOTrainer._compute_loss"`; one that only exists on objects is written
            with `#`, as in `"trl.DPOTrainer#_metrics"`, and looked for in the source of the class.
        parameters (`tuple[str]` or `None`): names that a function must take, if they are given.
        inside (`tuple[str]`): pieces of text that must be in its source.
        files (`tuple[str]`): files of ours that rely on it.
    """

    path: str
    parameters: tuple[str, ...] | None
    inside: tuple[str, ...]
    files: tuple[str, ...]


def contract(text: str) -> list[Touch]:
    """Lines of the tables: `path(parameters)`, files, why; in another table `path`, text inside it, files, why."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) not in (3, 4) or not cells[0].startswith("`"):
            continue
        head, *inside, files, _ = cells
        path, parameters = re.fullmatch(r"`([\w.#]+)(\(.*\))?`", head).groups()
        names = None if parameters is None else tuple(re.findall(r"\w+", parameters))
        pieces = tuple(piece for cell in inside for piece in re.findall(r"`([^`]+)`", cell))
        found.append(Touch(path, names, pieces, tuple(re.findall(r"`([^`]+)`", files))))
    return found


CONTRACT = contract(DOCUMENT.read_text(encoding="utf-8"))


def resolve(path: str):
    """What a dotted name stands for."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError as error:
            if error.name is None or not ".".join(parts).startswith(error.name):
                raise
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(path)


def what_moved(touch: Touch) -> str | None:
    """What of a line does not hold (`str`), or `None`."""
    owner, _, attribute = touch.path.partition("#")
    try:
        found = resolve(owner)
    except (ImportError, AttributeError) as error:
        return f"it is gone ({error})"
    if attribute and not any(
        re.search(rf"\b{attribute}\b", inspect.getsource(part)) for part in inspect.getmro(found)[:-1]
    ):
        return f"no `{attribute}` is in its source"
    if touch.parameters is not None:
        taken = inspect.signature(found).parameters
        missing = [name for name in touch.parameters if name not in taken]
        if missing:
            return f"it takes no {', '.join(missing)} any more, but ({', '.join(taken)})"
    if touch.inside:
        source = inspect.getsource(found)
        missing = [piece for piece in touch.inside if piece not in source]
        if missing:
            return f"{missing} is not in its source any more"
    return None


def check(touch: Touch) -> None:
    problem = what_moved(touch)
    if problem is not None:
        pytest.fail(f"{', '.join(touch.files)} relies on {touch.path}: {problem}. See {DOCUMENT.relative_to(ROOT)}.")


@pytest.mark.parametrize("touch", CONTRACT, ids=lambda touch: touch.path)
def test_what_we_rely_on_is_there(touch):
    assert touch.files, f"{touch.path}: say which file of ours relies on it"
    for file in touch.files:
        assert (ROOT / file).is_file(), f"{touch.path} names {file}, which is gone"
    check(touch)


def sources() -> dict[str, ast.Module]:
    files = sorted((ROOT / "trl_mm").rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def own_names(trees) -> set[str]:
    """Names that the package itself defines: functions, arguments, attributes that it assigns."""
    found = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def touched(trees: dict[str, ast.Module]) -> list[tuple[str, str]]:
    """File and name of each private thing of a library that the code imports, calls or reads."""
    own, found = own_names(trees.values()), []
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in LIBRARIES:
                private = "." in node.module and node.module not in PUBLIC_MODULES
                found += [
                    (file, f"{node.module}.{alias.name}") for alias in node.names if private or is_private(alias.name)
                ]
            elif isinstance(node, ast.Attribute) and is_private(node.attr):
                through_super = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
                if through_super or node.attr not in own | OF_PYTHON:
                    found.append((file, node.attr))
    return found


def test_every_touch_point_has_its_line():
    lines = {(file, re.split(r"[.#]", touch.path)[-1]) for touch in CONTRACT for file in touch.files}
    paths = {(file, touch.path) for touch in CONTRACT for file in touch.files}
    missing = [
        f"{file}: {name}"
        for file, name in touched(sources())
        if ((file, name) not in paths if "." in name else (file, name) not in lines)
    ]
    assert not missing, f"Write these into {DOCUMENT.relative_to(ROOT)}: " + "; ".join(sorted(set(missing)))


def test_what_is_public_is_imported_from_there():
    private = [
        f"{file}: {name}"
        for file, name in touched(sources())
        if name.split(".")[0] in LIBRARIES
        and hasattr(importlib.import_module(name.split(".")[0]), name.rpartition(".")[2])
    ]
    assert not private, "Import these from the package itself: " + "; ".join(private)


def overrides(trainer: type) -> list[tuple[str, str, type]]:
    """File of ours, method, and the class of a library whose method it overrides."""
    ours = [part for part in trainer.__mro__ if part.__module__.startswith("trl_mm.")]
    theirs = [part for part in trainer.__mro__ if part.__module__.split(".")[0] in LIBRARIES]
    found = []
    for part in ours:
        file = part.__module__.replace(".", "/") + ".py"
        for name, value in vars(part).items():
            base = next((base for base in theirs if name in vars(base)), None)
            if base is not None and inspect.isfunction(value):
                found.append((file, name, base))
    return found


@pytest.mark.parametrize("trainer", [MMDPOTrainer, MMOnlineDPOTrainer, MMPPOTrainer, MMRLOOTrainer])
def test_overrides_take_what_they_are_called_with(trainer):
    for file, name, base in overrides(trainer):
        ours = inspect.signature(getattr(trainer, name)).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values()):
            continue
        missing = [
            parameter for parameter in inspect.signature(getattr(base, name)).parameters if parameter not in ours
        ]
        assert not missing, f"{file}: `{name}` of {base.__name__} takes {missing} too"


@pytest.mark.parametrize("trainer", [MMDPOTrainer, MMOnlineDPOTrainer, MMPPOTrainer, MMRLOOTrainer])
def test_every_private_method_that_is_overridden_has_its_line(trainer):
    lines = {(file, re.split(r"[.#]", touch.path)[-1]) for touch in CONTRACT for file in touch.files}
    missing = [
        f"{file}: {name}" for file, name, _ in overrides(trainer) if is_private(name) and (file, name) not in lines
    ]
    assert not missing, f"Write these into {DOCUMENT.relative_to(ROOT)}: {missing}"


def touch_of(path: str) -> Touch:
    return next(touch for touch in CONTRACT if touch.path == path and not touch.inside)


def changed_loss(self, model, batch):
    """As `_compute_loss` with other arguments."""


@pytest.mark.parametrize(
    ("path", "owner", "name", "value", "problem"),
    [
        ("trl.DPOTrainer._compute_loss", trl.DPOTrainer, "_compute_loss", changed_loss, "takes no inputs"),
        ("trl.DPOTrainer._precompute_ref_logps", trl.DPOTrainer, "_precompute_ref_logps", None, "is gone"),
        ("trl.trainer.utils.get_config_model_id", trl.trainer.utils, "get_config_model_id", None, "is gone"),
        (
            "trl.experimental.online_dpo.OnlineDPOTrainer._move_model_to_vllm",
            OnlineDPOTrainer,
            "_move_model_to_vllm",
            None,
            "is gone",
        ),
        ("transformers.Trainer._save_checkpoint", trl.DPOTrainer.__mro__[2], "_save_checkpoint", None, "is gone"),
    ],
)
def test_a_break_names_our_file(monkeypatch, path, owner, name, value, problem):
    touch = touch_of(path)
    assert what_moved(touch) is None
    owner = next(part for part in getattr(owner, "__mro__", [owner]) if name in vars(part))
    if value is None:
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, value)
    with pytest.raises(pytest.fail.Exception, match=problem) as failure:
        check(touch)
    assert touch.files[0] in str(failure.value)


def test_a_touch_point_without_a_line_is_found():
    tree = ast.parse(
        "from trl.trainer.utils import secret\nfrom trl import DPOTrainer\n"
        "class A(DPOTrainer):\n    def f(self):\n        self._own = super()._hidden(self._theirs)\n"
    )
    assert touched({"x.py": tree}) == [
        ("x.py", "trl.trainer.utils.secret"), ("x.py", "_hidden"), ("x.py", "_theirs")
    ]  # fmt: skip


# What TRL's loss reads with a live reference, other divergences, label smoothing, tensor parallelism, or experts
IN_OTHER_SETTINGS = {
    "args",
    "ref_model",
    "f_alpha_divergence_coef",
    "label_smoothing",
    "_tp_size",
    "router_aux_loss_coef",
}


def test_the_stand_in_for_a_trainer_has_what_the_loss_reads():
    read = set(re.findall(r"self\.(\w+)", inspect.getsource(trl.DPOTrainer._compute_loss)))
    missing = read - set(vars(_Trainer)) - set(vars(_Trainer("sigmoid", 0.1, "cpu"))) - IN_OTHER_SETTINGS
    assert not missing, (
        f"trl_mm/trainer/on_policy/pair_losses.py: TRL's loss reads {sorted(missing)} of its trainer too"
    )
