"""`trl-mm eval`: hallucination of a model on annotated images, by CHAIR with recall and by POPE."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from .models import ModelArguments, check_model_path, load_model, load_processor
from .output_lock import alone_in
from .preflight import check_attention, check_writable
from .processes import partners_of, process_state
from .ranges import check_at_least, check_positive


@dataclass(kw_only=True)
class EvalArguments(ModelArguments):
    """
    Arguments of `trl-mm eval`.

    Args:
        annotations (`str`, *optional*): COCO-style JSON with `images`, `annotations` and `categories`. CHAIR and
            POPE's questions need it; published POPE questions (`pope_files`) do not.
        image_folder (`str`): folder of the images.
        output_dir (`str`): where answers and `scores.json` go. A killed run's folder is resumed.
        benchmarks (`list[str]`, *optional*, defaults to `["chair", "pope"]`): what to measure.
        captions (`str`, *optional*): COCO-style JSON of reference captions. The objects that they name join the truth
            of CHAIR, as in the published CHAIR. They are found by our vocabulary, not by the published
            synonyms list.
        vocabulary (`str`, *optional*): file of object names and synonyms; defaults to those of COCO.
        partners (`str`, *optional*): JSON file from an object to the one that the model's prior puts beside it; the
            share of hallucinations that the prior explains is then reported.
        caption_prompt (`str`, *optional*, defaults to `"Describe the image."`): question for captions.
        pope_strategies (`list[str]`, *optional*, defaults to `["random", "popular", "adversarial"]`): how POPE picks
            objects that are not there.
        pope_questions_per_image (`int`, *optional*, defaults to `6`): half of them are answered by yes.
        pope_files (`list[str]`, *optional*): published questions, instead of questions from the annotations: the files
            of POPE, RePOPE or POPEv2, as JSON lines or arrays. Each is a category, and all of it is asked. Answers are
            read and scored as published.
        pope_suffix (`str`, *optional*): what follows each question of POPE on a line of its own. LLaVA's is "Answer
            the question using a single word or phrase.".
        max_images (`int`, *optional*): use only the first images of the annotations.
        max_new_tokens (`int`, *optional*, defaults to `256`): longest caption in tokens.
        batch_size (`int`, *optional*, defaults to `32`): questions that go through the model together.
        seed (`int`, *optional*, defaults to `0`): POPE questions and bootstrap samples derive from it.
    """

    annotations: str | None = field(default=None, metadata={"help": "COCO-style annotations."})
    image_folder: str = field(metadata={"help": "Folder of the images."})
    output_dir: str = field(metadata={"help": "Where answers and scores.json go."})
    benchmarks: list[str] = field(
        default_factory=lambda: ["chair", "pope"], metadata={"help": "What to measure.", "choices": ["chair", "pope"]}
    )
    captions: str | None = field(default=None, metadata={"help": "COCO-style reference captions, for CHAIR."})
    vocabulary: str | None = field(default=None, metadata={"help": "File of object names and synonyms."})
    partners: str | None = field(default=None, metadata={"help": "JSON file of the objects that go together in text."})
    caption_prompt: str = field(default="Describe the image.", metadata={"help": "Question for captions."})
    pope_strategies: list[str] = field(
        default_factory=lambda: ["random", "popular", "adversarial"],
        metadata={"help": "How absent objects are picked."},
    )
    pope_questions_per_image: int = field(default=6, metadata={"help": "Half of them are answered by yes."})
    pope_files: list[str] | None = field(default=None, metadata={"help": "Files of published POPE questions."})
    pope_suffix: str | None = field(default=None, metadata={"help": "Last line of each question of POPE."})
    max_images: int | None = field(default=None, metadata={"help": "Use only the first images of the annotations."})
    max_new_tokens: int = field(default=256, metadata={"help": "Longest caption in tokens."})
    batch_size: int = field(default=32, metadata={"help": "Questions that go through the model together."})
    seed: int = field(default=0, metadata={"help": "Seed of POPE questions and bootstrap samples."})

    def __post_init__(self):
        check_positive(self, "process_timeout")
        check_at_least(self, pope_questions_per_image=2, max_images=1, max_new_tokens=1, batch_size=1, seed=0)


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((EvalArguments,), prog="trl-mm eval")


def main(argv=None):
    (args,) = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    check_model_path(args.model_name_or_path)
    check_attention(args.attn_implementation)
    check_writable("output_dir", args.output_dir)
    state = process_state(args.process_timeout)
    with alone_in(output_dir=args.output_dir):
        run(args, state)
    state.destroy_process_group()


def run(args, state):
    from ..data.fingerprints import weights_digest
    from ..data.images import resolve_image
    from ..eval.answers import answer_questions, check_questions, read_answers
    from ..eval.pope_categories import pope_headline

    for name in args.benchmarks:
        if name not in QUESTIONS:
            raise ValueError(f"`benchmarks` has no {name!r}. Known: {', '.join(QUESTIONS)}.")
    truths = read_truths(args)
    # Everything that can be wrong in the files is found before the model is loaded
    questions = {name: QUESTIONS[name](args, truths) for name in args.benchmarks}
    located = {
        name: [{**q, "image": resolve_image(q["image"], args.image_folder)["path"]} for q in asked]
        for name, asked in questions.items()
    }
    measures = {name: SCORES[name](args, truths) for name in args.benchmarks}
    processor = load_processor(args)
    for name, asked in questions.items():
        check_questions(asked, processor, name)
    model = load_model(args, state.device)
    settings = {
        "model": args.model_name_or_path,
        "model_revision": args.model_revision,
        "weights": weights_digest(model, args.model_name_or_path),
        "dtype": args.dtype,
    }
    scores: dict = {}
    partners = partners_of(state, args.process_timeout)
    for name in args.benchmarks:
        folder = Path(args.output_dir) / name
        answer_questions(
            model,
            processor,
            located[name],
            folder,
            {**settings, **({"pope_suffix": args.pope_suffix} if name == "pope" and args.pope_suffix else {})},
            max_new_tokens=longest_answer(args, name),
            batch_size=args.batch_size,
            name=name,
            rank=state.process_index,
            world_size=state.num_processes,
        )
        partners.wait()
        state.wait_for_everyone()
        if state.is_main_process:
            scores[name] = measures[name](questions[name], read_answers(folder))
    if state.is_main_process:
        path = Path(args.output_dir) / "scores.json"
        if "pope" in scores:
            scores = {**pope_headline(scores["pope"], seed=args.seed), **scores}
        path.write_text(json.dumps(scores, indent=2) + "\n")
        print(f"{args.model_name_or_path}\n{summary(scores)}\nScores in {path}")


def read_truths(args):
    """Objects of each image (`dict[str, set[str]]`), or none where only published questions are asked."""
    from ..eval.objects import load_annotations

    if args.annotations is None:
        if "chair" in args.benchmarks or not args.pope_files:
            raise ValueError(
                "`annotations` is missing: CHAIR and POPE's questions are made of them. Pass a COCO-style JSON such "
                "as instances_val2014.json, or ask published questions only: --benchmarks pope --pope_files FILE ..."
            )
        return {}
    return dict(list(load_annotations(args.annotations).items())[: args.max_images])


def longest_answer(args, name):
    """Tokens that answers to a benchmark may have."""
    if name == "chair":
        return args.max_new_tokens
    # The published reading looks through the first sentence, of LLaVA's 128 tokens; ours at the first word
    return min(args.max_new_tokens, 128 if args.pope_files else 16)


def caption_questions(args, truths):
    return [{"image": image, "question": args.caption_prompt} for image in truths]


def pope_questions(args, truths):
    from ..eval.pope import pope_questions
    from ..eval.pope_files import read_pope_files, with_suffix

    questions = read_pope_files(args.pope_files) if args.pope_files else []
    for strategy in args.pope_strategies if not args.pope_files else ():
        asked = pope_questions(
            truths, strategy=strategy, questions_per_image=args.pope_questions_per_image, seed=args.seed
        )
        questions += [{**question, "category": strategy} for question in asked]
    return [{**row, "question": with_suffix(row["question"], args.pope_suffix)} for row in questions]


def chair_scores(args, truths):
    from ..eval.captions import add_objects_of_captions, load_captions
    from ..eval.chair import chair
    from ..eval.compare import metric_parts
    from ..eval.intervals import bootstrap_ratio
    from ..eval.objects import ObjectVocabulary

    partners = read_partners(args.partners) if args.partners else None
    vocabulary = ObjectVocabulary.from_file(args.vocabulary)
    if args.captions:
        truths = add_objects_of_captions(truths, load_captions(args.captions), vocabulary)
    chair([""] * len(truths), list(truths.values()), vocabulary, partners=partners)  # refuses unknown names

    def score(questions, captions):
        scores = chair(captions, list(truths.values()), vocabulary, partners=partners)
        parts = metric_parts({"chair": scores})
        return {**scores, "intervals": {name: bootstrap_ratio(*part, seed=args.seed) for name, part in parts.items()}}

    return score


def read_partners(path):
    """Objects that go together in text (`dict[str, str]`), from a JSON file."""
    cure = 'Write {"object": "its partner"} to it.'
    try:
        partners = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise OSError(f"`partners` ({path}) cannot be read: {error}. {cure}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`partners` ({path}) is no JSON: {error}. {cure}") from error
    if not isinstance(partners, dict) or not all(isinstance(name, str) for name in partners.values()):
        raise ValueError(f"`partners` ({path}) does not say which object goes with which. {cure}")
    return partners


def pope_results(args, truths):
    from ..eval.pope_categories import pope_categories

    reading = "published" if args.pope_files else "strict"
    return lambda questions, answers: pope_categories(questions, answers, reading=reading, seed=args.seed)


def summary(scores):
    """Figures with their 95 % intervals as text, and a warning where answers say nothing about the model's sight."""
    lines = []
    if "pope" in scores:
        overall = {"intervals": scores["pope_intervals"], **scores}
        lines.append(
            f"POPE: F1 {_figure(overall, 'pope_f1')} (mean of {len(scores['pope'])} categories), accuracy "
            f"{_figure(overall, 'pope_accuracy')}, says yes {_figure(overall, 'pope_yes_share')}"
        )
    if "chair" in scores:
        chair = scores["chair"]
        figures = ", ".join(f"{name} {_figure(chair, name)}" for name in ("chair_i", "chair_s", "recall"))
        lines.append(
            f"{len(chair['counts']['mentions'])} captions, {chair['mentions_per_caption']:.1f} objects named in each: "
            f"{figures}"
        )
        if not chair["mentions_per_caption"]:
            lines.append("No caption names an object of the vocabulary: chair_i and chair_s say nothing. Read them.")
    for category, result in scores.get("pope", {}).items():
        asked, unreadable = len(result["correct"]), result["unreadable"]
        figures = ", ".join(f"{name} {_figure(result, name)}" for name in ("f1", "accuracy", "precision", "recall"))
        lines.append(
            f"POPE {category}, {asked} questions: {figures}, says yes {_figure(result, 'predicted_yes_share')}, "
            f"neither yes nor no {unreadable} ({unreadable / asked:.1%}), read as {READ_AS[result['reading']]}"
        )
        if unreadable > asked / 2:
            lines.append("Most answers are neither yes nor no. Read them.")
    lines.append("[95 % intervals] are over images: these weights on other images. Another training may differ more.")
    return "\n".join(lines)


def _figure(scores, name):
    low, high = scores["intervals"][name]
    return f"{scores[name]:.1%} [{low:.1%}, {high:.1%}]"


# What the readings of POPE make of an answer that is neither yes nor no
READ_AS = {"strict": "wrong", "published": "yes unless a no is in it"}
QUESTIONS = {"chair": caption_questions, "pope": pope_questions}
SCORES = {"chair": chair_scores, "pope": pope_results}


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
