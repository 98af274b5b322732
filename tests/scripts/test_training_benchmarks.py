import json

import pytest
from support.files import save_rows
from support.rows import tiny_pairs
from support.tiny import tiny_image

from trl_mm.scripts.dpo import main as dpo
from trl_mm.scripts.online_dpo import main as online_dpo


FLAGS = (
    "--max_steps 2 --per_device_train_batch_size 2 --logging_steps 1 --use_cpu --bf16 false --report_to none "
    "--save_strategy no --dtype float32 --gradient_checkpointing false"
).split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """`pairs.jsonl`, and questions of POPE about images in `images`."""
    folder = tmp_path_factory.mktemp("data")
    save_rows(folder / "pairs.jsonl", tiny_pairs(4))
    (folder / "images").mkdir()
    lines = []
    for image in range(3):
        tiny_image(image).save(folder / "images" / f"pope{image}.png")
        lines.append({"image": f"pope{image}.png", "text": "Is there a dog?", "label": ("yes", "no")[image % 2]})
    (folder / "random.json").write_text("\n".join(map(json.dumps, lines)))
    return folder


def settings(data, **more):
    return {"image_folder": str(data / "images"), "pope_files": [str(data / "random.json")], **more}


def run(main, model, data, output, recipe, *flags):
    output.mkdir(exist_ok=True)
    (output / "recipe.json").write_text(json.dumps(recipe))  # JSON is YAML
    given = ["--config", str(output / "recipe.json"), "--dataset_name", str(data / "pairs.jsonl")]
    main(["--model_name_or_path", model, *given, "--output_dir", str(output / "run"), *FLAGS, *flags])
    log = json.loads((output / "run" / "trainer_state.json").read_text())["log_history"]
    return [(entry["step"], entry["eval_pope_accuracy"]) for entry in log if "eval_pope_accuracy" in entry]


@pytest.mark.parametrize("main", [dpo, online_dpo])
def test_a_recipe_measures_benchmarks_while_it_trains(checkpoint, data, tmp_path, main):
    recipe = {"benchmarks": ["POPE"], "benchmark_steps": 1, "benchmark_settings": settings(data, max_new_tokens=2)}
    if main is online_dpo:
        recipe |= {"judge": {"kind": "vlm", "model": checkpoint, "max_new_tokens": 16}, "max_new_tokens": 4}
        recipe["max_steps_without_verdict"] = 0  # the tiny judge gives none
    measured = run(main, checkpoint, data, tmp_path, recipe)
    assert [step for step, _ in measured] == [1, 2] and all(0 <= share <= 1 for _, share in measured)


def test_the_command_line_may_say_it_too(checkpoint, data, tmp_path):
    flags = ["--benchmarks", "pope", "--benchmark_steps", "2", "--benchmark_questions", "1"]
    measured = run(dpo, checkpoint, data, tmp_path, {}, *flags, "--benchmark_settings", json.dumps(settings(data)))
    assert [step for step, _ in measured] == [2]


@pytest.mark.parametrize(
    ("recipe", "change", "said"),
    [
        ({"benchmarks": ["popp"]}, {}, "unknown benchmark `popp`, did you mean `pope`"),
        ({"benchmark_steps": None}, {}, "are measured at every evaluation, and there is none. Set `benchmark_steps`"),
        ({"benchmark_steps": 0}, {}, "`benchmark_steps` must be at least 1"),
        ({"benchmarks": None}, {}, "`benchmark_settings` and `benchmark_steps` would do nothing"),
        ({}, {"image_folder": None, "images": "x"}, "has no setting 'images'"),
        ({}, {"pope_files": "random.json"}, "`pope_files` must be a list, got 'random.json'"),
        ({}, {"max_new_tokens": "four"}, "`max_new_tokens` must be a whole number, got 'four'"),
        ({}, {"pope_files": ["none.json"]}, "There is no POPE file at none.json"),
        ({}, {"pope_reading": "loose"}, "`pope_reading` must be one of"),
        ({}, {"image_folder": "nowhere"}, "POPE: 3 of 3 images are missing in `image_folder` .nowhere"),
        ({"benchmarks": ["chair"]}, {"pope_files": None}, "has no setting 'pope_files'|`annotations` is missing"),
    ],
)
def test_bad_settings_are_errors_before_the_model_is_loaded(data, tmp_path, recipe, change, said):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    whole = {"benchmarks": ["pope"], "benchmark_steps": 1, "benchmark_settings": settings(data, **change)}
    whole["benchmark_settings"] = {k: v for k, v in whole["benchmark_settings"].items() if v is not None}
    whole = {name: value for name, value in {**whole, **recipe}.items() if value is not None}
    with pytest.raises((ValueError, OSError), match=said):
        run(dpo, str(model), data, tmp_path / "out", whole)


def test_the_folder_of_the_images_is_needed(data, tmp_path):
    recipe = {"benchmarks": ["pope"], "benchmark_steps": 1, "benchmark_settings": {"pope_files": ["x.json"]}}
    with pytest.raises(ValueError, match="`benchmark_settings` needs `image_folder`"):
        run(dpo, "some/model", data, tmp_path, recipe)
