"""`scores.json` of `trl-mm eval`, and what the terminal shows of it."""

import json

from ..eval.benchmarks import BENCHMARKS


def scored(model, parts, judges, seed):
    """
    Judge and score the answers of a model.

    Args:
        model ([`~trl_mm.scripts.eval_models.EvaluatedModel`]): the model, its answers finished.
        parts (`list[Part]`): what it was asked.
        judges (`dict[str, Ask]`): the judge of each benchmark that needs one.
        seed (`int`): seed of the bootstrap.

    Returns:
        `dict[str, Any]`: what stands in `scores.json`.
    """
    from ..eval.answers import read_answers
    from ..eval.judging import judge_answers

    results = {}
    for part in parts:
        folder, questions = model.folder / part.name, part.questions
        answers = read_answers(folder)
        if part.name in judges:
            judged = folder / "judged.jsonl"
            questions = judge_answers(part.benchmark, questions, part.asked, answers, judges[part.name], judged)
        results[part.name] = part.benchmark.score(questions, answers, seed=seed)
    return with_overall(results, seed)


def write_json(path, content):
    """Write a JSON file in one step: who reads it sees the old content or the new one."""
    from ..data.atomic_file import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "main") as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


def with_overall(results, seed):
    """Scores as they are written: in front of the results of the benchmarks what each says over all its parts."""
    scores = {}
    for name, result in results.items():
        scores |= BENCHMARKS[name].overall(result, seed=seed)
    return scores | results


def summary(scores):
    """Figures with their 95 % intervals as text."""
    shown = {name: benchmark for name, benchmark in BENCHMARKS.items() if name in scores}
    lines = [line for benchmark in shown.values() for line in benchmark.headline(scores)]
    lines += [line for name, benchmark in shown.items() for line in benchmark.lines(scores[name])]
    lines.append("[95 % intervals] are over images: these weights on other images. Another training may differ more.")
    return "\n".join(lines)
