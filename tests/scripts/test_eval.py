import json
import os
import shutil
from dataclasses import dataclass, field

import pytest
from datasets import Dataset
from support.tiny import tiny_image, tiny_model, tiny_processor
from transformers import LlamaConfig, LlamaForCausalLM

from trl_mm.data.images import open_image
from trl_mm.eval.answers import read_answers
from trl_mm.eval.benchmark import Benchmark, Metric
from trl_mm.eval.benchmarks import BENCHMARKS
from trl_mm.eval.chair import chair
from trl_mm.eval.compare import compare_models
from trl_mm.eval.intervals import bootstrap_ratio
from trl_mm.eval.objects import ObjectVocabulary
from trl_mm.eval.pope_scores import pope_scores
from trl_mm.generation import Completer, Request, SamplingSettings
from trl_mm.scripts.eval import main


OBJECTS = ("red circle", "green square", "dog", "cat")
TRUTHS = {"a.png": {"red circle", "dog"}, "b.png": {"green square"}, "c.png": {"dog", "cat"}}
CAPTIONS = ["There is a red circle. There is a cat.", "There is a green square.", "A dog and a dog."]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    (folder / "images").mkdir()
    for index, name in enumerate(TRUTHS):
        tiny_image(index, (30 + 10 * index, 40)).save(folder / "images" / name)
    content = {
        "images": [{"id": index, "file_name": name} for index, name in enumerate(TRUTHS)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(OBJECTS)],
        "annotations": [
            {"id": f"{index} {name}", "image_id": index, "category_id": OBJECTS.index(name)}
            for index, names in enumerate(TRUTHS.values())
            for name in sorted(names)
        ],
    }
    (folder / "test.json").write_text(json.dumps(content))
    (folder / "objects.txt").write_text("".join(f"{name}\n" for name in OBJECTS))
    (folder / "partners.json").write_text(json.dumps({"red circle": "cat", "green square": "dog"}))
    return folder


def run(checkpoint, world, output, *flags, annotations="test.json"):
    main(
        ["--model_name_or_path", checkpoint, "--annotations", str(world / annotations), "--output_dir", str(output)]
        + ["--image_folder", str(world / "images"), "--vocabulary", str(world / "objects.txt")]
        + ["--dtype", "float32", "--max_new_tokens", "5", "--pope_questions_per_image", "2", *flags]
    )
    return json.loads((output / "scores.json").read_text())


def test_answers_are_greedy_ones_to_the_images(checkpoint, world, tmp_path, capsys):
    scores = run(checkpoint, world, tmp_path, "--caption_prompt", "What is in it?")
    completer = Completer(tiny_processor(), SamplingSettings(5, temperature=0.0))
    rows = [
        {"images": [open_image(world / "images" / name)], "prompt": [{"role": "user", "content": "What is in it?"}]}
        for name in TRUTHS
    ]
    expected = completer.complete(tiny_model(scale=4), [Request(prompt) for prompt in completer.prompts(rows)])
    assert read_answers(tmp_path / "chair") == [text.strip() for text in expected]
    assert len(read_answers(tmp_path / "pope")) == 3 * 3 * 2
    assert list(scores) == ["pope_f1", "pope_accuracy", "pope_yes_share", "pope_intervals", "chair", "pope"]
    assert set(scores["pope"]) == {"random", "popular", "adversarial"}
    shown = capsys.readouterr().out
    assert shown.splitlines()[1].startswith("POPE: F1 ")
    assert "POPE adversarial, 6 questions: f1" in shown and str(tmp_path / "scores.json") in shown
    assert "intervals] are over images: these weights on other images" in shown
    assert "3 captions, " in shown and "chair_i" in shown
    assert compare_models({"a": [scores]}, first="a", second="a")["difference"]["pope_accuracy"] == (0.0, 0.0)


def test_answers_that_say_nothing_of_the_model_are_pointed_out(checkpoint, world, tmp_path, monkeypatch, capsys):
    for said, warned in (("Hm.", True), ("Yes, a dog.", False)):
        monkeypatch.setattr(Completer, "complete", lambda self, model, requests, said=said: [said] * len(requests))
        run(checkpoint, world, tmp_path / said)
        shown = capsys.readouterr().out
        assert ("No caption names an object" in shown) == ("Most answers are neither yes nor no" in shown) == warned
        assert ("neither yes nor no 6 (100.0%), read as wrong" in shown) == warned


def test_scores_are_those_of_the_answers(checkpoint, world, tmp_path, monkeypatch):
    """The model says what this test wants, so every figure is known."""
    said = {}

    def complete(self, model, requests):
        questions = [request.prompt.row["prompt"][0]["content"] for request in requests]
        if questions[0] == "Describe the image.":
            return CAPTIONS
        said.update(dict.fromkeys(questions))
        return [" Yes, it is." if "dog" in question else "No." for question in questions]

    monkeypatch.setattr(Completer, "complete", complete)
    scores = run(checkpoint, world, tmp_path, "--partners", str(world / "partners.json"), "--seed", "3")
    found, intervals = scores["chair"], scores["chair"].pop("intervals")
    vocabulary = ObjectVocabulary({name: [] for name in OBJECTS})
    partners = {"red circle": "cat", "green square": "dog"}
    assert found.pop("reading") == "ours"
    assert found == chair(CAPTIONS, list(TRUTHS.values()), vocabulary, partners=partners)
    assert (found["chair_i"], found["prior_share"], found["recall"]) == (1 / 5, 1 / 5, 3 / 5)
    counts = found["counts"]
    assert intervals["chair_i"] == list(bootstrap_ratio(counts["hallucinated"], counts["mentions"], seed=3))
    assert set(intervals) == {"chair_i", "chair_s", "recall", "prior_share"}
    assert any("dog" in question for question in said) and any("dog" not in question for question in said)
    for result in scores["pope"].values():
        images, (low, high) = result.pop("images"), result.pop("intervals")["accuracy"]
        assert 0 <= low <= result["accuracy"] <= high <= 1
        assert len(images) == 6 and set(images) == set(TRUTHS)
        labels = ["yes", "no"] * 3
        judged = zip(result["correct"], labels, strict=True)
        answers = ["yes" if right == (label == "yes") else "no" for right, label in judged]
        assert result == pope_scores(answers, labels)


def test_objects_of_reference_captions_join_the_truth_of_chair_only(checkpoint, world, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Completer, "complete", lambda self, model, requests: (CAPTIONS * len(requests))[: len(requests)]
    )
    references = {
        "images": [{"id": index, "file_name": name} for index, name in enumerate(TRUTHS)],
        "annotations": [{"image_id": index, "caption": "Is it a cat?"} for index in range(len(TRUTHS))],
    }
    (tmp_path / "captions.json").write_text(json.dumps(references))
    alone = run(checkpoint, world, tmp_path / "alone")
    scores = run(checkpoint, world, tmp_path / "joined", "--captions", str(tmp_path / "captions.json"))
    assert (alone["chair"]["chair_i"], scores["chair"]["chair_i"]) == (1 / 5, 0.0)
    assert (sum(alone["chair"]["counts"]["annotated"]), sum(scores["chair"]["counts"]["annotated"])) == (5, 7)
    assert scores["pope"] == alone["pope"]


def test_a_second_run_asks_the_model_nothing(checkpoint, world, tmp_path, monkeypatch):
    first = run(checkpoint, world, tmp_path)
    monkeypatch.setattr(Completer, "complete", lambda *args: pytest.fail("the model was asked again"))
    assert run(checkpoint, world, tmp_path) == first
    with pytest.raises(ValueError, match="made with other settings: `questions`"):
        run(checkpoint, world, tmp_path, "--caption_prompt", "What is in it?")


def test_one_benchmark_on_the_first_images(checkpoint, world, tmp_path):
    scores = run(checkpoint, world, tmp_path, "--benchmarks", "chair", "--max_images", "2")
    assert set(scores) == {"chair"} and len(scores["chair"]["counts"]["mentions"]) == 2
    assert not (tmp_path / "pope").exists()


PUBLISHED = {
    "coco": [("c.png", "Is there a dog in the image?", "yes"), ("b.png", "Is there a dog in the image?", "no")],
    "gqa": [("a.png", "Is there a cat in the image?", "no"), ("c.png", "Is there a cat in the image?", "yes")],
}


def ask_published(checkpoint, world, tmp_path, output, *flags):
    """Without annotations. Answers of a model that sees a dog in all images, and says so in its way."""
    names = ("image", "text", "label")
    for name, rows in PUBLISHED.items():
        (tmp_path / name).write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    files = [str(tmp_path / name) for name in PUBLISHED]
    main(
        ["--model_name_or_path", checkpoint, "--image_folder", str(world / "images"), "--output_dir", str(output)]
        + ["--benchmarks", "pope", "--pope_files", *files, "--dtype", "float32", *flags]
    )
    return json.loads((output / "scores.json").read_text())


def test_published_questions_are_asked_read_and_scored_as_published(checkpoint, world, tmp_path, monkeypatch, capsys):
    said = {"dog": "I see a dog", "cat": "There is a dog, not a cat. Yes"}
    asked = []

    def complete(self, model, requests):
        asked.extend(request.prompt.row["prompt"][0]["content"] for request in requests)
        return [next(text for name, text in said.items() if name in question) for question in asked[-len(requests) :]]

    monkeypatch.setattr(Completer, "complete", complete)
    scores = ask_published(checkpoint, world, tmp_path, tmp_path / "out", "--pope_suffix", "One word.")
    assert sorted(set(asked)) == [f"Is there a {name} in the image?\nOne word." for name in ("cat", "dog")]
    coco, gqa = scores["pope"]["coco"], scores["pope"]["gqa"]
    assert (coco["precision"], coco["recall"], coco["f1"], coco["unreadable"]) == (1 / 2, 1.0, 2 / 3, 2)
    assert (gqa["precision"], gqa["recall"], gqa["f1"], gqa["accuracy"]) == (0.0, 0.0, 0.0, 1 / 2)
    assert coco["images"] == ["c.png", "b.png"]
    assert (scores["pope_f1"], scores["pope_accuracy"], scores["pope_yes_share"]) == (1 / 3, 1 / 2, 1 / 2)
    shown = capsys.readouterr().out
    assert "F1 33.3%" in shown and "neither yes nor no 2 (100.0%), read as yes unless a no is in it" in shown


def test_answers_to_another_suffix_are_not_served_again(checkpoint, world, tmp_path, monkeypatch):
    monkeypatch.setattr(Completer, "complete", lambda self, model, requests: ["Yes"] * len(requests))
    ask_published(checkpoint, world, tmp_path, tmp_path / "out", "--pope_suffix", "One word.")
    with pytest.raises(ValueError, match="made with other settings: .*`pope_suffix`"):
        ask_published(checkpoint, world, tmp_path, tmp_path / "out", "--pope_suffix", "Yes or no.")


def test_images_of_published_questions_stay_in_the_folder(checkpoint, world, tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "coco", [("../test.json", "Is there a dog in the image?", "yes")])
    with pytest.raises(ValueError, match="leaves the image folder"):
        ask_published(checkpoint, world, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("flags", [["--pope_files", "f"], ["--benchmarks", "pope"], ["--benchmarks", "chair"]])
def test_annotations_are_asked_for_where_they_are_needed(checkpoint, world, tmp_path, flags):
    with pytest.raises(ValueError, match="`annotations` is missing.*--benchmarks pope --pope_files"):
        main(
            ["--model_name_or_path", checkpoint, "--image_folder", str(world / "images")]
            + ["--output_dir", str(tmp_path / "out"), *flags]
        )


def test_missing_annotations_are_named(checkpoint, world, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.json.*COCO-style"):
        run(checkpoint, world, tmp_path, annotations="gone.json")


@pytest.mark.parametrize(
    ("name", "error"), [("gone.png", "gone.png.*does not exist"), ("../test.json", "leaves the image folder")]
)
def test_an_image_that_is_missing_or_elsewhere_is_named(checkpoint, world, tmp_path, name, error):
    content = json.loads((world / "test.json").read_text())
    content["images"][1]["file_name"] = name
    (world / "changed.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=error):
        run(checkpoint, world, tmp_path, annotations="changed.json")


def test_a_text_only_model_is_refused_and_another_named(world, tmp_path):
    config = LlamaConfig(
        vocab_size=360, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "text")
    tiny_processor.__wrapped__().tokenizer.save_pretrained(tmp_path / "text")  # a new one, of no processor
    with pytest.raises(ValueError, match="no vision-language model. Pass one such as llava-hf/"):
        run(str(tmp_path / "text"), world, tmp_path / "out")


def test_answers_of_other_weights_are_not_served_again(world, tmp_path):
    model = tmp_path / "model"
    tiny_processor().save_pretrained(model)
    tiny_model(seed=0).save_pretrained(model)
    run(str(model), world, tmp_path / "out")
    tiny_model(seed=1).save_pretrained(model)
    with pytest.raises(ValueError, match="made with other settings: `weights`"):
        run(str(model), world, tmp_path / "out")


def test_an_unknown_benchmark_lists_the_known_ones(checkpoint, world, tmp_path):
    recipe = tmp_path / "eval.yaml"
    recipe.write_text("benchmarks: [chiar]\n")
    with pytest.raises(ValueError, match="`benchmarks`: unknown benchmark `chiar`.*`chair`.*known: .*chair.*pope"):
        run(checkpoint, world, tmp_path, "--config", str(recipe))


@dataclass(kw_only=True)
class ColourBenchmark(Benchmark):
    colour_word: str = field(default="colour", metadata={"help": "How it is spelled."})

    title = "Colours"
    metrics = {"colour": Metric("right", "higher")}

    def questions(self, truths, *, seed):
        return [{"image": "a.png", "question": f"Which {self.colour_word}?", "kind": "easy", "truth": {"red"}}]

    def score(self, questions, answers, *, seed):
        return {"right": [int(said in row["truth"]) for row, said in zip(questions, answers, strict=True)]}

    def longest_answer(self, max_new_tokens):
        return 3

    def answer_settings(self):
        return {"colour_word": self.colour_word}

    @staticmethod
    def overall(result, *, seed):
        return {"colour_right": sum(result["right"])}

    @staticmethod
    def row_scores(result):
        return result["right"]

    @staticmethod
    def headline(scores):
        return [f"Colours: {scores['colour_right']} right"]

    @staticmethod
    def lines(result):
        return [f"{len(result['right'])} colours"]

    @staticmethod
    def metric_parts(result):
        return {"colour": (result["right"], [1] * len(result["right"]))}


def test_a_new_benchmark_is_one_class_and_one_line(checkpoint, world, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(BENCHMARKS, "colour", ColourBenchmark)
    (tmp_path / "eval.yaml").write_text("benchmarks: [chair, colour]\ncolour_word: color\n")
    monkeypatch.setattr(
        Completer,
        "complete",
        lambda self, model, requests: [
            {"Which color?": "red"}.get(request.prompt.row["prompt"][0]["content"], "A dog.") for request in requests
        ],
    )
    scores = run(checkpoint, world, tmp_path, "--config", str(tmp_path / "eval.yaml"))
    assert list(scores) == ["colour_right", "chair", "colour"] and scores["colour"] == {"right": [1]}
    stored = json.loads((tmp_path / "colour" / "manifest.json").read_text())
    assert stored["settings"]["colour_word"] == "color" and stored["settings"]["max_new_tokens"] == 3
    row = Dataset.from_parquet(str(tmp_path / "colour" / "shard-00000.parquet"))[0]
    assert row["kind"] == "easy" and row["answer"] == "red" and "truth" not in row
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "Colours: 1 right" and shown[2].startswith("3 captions") and shown[3] == "1 colours"
    assert compare_models({"a": [scores]}, first="a", second="a")["a"]["colour"] == 1.0


def test_answers_to_other_images_are_not_served_again(checkpoint, world, tmp_path):
    folder = tmp_path / "world"
    shutil.copytree(world, folder)
    run(checkpoint, folder, tmp_path / "out", "--benchmarks", "chair")
    image = folder / "images" / next(iter(TRUTHS))
    before = image.stat()
    content = bytearray(image.read_bytes())
    content[-5] ^= 1  # in the checksum of the end of a PNG, which no reader looks at: as large as before
    image.write_bytes(content)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match="made with other settings: `questions`"):
        run(checkpoint, folder, tmp_path / "out", "--benchmarks", "chair")
