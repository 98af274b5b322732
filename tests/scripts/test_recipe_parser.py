import pytest

from trl_mm.scripts import bdhs, dpo, judge, merge, online_dpo, ppo, report, rloo, score
from trl_mm.scripts import eval as evaluate
from trl_mm.scripts.merge import make_parser
from trl_mm.scripts.recipe_parser import COMMON, documented_settings


def parse(*words):
    return make_parser().parse_args_and_config(list(words), fail_with_unknown_args=True)


@pytest.fixture
def recipe(tmp_path):
    """Function that writes a recipe: its path."""

    def write(more=""):
        (tmp_path / "recipe.yaml").write_text(f"model_name_or_path: me/adapter\noutput_dir: merged\n{more}")
        return str(tmp_path / "recipe.yaml")

    return write


def test_a_recipe_is_read_in_both_spellings_and_flags_override_it(recipe):
    for words in (["--config", recipe()], [f"--config={recipe()}"]):
        (args,) = parse(*words, "--output_dir", "other")
        assert (args.model_name_or_path, args.output_dir) == ("me/adapter", "other")


def test_an_unknown_key_names_the_nearest_in_both_spellings(recipe):
    path = recipe("dtyp: bfloat16\n")
    for words in (["--config", path], [f"--config={path}"]):
        with pytest.raises(ValueError, match="unknown key `dtyp`, did you mean `dtype`"):
            parse(*words)


def test_a_flag_without_a_recipe_is_refused():
    with pytest.raises(ValueError, match="`--config` needs the path"):
        parse("--output_dir", "merged", "--config")


@pytest.mark.parametrize("env", ["[COLOUR]", "COLOUR", "", "3"])
def test_an_environment_that_is_no_mapping_is_refused(recipe, env):
    with pytest.raises(ValueError, match="recipe.yaml`: `env` must hold `NAME: value` lines, got "):
        parse("--config", recipe(f"env: {env}\n"))


def test_an_unknown_flag_names_the_nearest(capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--model_name_or_path", "x", "--output_dri", "y", "--output_dir", "z"])
    assert "unrecognized arguments: --output_dri y, did you mean `--output_dir`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "cure"),
    [
        ("datasets", "[{path: a}]", "`datasets.concatenate_datasets`, write it with `save_to_disk`"),
        ("dataset_config", "main", r"`datasets.load_dataset\(name, config\)`, write it with `save_to_disk`"),
        ("test_split_size", "0.1", "`train_test_split`"),
    ],
)
def test_settings_of_trls_scripts_are_answered_with_what_to_do(recipe, capsys, key, value, cure):
    with pytest.raises(ValueError, match=f"`{key}` of TRL's scripts is not read here. .*{cure}"):
        parse("--config", recipe(f"{key}: {value}\n"))
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--model_name_or_path", "x", "--output_dir", "y", f"--{key}", "z"])
    assert "save_to_disk" in capsys.readouterr().err


def test_mixtures_are_read_where_something_is_trained(recipe):
    args, *_ = dpo.make_parser().parse_args_and_config(["--config", recipe("bf16: false\ndatasets: [{path: a}]\n")])
    assert args.datasets == [{"path": "a"}] and args.dataset_name is None


def test_help_shows_our_settings_and_common_ones_and_help_all_the_others(capsys):
    parser = dpo.make_parser()
    text = parser.format_help()
    for name in (
        "--dataset_name",
        "--bdhs",
        "--overlong",
        "--freeze_projector",
        "--ref_log_probs_dir",
        "--learning_rate",
    ):
        assert f"{name} " in text
    assert "--adam_beta1" not in text and "--help_all" in text and text.count("\n") < 270
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--help_all"])
    everything = capsys.readouterr().out
    assert end.value.code == 0 and "--adam_beta1" in everything and "--bdhs " in everything


def test_common_settings_are_settings():
    parsers = [command.make_parser() for command in (dpo, online_dpo, rloo, ppo)]
    known = {action.dest for parser in parsers for action in parser._actions}
    assert set(COMMON) <= known


@pytest.mark.parametrize("command", [bdhs, dpo, evaluate, judge, merge, online_dpo, ppo, report, rloo])
def test_every_setting_says_what_it_is(command):
    parser = command.make_parser()
    silent = [action.dest for action in parser._actions if parser.shows(action) and len(action.help or "") < 8]
    assert silent == []


def test_settings_are_documented_up_to_the_end_of_a_sentence():
    texts = documented_settings(dpo.DPOArguments)
    assert texts["bdhs_rejected_weight"].startswith("With bdhs, weight of the rejected that a row has already beside")
    assert "(γ of eq. 5, 0.5 in the paper)" in texts["bdhs_rejected_weight"]
    assert texts["bdhs"] == "Settings of BDHSConfig; rows are then SFT rows and pairs are made on the way."


def test_names_of_files_keep_their_case_in_the_help():
    texts = documented_settings(score.settings_of("mmvet"))
    assert texts["file"].startswith("mm-vet.json, which says")
