# /// script
# requires-python = ">=3.11"
# dependencies = ["trl-mm"]
# ///
"""
Rows of a layout of one's own: a converter is a pure function of one row that returns a row, a list of rows, or raises
`LeftOut` for what is no pair. Left-out rows are counted by reason.

python examples/own_converter.py --dataset ratings.jsonl --image_folder photos
"""

import argparse

from trl_mm import load_preferences
from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.converters.pairs import pair


def rated_answers(row):
    """
    `{"photo": "a.jpg", "question": "What is it?", "answers": [{"text": "A cat.", "stars": 5}, {"text": "A dog.",
    "stars": 1}]}` becomes the pair of its best and its worst answer.
    """
    answers = sorted(row["answers"], key=lambda answer: answer["stars"])
    worst, best = answers[0], answers[-1]
    if best["stars"] == worst["stars"]:
        raise LeftOut("tie")
    rating = {"chosen_rating": best["stars"], "rejected_rating": worst["stars"]}
    return pair([row["photo"]], row["question"], best["text"], worst["text"], **rating)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--image_folder")
    args = parser.parse_args(argv)

    rows = load_preferences(args.dataset, converter=rated_answers, image_folder=args.image_folder)
    print(rows)  # for `MMDPOTrainer(train_dataset=rows)`
    return rows


if __name__ == "__main__":
    main()
