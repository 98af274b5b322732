import json

import pytest
from support.files import save_rows
from support.rewarding import save_reward_model
from support.rows import tiny_pairs

from trl_mm import MMOnlineDPOTrainer
from trl_mm.data.subset import subset_positions
from trl_mm.judges.pairwise import PairwiseVLMJudge
from trl_mm.judges.remote import RemoteJudge
from trl_mm.scripts.online_dpo import main, make_judge


FLAGS = (
    "--max_steps 2 --per_device_train_batch_size 2 --learning_rate 1e-2 --logging_steps 1 --use_cpu --bf16 false "
    "--report_to none --save_strategy no --dtype float32 --gradient_checkpointing false --max_new_tokens 4"
).split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """`pairs.jsonl` beside the PNG files that it names."""
    folder = tmp_path_factory.mktemp("data")
    return save_rows(folder / "pairs.jsonl", tiny_pairs(4))


def run(model, rows, output, *flags):
    main(["--model_name_or_path", model, "--dataset_name", str(rows), "--output_dir", str(output), *FLAGS, *flags])
    return json.loads((output / "trainer_state.json").read_text())["log_history"]


def test_a_reward_function_by_its_path(checkpoint, data, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_rewards.py").write_text(
        "def total(completion_ids, **columns): return [float(sum(i)) for i in completion_ids]"
    )
    monkeypatch.chdir(tmp_path)
    log = run(checkpoint, data, tmp_path / "out", "--reward_funcs", "my_rewards.total")
    assert log[0]["objective/scores"] > 0 and log[0]["offline_rate"] == 0
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert "ranked by total." in (tmp_path / "out" / "README.md").read_text()
    printed = capsys.readouterr().out
    assert "Tokens of the 4 rows of the train dataset" in printed and "language model" in printed


def test_a_flag_takes_back_the_judge_of_a_recipe(checkpoint, data, tmp_path):
    (tmp_path / "recipe.yaml").write_text("judge: {kind: vlm, model: gone/gone}\nreward_funcs: [nowhere.reward]\n")
    for more, message in (([], "`judge` or by `reward_funcs`.*`--judge null`"), (["--judge", "null"], "nowhere")):
        with pytest.raises(ValueError, match=message):
            run(checkpoint, data, tmp_path / "out", "--config", str(tmp_path / "recipe.yaml"), *more)


def test_mixed_dpo_with_a_local_judge_and_lora(checkpoint, data, tmp_path):
    judge = json.dumps({"kind": "vlm", "model": checkpoint, "max_new_tokens": 16})
    flags = ["--offline_probability", "0.5", "--use_peft", "--max_steps", "4", "--max_steps_without_verdict", "0"]
    log = run(checkpoint, data, tmp_path, "--judge", judge, *flags)
    assert {"judge/invalid_rate", "offline_rate"} <= {name for entry in log for name in entry}
    assert (tmp_path / "adapter_model.safetensors").exists()


def test_a_judge_in_the_papers_style(checkpoint, data, tmp_path, monkeypatch):
    asked = []

    def ask(self, questions):
        asked.extend(questions)
        return ["I would say that Response 2 is better, as it invents nothing."] * len(questions)

    monkeypatch.setattr(PairwiseVLMJudge, "_ask", ask)
    judge = f"{{kind: vlm, model: {checkpoint}, style: paper, seed: 5, max_new_tokens: 16}}"
    (tmp_path / "recipe.yaml").write_text(f"judge: {judge}\n")
    log = run(checkpoint, data, tmp_path / "out", "--config", str(tmp_path / "recipe.yaml"))
    assert len(asked) == 4, "two steps of two pairs"
    assert log[0]["judge/invalid_rate"] == log[0]["judge/inconsistent_rate"] == 0


def test_a_reward_model_is_the_judge(checkpoint, data, tmp_path):
    reward = save_reward_model(tmp_path / "reward", checkpoint)
    judge = make_judge({"kind": "reward", "model": reward, "batch_size": 3, "max_length": 500})
    (scorer,) = judge.reward_funcs
    assert (scorer.batch_size, scorer.collator.max_length) == (3, 500)
    log = run(checkpoint, data, tmp_path / "out", "--judge", json.dumps({"kind": "reward", "model": reward}))
    assert log[0]["judge/invalid_rate"] == log[0]["judge/inconsistent_rate"] == 0
    with pytest.raises(ValueError, match="has no trained score"):
        make_judge({"kind": "reward", "model": checkpoint})


def test_a_remote_judge_gets_the_settings_of_its_client(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    settings = {"base_url": "http://127.0.0.1:9/v1", "max_concurrency": 2, "style": "paper", "seed": 3}
    judge = make_judge({"kind": "remote", "model": "big", **settings})
    assert isinstance(judge, RemoteJudge) and (judge.style, judge.seed) == ("paper", 3)


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({"model": "a/b"}, r"`judge` needs a `kind` \(vlm, remote, reward\) and a `model`"),
        ({"kind": "vlm"}, "and a `model`"),
        ({"kind": "vlm", "model": "a/b", "batch": 3}, "has no setting 'batch'. Did you mean `batch_size`?"),
        ({"kind": "remote", "model": "a/b", "style": "once"}, "`style` must be one of both_orders, paper, got 'once'"),
        ({"kind": "reward", "model": "a/b", "style": "paper"}, "has no setting 'style'"),
        ("{", "`judge` .* is no JSON"),
        ("[]", "must be a mapping"),
    ],
)
def test_a_judge_that_cannot_be_made_is_refused(judge, message):
    with pytest.raises(ValueError, match=message):
        make_judge(judge)


def test_a_random_subset_is_drawn_before_anything_is_sampled(checkpoint, data, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(MMOnlineDPOTrainer, "train", lambda self, **options: trained.append(self))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no_reward.py").write_text("def none(completion_ids, **columns): return [0.0 for _ in completion_ids]")
    flags = ["--reward_funcs", "no_reward.none", "--max_rows", "2", "--shuffle_seed", "5"]
    run(checkpoint, data, tmp_path / "out", *flags)
    assert trained[0].train_dataset["row_id"][:] == [str(position) for position in subset_positions(4, 2, 5)]


def test_verifiable_rewards_by_their_names(checkpoint, tmp_path):
    rows = save_rows(tmp_path / "pairs.jsonl", [{**row, "objects": ["dog"]} for row in tiny_pairs(4)])
    (tmp_path / "recipe.yaml").write_text("reward_funcs: [{objects: {metric: chair}}, {length: {limit: 5}}]\n")
    log = run(checkpoint, rows, tmp_path / "out", "--config", str(tmp_path / "recipe.yaml"))
    assert "objective/scores" in log[0]
    assert "ranked by objects" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="`yes_no` needs the column `label` or `answer`"):
        run(checkpoint, rows, tmp_path / "more", "--reward_funcs", "objects", "yes_no")


def test_what_ranks_is_asked_for_before_anything_is_loaded(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="Pass `judge`"):
        run(checkpoint, "nothing.jsonl", tmp_path)
