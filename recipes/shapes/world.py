"""The Shapes world: images of coloured shapes with exact truth, as ordinary files (PNG, JSONL, COCO annotations).

What is unusual in it: the bias lives in the text. Captions that come without an image name a type and then, most of
the time, its partner ("There is a red circle. There is a green square."), as text on its own does. The images show
independent, uniform draws of types and contradict that. A model trained on both has a language prior that its images
do not support, which is what makes real vision-language models hallucinate.
"""

import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm.auto import tqdm


COLOURS = {
    "red": (214, 40, 40),
    "green": (34, 139, 58),
    "blue": (32, 86, 200),
    "yellow": (240, 196, 25),
}
SHAPES = ("circle", "square", "triangle", "cross")
TYPES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
CELL, GRID = 28, 4  # pixels, cells per side: one cell is one patch of the vision tower
CAPTION_PROMPTS = ("Describe the image.", "What is in the image?")


def partner(name):
    """The type that text prefers right after `name`: the next colour and the next shape."""
    colour, shape = name.split()
    colours = list(COLOURS)
    return f"{colours[(colours.index(colour) + 1) % len(colours)]} {SHAPES[(SHAPES.index(shape) + 1) % len(SHAPES)]}"


def sentence(name):
    return f"There is a {name}."


def draw(rng, names, grid=GRID, filled=0.75):
    """One image of the given types, each at least once: about `filled` of the cells hold a shape of one of them."""
    ground = tuple(rng.randint(225, 255) for _ in range(3))
    image = Image.new("RGB", (CELL * grid, CELL * grid), ground)
    pen = ImageDraw.Draw(image)
    count = max(len(names), round(filled * grid * grid))
    shown = names + [rng.choice(names) for _ in range(count - len(names))]
    for name, cell in zip(shown, rng.sample(range(grid * grid), count), strict=True):
        colour, shape = name.split()
        fill = tuple(max(0, min(255, value + rng.randint(-14, 14))) for value in COLOURS[colour])
        radius = rng.randint(8, 12)
        x = cell % grid * CELL + CELL // 2 + rng.randint(-1, 1)
        y = cell // grid * CELL + CELL // 2 + rng.randint(-1, 1)
        box = (x - radius, y - radius, x + radius, y + radius)
        if shape == "circle":
            pen.ellipse(box, fill=fill)
        elif shape == "square":
            pen.rectangle(box, fill=fill)
        elif shape == "triangle":
            pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
        else:
            pen.rectangle((x - radius, y - 3, x + radius, y + 3), fill=fill)
            pen.rectangle((x - 3, y - radius, x + 3, y + radius), fill=fill)
    return image


def biased_text(rng, bias):
    """Types named one after the other as text without an image names them: the partner follows with chance `bias`."""
    names = [rng.choice(TYPES)]
    for _ in range(rng.randint(1, 4)):
        follower = partner(names[-1])
        if follower in names or rng.random() >= bias:
            follower = rng.choice([name for name in TYPES if name not in names])
        names.append(follower)
    return names


def caption(rng, names, noise):
    """Types in the order in which an annotator names them who, with chance `noise`, writes the partner of the type
    before instead of looking, if it is not there."""
    left = rng.sample(names, len(names))
    written = [left.pop()]
    while left:
        expected = partner(written[-1])
        careless = expected not in names and expected not in written and rng.random() < noise
        name = left.pop()
        written.append(expected if careless else name)
    return " ".join(sentence(name) for name in written)


def sft_row(row_id, images, question, answer):
    return {
        "row_id": row_id,
        "images": images,
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": answer}],
    }


def question_row(rng, row_id, image, names):
    yes = rng.random() < 0.5
    asked = rng.choice(names if yes else [name for name in TYPES if name not in names])
    return sft_row(row_id, [image], f"Is there a {asked} in the image?", "Yes." if yes else "No.")


class World:
    """Writes the files of a world below `folder`, all from one seed."""

    def __init__(self, folder, seed):
        self.folder, self.seed = Path(folder), seed

    def images(self, split, count, low, high):
        """Draw images of `low` to `high` different types; returns `[(path below the folder, types)]`."""
        rng = random.Random(f"{self.seed} {split}")
        (self.folder / "images" / split).mkdir(parents=True, exist_ok=True)
        found = []
        for index in tqdm(range(count), desc=f"{split} images", unit="image"):
            names = rng.sample(TYPES, rng.randint(low, high))
            path = f"images/{split}/{index:05d}.png"
            draw(rng, names).save(self.folder / path)
            found.append((path, names))
        return found

    def rows(self, name, rows):
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def annotations(self, split, images):
        """COCO-style instances: what `trl-mm eval` reads."""
        content = {
            "images": [{"id": index, "file_name": path} for index, (path, _) in enumerate(images)],
            "categories": [{"id": index, "name": name} for index, name in enumerate(TYPES)],
            "annotations": [
                {"id": f"{index}-{name}", "image_id": index, "category_id": TYPES.index(name)}
                for index, (_, names) in enumerate(images)
                for name in names
            ],
        }
        (self.folder / f"{split}.json").write_text(json.dumps(content))


def make_world(folder, settings):
    """
    Write a world: SFT rows (captions, questions and captions without an image), rows for BDHS, annotations.

    Args:
        folder (`str` or `Path`): where the files go.
        settings (`argparse.Namespace`): seed, sizes and shares, as on the command line.
    """
    world, rng = World(folder, settings.seed), random.Random(f"{settings.seed} rows")
    train = world.images("train", settings.train_images, settings.min_types, settings.max_types)
    captions = [
        sft_row(f"caption-{index}", [image], rng.choice(CAPTION_PROMPTS), caption(rng, names, settings.caption_noise))
        for index, (image, names) in enumerate(train)
    ]
    questions = [question_row(rng, f"question-{index}", image, names) for index, (image, names) in enumerate(train)]
    texts = [
        sft_row(
            f"text-{index}",
            [],
            rng.choice(CAPTION_PROMPTS),
            " ".join(map(sentence, biased_text(rng, settings.text_bias))),
        )
        for index in range(len(train))
    ]
    # Rows in training order, every kind throughout
    shares = [1 - settings.question_share - settings.text_share, settings.question_share, settings.text_share]
    kinds = rng.choices([captions, questions, texts], shares, k=settings.sft_rows)
    world.rows("sft.jsonl", [rng.choice(kind) for kind in kinds])
    # What is there, which the exact judge of online training looks up; captions alone do not tell
    world.rows("captions.jsonl", [{**row, "objects": names} for row, (_, names) in zip(captions, train, strict=True)])
    for split in ("validation", "test"):
        count = getattr(settings, f"{split}_images")
        world.annotations(split, world.images(split, count, settings.min_types, settings.max_types))
    (world.folder / "objects.txt").write_text("".join(f"{name}\n" for name in TYPES))
    (world.folder / "partners.json").write_text(json.dumps({name: partner(name) for name in TYPES}, indent=2) + "\n")


def make_parser():
    parser = argparse.ArgumentParser(description="Write the Shapes world.")
    parser.add_argument("--output_dir", required=True, help="folder of the world")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train_images", type=int, default=2000)
    parser.add_argument("--validation_images", type=int, default=300)
    parser.add_argument("--test_images", type=int, default=600)
    parser.add_argument("--sft_rows", type=int, default=16000, help="rows that the base is trained on, in order")
    parser.add_argument("--min_types", type=int, default=2, help="fewest types on an image")
    parser.add_argument("--max_types", type=int, default=5, help="most types on an image")
    parser.add_argument("--text_share", type=float, default=0.2, help="share of SFT rows without an image")
    parser.add_argument("--question_share", type=float, default=0.25, help="share of SFT rows that ask for yes or no")
    parser.add_argument("--text_bias", type=float, default=0.9, help="chance of the partner in text without an image")
    parser.add_argument(
        "--caption_noise", type=float, default=0.35, help="chance that a caption names an absent partner"
    )
    return parser


if __name__ == "__main__":
    arguments = make_parser().parse_args()
    make_world(arguments.output_dir, arguments)
