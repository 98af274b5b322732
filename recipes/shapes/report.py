"""The end of the quickstart: a table on the terminal, `results.json`, and an HTML page."""

import json

from datasets import Dataset
from PIL import Image

from trl_mm.eval.answers import read_answers
from trl_mm.eval.compare import compare_models
from trl_mm.eval.objects import ObjectVocabulary, load_annotations
from trl_mm.report.page import GalleryItem, Page


HEADERS = {
    "chair_i": "CHAIR_i",
    "chair_s": "CHAIR_s",
    "recall": "recall",
    "pope_accuracy": "POPE accuracy",
    "prior_share": "CHAIR_i by the prior",
}
EXPLANATION = (
    "CHAIR_i is the share of named objects that are not in the image, CHAIR_s the share of captions with at least one "
    'of them, recall the share of the objects in the image that are named. "By the prior" is the part of CHAIR_i '
    "that names the partner which text puts beside something that is there. POPE asks for yes or no about single "
    "objects.\n\n"
    "Base: SFT only. Control: SFT goes on with the chosen answers of the same pairs, for as many steps. Aligned: DPO "
    "on BDHS pairs. Figures are means over seeds on test images that no model has seen, with 95 % "
    "intervals; differences are intervals of the same kind, in percentage points. Each seed has a world of its own."
)


def write_report(runs, seeds, models, shown=12):
    """
    Compare the models on the test images.

    Args:
        runs (`Path`): folder with one folder per seed.
        seeds (`list[int]`): training seeds.
        models (`tuple[str]`): base, control, aligned.
        shown (`int`, *optional*, defaults to `12`): images in the gallery.

    Returns:
        `dict`: what `results.json` holds.
    """
    scores = {
        model: [json.loads((runs / f"seed{seed}/eval_test/{model}/scores.json").read_text()) for seed in seeds]
        for model in models
    }
    compared = compare_models(scores, first="aligned", second="base")
    results = {
        "seeds": seeds,
        "test_images": len(scores["base"][0]["chair"]["counts"]["mentions"]),
        **compared,
        "difference_to_control": compare_models(scores, first="aligned", second="control")["difference"],
    }
    (runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    rows = [[model, *(figure(results[model], metric) for metric in HEADERS)] for model in models]
    for name, key in (("base", "difference"), ("control", "difference_to_control")):
        rows.append([f"aligned - {name}", *(interval(results[key][metric]) for metric in HEADERS)])
    print(as_text(["model", *HEADERS.values()], rows))
    page = make_page(runs, seeds, models, results, rows, shown)
    print(f"\nFigures in {runs / 'results.json'}, page in {page.write(runs / 'report.html')}")
    return results


def make_page(runs, seeds, models, results, rows, shown):
    page = Page(
        "Shapes: does BDHS make a model hallucinate less?",
        f"{results['test_images']} unseen images per seed, seeds {', '.join(map(str, seeds))}",
    )
    page.table(["model", *HEADERS.values()], rows, highlight=[len(models) - 1])
    page.text(EXPLANATION)
    page.heading("Training")
    folder = runs / f"seed{seeds[0]}"
    page.plot("Base model: SFT loss", {"base": curve(folder / "base", "loss")}, "step", "loss (nats per token)")
    margins = {name: curve(folder / "aligned", f"rewards/{name}") for name in ("chosen", "rejected", "margins")}
    page.plot("Aligned model: rewards", margins, "step", "β · log-ratio (nats)")
    page.plot("Aligned model: DPO loss", {"aligned": curve(folder / "aligned", "loss")}, "step", "loss (nats)")
    page.heading("What the models say")
    page.gallery(captions(folder, models, shown), caption=f"The first {shown} test images, seed {seeds[0]}.")
    page.heading("Pairs that were trained on")
    page.gallery(pairs(folder, shown // 2))
    return page


def captions(folder, models, shown):
    truths = load_annotations(folder / "world" / "test.json")
    vocabulary = ObjectVocabulary.from_file(folder / "world" / "objects.txt")
    said = {model: read_answers(folder / "eval_test" / model / "chair") for model in models if model != "control"}
    items = []
    for index, (image, truth) in enumerate(list(truths.items())[:shown]):
        answers = [(model, texts[index], marks(texts[index], truth, vocabulary)) for model, texts in said.items()]
        items.append(GalleryItem(Image.open(folder / "world" / image), ", ".join(sorted(truth)), answers))
    return items


def pairs(folder, shown):
    vocabulary = ObjectVocabulary.from_file(folder / "world" / "objects.txt")
    shard = Dataset.from_parquet(str(sorted((folder / "pairs").glob("shard-*.parquet"))[0]))
    items = []
    for row in shard.select(range(min(shown, len(shard)))):
        chosen, rejected = (row[name][0]["content"] for name in ("chosen", "rejected"))
        named = {mention.object for mention in vocabulary.mentions(chosen)}
        answers = [("chosen", chosen, []), ("rejected", rejected, marks(rejected, named, vocabulary))]
        title = f"attempt {row['bdhs_attempts']}, similarity {row['bdhs_similarity']:.2f}"
        items.append(GalleryItem(row["images"][0], title, answers))
    return items


def marks(text, truth, vocabulary):
    return [
        (mention.start, mention.end, "good" if mention.object in truth else "bad")
        for mention in vocabulary.mentions(text)
    ]


def curve(folder, name):
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [(entry["step"], entry[name]) for entry in history if name in entry]


def figure(model, metric):
    return f"{100 * model[metric]:.1f} % {interval(model['intervals'][metric])}"


def interval(bounds):
    return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"


def as_text(headers, rows):
    widths = [max(len(str(line[column])) for line in [headers, *rows]) for column in range(len(headers))]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in [headers, *rows]
    ]
    return "\n".join(["", lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
