import json

import pytest
from support.launching import accelerate, run_together
from support.openai_server import KEY, running_endpoint
from support.rewarding import save_reward_model
from support.tiny import tiny_image

from trl_mm.cli.main import main as cli
from trl_mm.data.loading import load_preferences
from trl_mm.data.subset import subset_positions
from trl_mm.eval.judge_accuracy import read_verdicts
from trl_mm.generation import Completer
from trl_mm.reward.scorer import RewardModel
from trl_mm.scripts.judge import main


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    lines = []
    for index in range(6):
        tiny_image(index).save(folder / f"{index}.png")
        lines.append(
            {"images": [f"{index}.png"], "prompt": "What?", "chosen": f"A square {index}.", "rejected": "A dog."}
        )
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(folder / "pairs.jsonl")


def prefers(word):
    def reply(text, images=()):
        return f"Better: Response {2 if word in text.partition('[Response 2]')[2] else 1}"

    return reply


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with running_endpoint(prefers("square")) as endpoint:
        endpoint.key = KEY
        yield endpoint


def flags(pairs, output, *more):
    return ["--dataset_name", pairs, "--output_dir", str(output), "--max_new_tokens", "16", *more]


def test_a_model_that_is_loaded_here(checkpoint, pairs, tmp_path, monkeypatch, capsys):
    asked = []

    def complete(self, model, requests):
        asked.extend(requests)
        return [prefers("square")(request.prompt.text) for request in requests]

    monkeypatch.setattr(Completer, "complete", complete)
    arguments = ["--model_name_or_path", checkpoint, *flags(pairs, tmp_path, "--dtype", "float32")]
    main(arguments)
    scores = json.loads((tmp_path / "judge.json").read_text())
    assert (scores["num_pairs"], scores["accuracy_all"], scores["accuracy_decided"]) == (6, 1.0, 1.0)
    assert scores["first_place_share"] == 0.5 and scores["intervals"]["accuracy_decided"][0] < 0.7
    shown = capsys.readouterr().out
    assert "accuracy 100.0% [61.0%, 100.0%] of 6 decided pairs" in shown and str(tmp_path / "judge.json") in shown
    assert len(asked) == 12
    first = (tmp_path / "judge.json").stat().st_ino
    main(arguments)
    assert len(asked) == 12, "what is finished is not asked again"
    assert (tmp_path / "judge.json").stat().st_ino != first, "the scores take their name when they are complete"
    for more, name in ((["--max_new_tokens", "32"], "max_new_tokens"), (["--style", "paper"], "style")):
        with pytest.raises(ValueError, match=f"made with other settings: .*`{name}`"):
            main([*arguments, *more])


def test_one_order_is_printed_beside_both(endpoint, pairs, tmp_path, capsys):
    """A judge that likes the first place decides nothing in both orders, and in one what the coin says."""
    endpoint.reply = lambda text, images: "Better: Response 1"
    remote = ["--judge", "remote", "--model_name_or_path", "judge", "--base_url", endpoint.url]
    main([*remote, "--cache_dir", str(tmp_path / "replies"), *flags(pairs, tmp_path / "out")])
    scores = json.loads((tmp_path / "out" / "judge.json").read_text())
    verdicts = read_verdicts(tmp_path / "out" / "verdicts")
    right = sum(row["chosen_at"] == 0 for row in verdicts) / 6
    assert scores["style"] == "both_orders" and scores["inconsistent_rate"] == 1.0
    assert scores["one_order"]["accuracy_decided"] == scores["one_order"]["accuracy_all"] == right
    low, high = scores["one_order"]["intervals"]["accuracy_decided"]
    assert 0 < low < right < high < 1
    one_line = (
        f"In one order alone: accuracy {right:.1%} [{low:.1%}, {high:.1%}] of 6 decided pairs, {right:.1%} of all 6; "
        "tie 0.0%, invalid 0.0%\n"
    )
    shown = capsys.readouterr().out
    assert "judge: no clear verdict; tie 0.0%, invalid 0.0%, inconsistent 100.0%; prefers" in shown
    assert one_line in shown


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_papers_style(endpoint, pairs, tmp_path, capsys, seed):
    endpoint.reply = lambda text, images: prefers("square")(text).replace("Better: ", "I prefer ") + "."
    remote = ["--judge", "remote", "--model_name_or_path", "judge", "--base_url", endpoint.url, "--style", "paper"]
    remote += ["--seed", str(seed), "--cache_dir", str(tmp_path / "replies"), *flags(pairs, tmp_path / "out")]
    main([*remote, "--shard_size", "2"])
    scores = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert len(endpoint.requests) == 6, "once each"
    assert scores["accuracy_all"] == scores["one_order"]["accuracy_all"] == 1.0 and scores["style"] == "paper"
    texts = [body["messages"][0]["content"][-1]["text"] for body in endpoint.requests]
    first = sum("A square" in text.partition("[Response 2]")[0] for text in texts)
    assert scores["first_place_share"] == first / 6
    shown = capsys.readouterr().out
    assert "accuracy 100.0% [61.0%, 100.0%] of 6 decided pairs" in shown and "In one order" not in shown


def test_a_judge_that_writes_nonsense_decides_nothing(checkpoint, pairs, tmp_path, capsys):
    main(["--model_name_or_path", checkpoint, *flags(pairs, tmp_path, "--max_rows", "2")])
    scores = json.loads((tmp_path / "judge.json").read_text())
    assert scores["num_pairs"] == 2 and scores["accuracy_decided"] is None and scores["invalid_rate"] == 1.0
    assert "no clear verdict; tie 0.0%, invalid 100.0%, inconsistent 0.0%" in capsys.readouterr().out


def test_a_random_subset(checkpoint, pairs, tmp_path):
    arguments = ["--model_name_or_path", checkpoint, *flags(pairs, tmp_path, "--max_rows", "2")]
    main([*arguments, "--shuffle_seed", "1"])
    wanted = [str(position) for position in subset_positions(6, 2, 1)]
    assert wanted != ["0", "1"]
    assert [row["row_id"] for row in read_verdicts(tmp_path / "verdicts")] == wanted
    with pytest.raises(ValueError, match="`shuffle_seed` is 1 there and 2 here"):
        main([*arguments, "--shuffle_seed", "2"])


def test_a_model_behind_an_endpoint(endpoint, pairs, tmp_path):
    remote = ["--judge", "remote", "--model_name_or_path", "judge", "--base_url", endpoint.url]
    remote += ["--cache_dir", str(tmp_path / "replies"), "--request_options", '{"seed": 3}']
    main([*remote, *flags(pairs, tmp_path / "a")])
    scores = json.loads((tmp_path / "a" / "judge.json").read_text())
    assert scores["accuracy_all"] == 1.0 and len(endpoint.requests) == 12
    assert all(body["seed"] == 3 and body["max_tokens"] == 16 for body in endpoint.requests)
    main([*remote, *flags(pairs, tmp_path / "b")])  # another folder, the same replies
    assert len(endpoint.requests) == 12
    assert read_verdicts(tmp_path / "a" / "verdicts") == read_verdicts(tmp_path / "b" / "verdicts")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(KEY.encode() in path.read_bytes() for path in files)


def test_a_wrong_key_is_one_line(endpoint, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    remote = ["--judge", "remote", "--model_name_or_path", "judge", "--base_url", endpoint.url]
    remote += ["--cache_dir", str(tmp_path), "--api_key_variable", "MY_KEY"]
    assert cli(["judge", *remote, *flags(pairs, tmp_path / "a")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "401" in line and "`MY_KEY` is not accepted" in line and "sk-wrong" not in line


def test_a_judge_that_is_down_is_one_line(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "*")
    remote = ["--judge", "remote", "--model_name_or_path", "judge", "--base_url", "http://127.0.0.1:9/v1"]
    assert cli(["judge", *remote, "--cache_dir", str(tmp_path), *flags(pairs, tmp_path / "a")]) == 2
    assert "127.0.0.1:9/v1/chat/completions cannot be reached: ConnectError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge", "remote", "--request_options", "{seed"], "`request_options` \\({seed\\) is no JSON"),
        (["--judge", "remote", "--request_options", "[1]"], "`request_options` must be a mapping"),
        (["--base_url", "http://localhost/v1"], "`base_url` and `request_options` would do nothing"),
        (["--config", "judge.yaml"], "`style` must be one of both_orders, paper, got 'once'"),
        (["--judge", "reward", "--load_in_4bit"], "`load_in_4bit` needs `judge` vlm"),
        (["--judge", "reward", "--request_options", "{}"], "`base_url` and `request_options` would do nothing"),
        (["--max_rows", "0"], "`max_rows` must be at least 1, got 0"),
        (["--shuffle_seed", "3"], r"`shuffle_seed` \(3\) would do nothing"),
        ([], "no folder here, and no id of the form owner/name"),
    ],
)
def test_wrong_arguments_are_refused(pairs, tmp_path, monkeypatch, arguments, message):
    (tmp_path / "judge.yaml").write_text("style: once\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(["--model_name_or_path", "./gone", *flags(pairs, tmp_path), *arguments])


def test_an_unknown_judge_in_a_recipe_is_refused(pairs, tmp_path):
    (tmp_path / "judge.yaml").write_text("judge: human\nmodel_name_or_path: a/b\n")
    with pytest.raises(ValueError, match="`judge` must be one of vlm, remote, reward, got 'human'"):
        main([*flags(pairs, tmp_path), "--config", str(tmp_path / "judge.yaml")])


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_share_the_rows(endpoint, pairs, tmp_path):
    """The machine may lack an accelerator: the processes must know of each other all the same."""
    arguments = ["--judge", "remote", "--model_name_or_path", "judge", "--base_url", endpoint.url]
    arguments += ["--cache_dir", str(tmp_path / "replies"), *flags(pairs, tmp_path / "out", "--shard_size", "2")]
    ((status, output),) = run_together([*accelerate("ddp"), "-m", "trl_mm.scripts.judge", *arguments], seconds=200)
    assert status == 0, output
    assert output.count("Scores in") == 1
    assert len(endpoint.requests) == 12 and len(read_verdicts(tmp_path / "out" / "verdicts")) == 6


def test_a_reward_model(checkpoint, pairs, tmp_path, capsys):
    """Its verdicts are those of its scores, whichever answer comes first."""
    reward = save_reward_model(tmp_path / "reward", checkpoint)
    arguments = ["--judge", "reward", "--model_name_or_path", reward, *flags(pairs, tmp_path / "out")]
    arguments += ["--dtype", "float32", "--shard_size", "4"]
    main([*arguments, "--batch_size", "4"])
    verdicts = read_verdicts(tmp_path / "out" / "verdicts")
    scorer = RewardModel(reward)
    rows = load_preferences(pairs)
    chosen, rejected = (scorer(rows["prompt"], rows[name], rows["images"]) for name in ("chosen", "rejected"))
    right = [a > b for a, b in zip(chosen, rejected, strict=True)]
    assert [row["correct"] for row in verdicts] == right and all(row["outcome"] == "clear" for row in verdicts)
    assert {row["chosen_at"] for row in verdicts} == {0, 1}
    assert all(row["text"].startswith("rewards ") for row in verdicts)
    scores = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert scores["accuracy_all"] == scores["accuracy_decided"] == sum(right) / 6 and "style" not in scores
    shown = capsys.readouterr().out
    assert "of 6 decided pairs" in shown and "In one order" not in shown and "first place" not in shown
    other = save_reward_model(tmp_path / "other", reward)
    main([*arguments, "--style", "paper", "--max_new_tokens", "9"])  # it is asked nothing
    with pytest.raises(ValueError, match="made with other settings: .*`model`"):
        main([*arguments, "--model_name_or_path", other])


def test_what_is_no_reward_model_is_one_line(checkpoint, pairs, tmp_path, capsys):
    assert cli(["judge", "--judge", "reward", "--model_name_or_path", checkpoint, *flags(pairs, tmp_path)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "has no trained score" in line


def vl_rewardbench(tmp_path):
    lines = []
    for index, source in enumerate(["WildVision", "RLAIF-V", "RLAIF-V", "MathVerse"]):
        tiny_image(index).save(tmp_path / f"{index}.png")
        better = index != 2
        row = {"id": f"{source}-{index}", "query": "What is it?", "image": f"{index}.png", "query_source": source}
        row |= {"response": ["A dog.", "A square."], "human_ranking": [1, 0] if better else [0, 1]}
        lines.append(json.dumps(row))
    (tmp_path / "test.jsonl").write_text("\n".join(lines))


def test_vl_rewardbench_by_a_reward_model(checkpoint, tmp_path):
    vl_rewardbench(tmp_path)
    reward = save_reward_model(tmp_path / "reward", checkpoint)
    arguments = ["--judge", "reward", "--model_name_or_path", reward, "--converter", "vl_rewardbench"]
    main([*arguments, "--dataset_split", "test", *flags(str(tmp_path), tmp_path / "out")])
    scores = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert {name: part["num_pairs"] for name, part in scores["groups"].items()} == {
        "general": 1,
        "hallucination": 2,
        "reasoning": 1,
    }
    assert scores["num_decided"] == 4 and scores["macro_accuracy_all"] == scores["macro_accuracy_decided"]


def test_vl_rewardbench_is_scored_by_group(endpoint, tmp_path, capsys):
    vl_rewardbench(tmp_path)
    main(
        [
            *("--judge", "remote", "--model_name_or_path", "judge", "--base_url", endpoint.url),
            *("--cache_dir", str(tmp_path / "replies"), "--converter", "vl_rewardbench", "--dataset_split", "test"),
            *flags(str(tmp_path), tmp_path / "out"),
        ]
    )
    scores = json.loads((tmp_path / "out" / "judge.json").read_text())
    found = {name: part["accuracy_all"] for name, part in scores["groups"].items()}
    assert found == {"general": 1, "hallucination": 0.5, "reasoning": 1}
    assert scores["accuracy_all"] == 0.75 and scores["macro_accuracy_all"] == pytest.approx(2.5 / 3)
    shown = "general 100.0% of 1, hallucination 50.0% of 2, reasoning 100.0% of 1; their mean 83.3%"
    assert shown in capsys.readouterr().out
