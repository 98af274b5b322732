"""Every recipe is found by its path and read by the parser of its command."""

import re
import shlex
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from trl import SFTConfig, TrlParser

from trl_mm.cli.main import COMMANDS
from trl_mm.eval.paper_rows import PAPER_COLUMNS, find_paper_row
from trl_mm.eval.pope import PopeBenchmark


ROOT = Path(__file__).parents[1]
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if path.parent.name != "accelerate")
IDS = [str(path.relative_to(ROOT / "recipes")) for path in RECIPES]


# Rows of the paper's table that have a recipe
PAPER_ROWS = (
    "DPO, POVID 17k",
    "Online-DPO, POVID",
    "Mixed-DPO, POVID",
    "DPO, POVID 5k",
    "+ POVID's distortion",
    "BDHS noise, 5k",
    "BDHS attention, 5k",
    "BDHS attention, online, 5k",
    "online BDHS and POVID 5k (eq. 5)",
    "mask only, no guidance",
    "IPO, POVID",
    "SLiC, POVID",
    "RLOO, VLFeedback reward",
    "PPO, VLFeedback reward",
)
SUBSET = {"max_rows", "shuffle_seed"}
# What a recipe is about: the keys that it has other values of than the recipe it varies
VARIANTS = {
    "dpo_povid_17k": ("dpo_lora", {"dataset_name"}),
    "dpo_povid_5k": ("dpo_povid_17k", SUBSET),
    "dpo_vlfeedback_5k": ("dpo_povid_5k", {"dataset_name", "converter"}),
    "dpo_rlhf_v_5k": ("dpo_povid_5k", {"dataset_name", "converter"}),
    "dpo_llava_rlhf_5k": ("dpo_povid_5k", {"dataset_name", "converter"}),
    "dpo_nlf_5k": ("dpo_povid_5k", {"converter"}),
    "dpo_corrupted": ("dpo_lora", {"dataset_name"}),
    "dpo_mixture": ("dpo_povid_17k", {"datasets"}),
    "dpo_ipo": ("dpo_povid_17k", {"loss_type", "beta"}),
    "dpo_slic": ("dpo_povid_17k", {"loss_type"}),
    "bdhs_noise": ("bdhs", {"mode", "mask_threshold", "noise_steps"}),
    "bdhs_unguided": (
        "bdhs",
        {"guided", "max_attempts", "similarity_threshold", "max_sentence_tokens", "max_answer_tokens"},
    ),
    "bdhs_online_lora": ("dpo_lora", {"dataset_name", "precompute_ref_log_probs", "bdhs"} | SUBSET),
    "bdhs_online_averaged_lora": ("bdhs_online_lora", {"bdhs_rejected_weight"}),
    "povid_distortion_lora": ("bdhs_online_averaged_lora", {"bdhs_online", "bdhs"}),
    "online_dpo_weak_annotator": ("online_dpo", {"judge"}),
    "mixed_dpo": ("online_dpo", {"offline_probability"}),
}


def test_all_recipes_are_found():
    """A recipe that is added changes these numbers, so none can be left out unseen."""
    found = {
        folder: sum(path.parent.name == folder for path in RECIPES) for folder in {p.parent.name for p in RECIPES}
    }
    assert found == {
        "llava_v1.6_34b": 8,
        "llava_v1.6_mistral_7b": 7,
        "llava_v1.6_vicuna_13b": 7,
        "llava_v1.6_vicuna_7b": 27,
        "qwen2.5_vl_7b": 2,
        "shapes": 12,
    }


def command_of(path):
    """The command line in the comment at the top of a recipe, as words."""
    head = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        head.append(line.removeprefix("#").strip())
    (line,) = (line for line in head if re.match(r"(trl-mm|python|accelerate) ", line))
    return shlex.split(line)


def parser_of(path, monkeypatch):
    program, name, *_ = command_of(path)
    if program == "trl-mm":
        return import_module(COMMANDS[name][0]).make_parser()
    script = ROOT / name
    monkeypatch.syspath_prepend(script.parent)
    return TrlParser((import_module(script.stem).SFTArguments, SFTConfig))


def parsed(path, parser, arguments):
    required = {
        item.name
        for kind in parser.dataclass_types
        for item in fields(kind)
        if item.init and item.default is MISSING and item.default_factory is MISSING
    }
    given = {word.removeprefix("--") for word in arguments if word.startswith("--")}
    assert required <= given | set(yaml.safe_load(path.read_text())), "the command line lacks what is required"
    cpu = (
        ["--use_cpu"]
        if any(item.name == "use_cpu" for kind in parser.dataclass_types for item in fields(kind))
        else []
    )
    return parser.parse_args_and_config([*arguments, *cpu], fail_with_unknown_args=True)


@pytest.mark.parametrize("path", RECIPES, ids=IDS)
def test_the_command_line_in_its_head_is_read_by_the_parser(path, monkeypatch, tmp_path):
    words = command_of(path)
    monkeypatch.chdir(ROOT)
    assert words[words.index("--config") + 1] == str(path.relative_to(ROOT)), "the command names the file itself"
    parser = parser_of(path, monkeypatch)
    groups = parsed(path, parser, [*words[2:], "--output_dir", str(tmp_path / "out")])
    settings = {item.name: getattr(group, item.name) for group in groups for item in fields(group)}
    for key, value in yaml.safe_load(path.read_text()).items():
        if key not in ("env", "report_to", "output_dir"):  # transformers makes a list of `report_to`
            assert settings[key] == value, key


@pytest.mark.parametrize("path", RECIPES, ids=IDS)
def test_the_head_says_what_it_is_and_the_hardware(path):
    first, *rest = path.read_text().splitlines()
    assert first.startswith("# ") and first.endswith(".")
    assert any(re.match(r"# Hardware: .*(run|not run)\b", line) for line in rest[:4])


@pytest.mark.parametrize("path", RECIPES, ids=IDS)
def test_a_mistyped_key_is_refused_and_named(path, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    words, parser = command_of(path), parser_of(path, monkeypatch)
    *_, key = yaml.safe_load(path.read_text())
    wrong = tmp_path / path.name
    wrong.write_text(re.sub(rf"^{key}:", f"{key}x:", path.read_text(), flags=re.MULTILINE))
    words[words.index("--config") + 1] = str(wrong)
    message = f"unknown key `{key}x`, did you mean `{key}`" if words[0] == "trl-mm" else f"{key}x"
    with pytest.raises(ValueError, match=message):
        parsed(wrong, parser, words[2:])


def test_each_row_of_the_paper_has_a_recipe():
    heads = [path.read_text() for path in RECIPES if path.parent.name == "llava_v1.6_vicuna_7b"]
    assert [row for row in PAPER_ROWS if not any(f'# Paper: row "{row}"' in head for head in heads)] == []


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_differ_in_what_they_are_about(name):
    """So that a value that is changed in one recipe is changed in all that are compared with it."""
    base, about = VARIANTS[name]
    new, old = (
        yaml.safe_load((ROOT / "recipes/llava_v1.6_vicuna_7b" / f"{stem}.yaml").read_text()) for stem in (name, base)
    )
    assert {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)} == {"output_dir"} | about


@pytest.mark.parametrize("folder", ["llava_v1.6_34b", "llava_v1.6_mistral_7b", "llava_v1.6_vicuna_13b"])
def test_other_models_differ_from_the_7b_in_what_depends_on_the_model(folder):
    about = {"model_name_or_path", "system_prompt", "output_dir", "dataset_name", "accelerate_config", "batch_size"}
    about |= {"judge"} if folder == "llava_v1.6_34b" else set()
    for path in (path for path in RECIPES if path.parent.name == folder and path.stem != "eval"):
        new, old = (
            yaml.safe_load(file.read_text()) for file in (path, path.parents[1] / "llava_v1.6_vicuna_7b" / path.name)
        )
        assert {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)} <= about, path


EVALUATIONS = [path for path in RECIPES if path.stem == "eval" and path.parent.name != "shapes"]


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.parent.name)
def test_evaluations_ask_pope_as_the_paper_does(path, monkeypatch):
    """The three files of COCO with LLaVA's suffix; and they say what is not comparable."""
    monkeypatch.chdir(ROOT)
    groups = parsed(path, parser_of(path, monkeypatch), command_of(path)[2:])
    (pope,) = (group for group in groups if isinstance(group, PopeBenchmark))
    assert pope.pope_files == [f"coco_pope_{kind}.json" for kind in ("random", "popular", "adversarial")]
    assert pope.pope_suffix == "Answer the question using a single word or phrase."
    head = path.read_text().split("# Hardware")[0]
    assert "`pope_f1`" in head and "Not comparable: CHAIR" in head


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.parent.name)
def test_all_that_the_paper_reports_is_asked_by_the_settings_in_the_head(path, monkeypatch):
    head = path.read_text().split("# All that the paper reports")[1].split("# The base:")[0]
    words = shlex.split(" ".join(re.findall(r"^# {3,}(.*)$", head, re.MULTILINE)))
    benchmarks = words[words.index("--benchmarks") + 1 : words.index("--max_new_tokens")]
    assert set(benchmarks) == {column.benchmark for column in PAPER_COLUMNS.values()}
    assert ("--paper_row" in words) == (
        path.parent.name == "llava_v1.6_vicuna_7b"
    )  # the paper's rows are of this model
    parser = parser_of(path, monkeypatch)
    monkeypatch.chdir(ROOT)
    args, *_ = parsed(path, parser, [*command_of(path)[2:], *words])
    assert args.benchmarks == benchmarks


def test_rows_of_the_paper_that_recipes_name_are_known():
    named = [row for path in RECIPES for row in re.findall(r'# Paper: row "(.*?)"', path.read_text())]
    assert named and all(find_paper_row(row) for row in [*named, *PAPER_ROWS])


@pytest.mark.parametrize("name", ["bdhs_noise", "bdhs_unguided"])
def test_the_training_that_follows_finds_the_pairs(name, monkeypatch, tmp_path):
    path = ROOT / "recipes/llava_v1.6_vicuna_7b" / f"{name}.yaml"
    ((recipe, flags),) = re.findall(r"^# Then (\S+) with (.*)$", path.read_text(), re.MULTILINE)
    words, path_of_next = shlex.split(flags), path.with_name(recipe)
    monkeypatch.chdir(ROOT)
    parser = parser_of(path_of_next, monkeypatch)
    args, training_args, *_ = parsed(path_of_next, parser, ["--config", str(path_of_next), *words])
    assert args.dataset_name == yaml.safe_load(path.read_text())["output_dir"]
    assert training_args.output_dir != yaml.safe_load(path_of_next.read_text())["output_dir"]


def test_losses_and_betas_are_of_the_paper():
    """IPO searched 0.8 to 1.0, SLiC 0.02 to 0.2, DPO 0.05 to 0.5."""
    grids = {"sigmoid": (0.05, 0.1, 0.2, 0.5), "ipo": (0.8, 0.9, 1.0), "hinge": (0.02, 0.1, 0.2)}
    found = set()
    for path in RECIPES:
        recipe = yaml.safe_load(path.read_text())
        if path.parent.name != "shapes" and "beta" in recipe and "reward_funcs" not in recipe:
            (loss,) = recipe.get("loss_type", ["sigmoid"])
            found.add(loss)
            assert recipe["beta"] in grids[loss], path
    assert found == set(grids)


VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)


@pytest.mark.parametrize("path", [path for path in RECIPES if "llava_v1.6" in str(path)], ids=str)
def test_system_prompts_are_those_of_the_models(path):
    """Those that LLaVA-1.6 was trained with, for the policy and for the judge."""
    recipe = yaml.safe_load(path.read_text())
    own = {"vicuna": VICUNA, "34b": "Answer the questions."}

    def expected(model):
        return next((text for name, text in own.items() if name in model), None)

    asked = recipe["model_name_or_path"] if path.stem == "corrupt" else path.parent.name  # a text model
    assert recipe.get("system_prompt") == expected(asked)
    if "judge" in recipe:
        assert recipe["judge"].get("system_prompt") == expected(recipe["judge"]["model"])


@pytest.mark.parametrize("path", [path for path in RECIPES if "llava_v1.6" in str(path)], ids=str)
def test_annotators_are_asked_as_in_the_paper(path):
    recipe = yaml.safe_load(path.read_text())
    assert recipe.get("judge", {"style": "paper"}).get("style") == "paper"
    assert path.stem != "judge" or recipe["style"] == "paper"
