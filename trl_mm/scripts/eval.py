"""`trl-mm eval`: hallucination of a model on annotated images, by CHAIR with recall and by POPE."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from .models import ModelArguments, load_model


@dataclass(kw_only=True)
class EvalArguments(ModelArguments):
    """
    Arguments of `trl-mm eval`.

    Args:
        annotations (`str`): COCO-style JSON with `images`, `annotations` and `categories`.
        image_folder (`str`): folder of the images.
        output_dir (`str`): where answers and `scores.json` go. A folder that a killed run left is gone on with.
        benchmarks (`list[str]`, *optional*, defaults to `["chair", "pope"]`): what to measure.
        vocabulary (`str`, *optional*): file of object names and synonyms; defaults to those of COCO.
        partners (`str`, *optional*): JSON file from an object to the one that the model's prior puts beside it; the
            share of hallucinations that the prior explains is then reported.
        caption_prompt (`str`, *optional*, defaults to `"Describe the image."`): question for captions.
        pope_strategies (`list[str]`, *optional*, defaults to `["random", "popular", "adversarial"]`): how POPE picks
            objects that are not there.
        pope_questions_per_image (`int`, *optional*, defaults to `6`): half of them are answered by yes.
        pope_file (`str`, *optional*): published questions as JSON lines, instead of questions from the annotations.
        max_images (`int`, *optional*): use only the first images.
        max_new_tokens (`int`, *optional*, defaults to `256`): longest caption in tokens.
        batch_size (`int`, *optional*, defaults to `32`): questions that go through the model together.
        seed (`int`, *optional*, defaults to `0`): POPE questions and bootstrap samples derive from it.
    """

    annotations: str = field(metadata={"help": "COCO-style annotations."})
    image_folder: str = field(metadata={"help": "Folder of the images."})
    output_dir: str = field(metadata={"help": "Where answers and scores.json go."})
    benchmarks: list[str] = field(
        default_factory=lambda: ["chair", "pope"], metadata={"help": "What to measure.", "choices": ["chair", "pope"]}
    )
    vocabulary: str | None = field(default=None, metadata={"help": "File of object names and synonyms."})
    partners: str | None = field(default=None, metadata={"help": "JSON file of the objects that go together in text."})
    caption_prompt: str = field(default="Describe the image.", metadata={"help": "Question for captions."})
    pope_strategies: list[str] = field(
        default_factory=lambda: ["random", "popular", "adversarial"],
        metadata={"help": "How absent objects are picked."},
    )
    pope_questions_per_image: int = field(default=6, metadata={"help": "Half of them are answered by yes."})
    pope_file: str | None = field(default=None, metadata={"help": "Published POPE questions (JSON lines)."})
    max_images: int | None = field(default=None, metadata={"help": "Use only the first images."})
    max_new_tokens: int = field(default=256, metadata={"help": "Longest caption in tokens."})
    batch_size: int = field(default=32, metadata={"help": "Questions that go through the model together."})
    seed: int = field(default=0, metadata={"help": "Seed of POPE questions and bootstrap samples."})


def make_parser():
    from trl import TrlParser

    return TrlParser((EvalArguments,), prog="trl-mm eval")


def main(argv=None):
    (args,) = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    from accelerate import PartialState

    from ..data.images import resolve_image
    from ..eval.answers import answer_questions, read_answers
    from ..eval.objects import load_annotations

    state = PartialState()
    truths = load_annotations(args.annotations)
    truths = dict(list(truths.items())[: args.max_images])
    model, processor = load_model(args, state.device)
    scores = {}
    for name in args.benchmarks:
        questions = QUESTIONS[name](args, truths)
        located = [{**q, "image": resolve_image(q["image"], args.image_folder)["path"]} for q in questions]
        source = {"model": args.model_name_or_path, "model_revision": args.model_revision, "dtype": args.dtype}
        folder = Path(args.output_dir) / name
        answer_questions(
            model,
            processor,
            located,
            folder,
            {**source, "annotations": args.annotations, "max_images": args.max_images, "seed": args.seed},
            max_new_tokens=args.max_new_tokens if name == "chair" else min(args.max_new_tokens, 16),
            batch_size=args.batch_size,
            name=name,
            rank=state.process_index,
            world_size=state.num_processes,
        )
        state.wait_for_everyone()
        if state.is_main_process:
            scores[name] = SCORES[name](args, truths, questions, read_answers(folder))
    if state.is_main_process:
        path = Path(args.output_dir) / "scores.json"
        path.write_text(json.dumps(scores, indent=2) + "\n")
        print(f"{args.model_name_or_path}: {summary(scores)}\nScores in {path}")


def caption_questions(args, truths):
    return [{"image": image, "question": args.caption_prompt} for image in truths]


def pope_questions(args, truths):
    from ..eval.pope import pope_questions, read_pope_file

    if args.pope_file:
        return read_pope_file(args.pope_file)
    return [
        {**question, "strategy": strategy}
        for strategy in args.pope_strategies
        for question in pope_questions(
            truths, strategy=strategy, questions_per_image=args.pope_questions_per_image, seed=args.seed
        )
    ]


def chair_scores(args, truths, questions, captions):
    from ..eval.chair import chair
    from ..eval.intervals import bootstrap_ratio
    from ..eval.objects import ObjectVocabulary

    partners = json.loads(Path(args.partners).read_text()) if args.partners else None
    vocabulary = ObjectVocabulary.from_file(args.vocabulary)
    scores = chair(captions, list(truths.values()), vocabulary, partners=partners)
    counts = scores["counts"]
    ones = [1] * len(captions)
    parts = {
        "chair_i": (counts["hallucinated"], counts["mentions"]),
        "chair_s": (counts["any_hallucinated"], ones),
        "recall": (counts["named"], counts["annotated"]),
    }
    return {**scores, "intervals": {name: bootstrap_ratio(*part, seed=args.seed) for name, part in parts.items()}}


def pope_results(args, truths, questions, answers):
    from ..eval.pope import pope_scores

    strategies = dict.fromkeys(question.get("strategy", "file") for question in questions)
    results = {}
    for strategy in strategies:
        chosen = [index for index, question in enumerate(questions) if question.get("strategy", "file") == strategy]
        results[strategy] = pope_scores(
            [answers[index] for index in chosen], [questions[index]["label"] for index in chosen]
        )
        results[strategy]["images"] = [questions[index]["image"] for index in chosen]
    return results


def summary(scores):
    parts = []
    if "chair" in scores:
        parts += [f"{name} {scores['chair'][name]:.1%}" for name in ("chair_i", "chair_s", "recall")]
    for strategy, result in scores.get("pope", {}).items():
        parts.append(
            f"POPE {strategy} accuracy {result['accuracy']:.1%} (says yes {result['predicted_yes_share']:.1%})"
        )
    return ", ".join(parts)


QUESTIONS = {"chair": caption_questions, "pope": pope_questions}
SCORES = {"chair": chair_scores, "pope": pope_results}


if __name__ == "__main__":
    main()
