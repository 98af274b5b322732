"""The summary says what the shards hold, and its hint what to change."""

import pytest

from trl_mm import BDHSConfig
from trl_mm.bdhs.summary import hint, summary
from trl_mm.data.loading import load_preferences, prepare_preferences
from trl_mm.data.shards import write_shards
from trl_mm.report.pair_page import pair_page


def pairs(folder, rows, **settings):
    """A folder of pairs with these attempts, similarities and rejected answers; row 1 of the source was skipped."""
    source = [{"index": index} for index in range(len(rows) + 1)]
    made = {index + (index > 0): row for index, row in enumerate(rows)}

    def transform(batch):
        return [
            {
                "chosen": [{"role": "assistant", "content": "There is a dog."}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "bdhs_attempts": attempts,
                "bdhs_similarity": similarity,
                "bdhs_guided": attempts < 5,
            }
            for attempts, similarity, rejected in (made[row["index"]] for row in batch if row["index"] in made)
        ]

    settings = {"bdhs": vars(BDHSConfig(**settings))}
    write_shards(folder, source, transform, settings, shard_size=2)
    return folder


def test_the_summary_is_that_of_all_shards(tmp_path):
    rows = [(1, 0.5, "A cat."), (1, 0.52, "A cat sits here now."), (2, 0.9, "No."), (5, 1.0, "There is a dog.")]
    assert summary(pairs(tmp_path, rows)).splitlines() == [
        "4 pairs from 5 rows",
        "",
        "attempt              made     kept  of made   of all   differ",
        "1                       4        2    50.0%    50.0%    50.0%",
        "2                       2        1    50.0%    25.0%    75.0%",
        "5                       1        1   100.0%    25.0%    75.0%",
        "",
        "words                 5 %   median     95 %",
        "chosen                  4        4        4",
        "rejected                1        4        5",
        "",
        "similarity of rejected to chosen",
        "0.5 – 0.55              2  ##############################",
        "0.55 – 0.6              0",
        "0.6 – 0.65              0",
        "0.65 – 0.7              0",
        "0.7 – 0.75              0",
        "0.75 – 0.8              0",
        "0.8 – 0.85              0",
        "0.85 – 0.9              0",
        "0.9 – 0.95              1  ###############",
        "0.95 – 1                1  ###############",
        "",
        "unguided 25.0%, rejected identical to chosen 25.0%",
    ]


def test_the_last_attempt_counts_where_its_answer_differs(tmp_path):
    rows = [(1, 0.5, "A cat."), (5, 0.2, "No."), (5, 0.99, "There is a dog.")]
    table = [line.split() for line in summary(pairs(tmp_path, rows)).splitlines()[3:5]]
    assert [(line[0], line[-1]) for line in table] == [("1", "33.3%"), ("5", "66.7%")]


def test_the_report_has_the_same_percentiles(tmp_path):
    rows = [(1, 0.5, "word " * (index * index % 37 + 1)) for index in range(40)]
    pairs(tmp_path, rows)
    said = next(line for line in summary(tmp_path).splitlines() if line.startswith("rejected"))
    dataset = load_preferences(tmp_path, needs=("chosen", "rejected"))
    dataset = dataset.add_column("prompt", dataset["chosen"][:])
    page, _ = pair_page("t", prepare_preferences(dataset.map(earlier), check_images=False))
    (row,) = [row for part in page._parts for row in part.get("rows", []) if row[0] == "words of rejected"]
    assert said.split()[1:] == row[1:]


def earlier(row):
    """The row with an earlier turn in its answers, which counts in neither."""
    turns = [{"role": "assistant", "content": "One two three."}, {"role": "user", "content": "And?"}]
    return {"prompt": turns[1:], **{name: turns + row[name] for name in ("chosen", "rejected")}}


def test_the_summary_of_no_pairs(tmp_path):
    assert summary(pairs(tmp_path, [])) == "0 pairs from 1 rows"


def test_a_hint_follows_the_figures(tmp_path):
    rows = [(1, 0.5, "A cat.")] * 20 + [(5, 0.99, "There is a dog.")] * 40
    last = summary(pairs(tmp_path, rows, mask_threshold=0.5)).splitlines()[-1]
    assert last == (
        "Hint: 33% of the answers were accepted at the first attempt (74 % in the paper), and 67% of the rows had "
        "none accepted: rejected answers are much like the chosen ones. Raise `mask_threshold` (now 0.5), so that the "
        "model sees less of the image."
    )


@pytest.mark.parametrize(
    ("settings", "first", "failed", "text"),
    [
        ({}, 740, 80, None),  # the paper's
        ({}, 100, 0, "Raise `mask_threshold` (now 0.99)"),
        ({}, 650, 200, "Raise `mask_threshold`"),
        ({"max_attempts": 2}, 740, 260, None),
        ({"max_attempts": 1}, 100, 900, "Raise `mask_threshold`"),
        ({"mask_threshold": 1.0}, 500, 300, "hidden completely: raise `temperature` (now 1.0)"),
        ({"mode": "noise"}, 500, 300, "Raise `noise_steps` (now 500)"),
        ({"mode": "povid"}, 0, 1000, None),
        ({}, 990, 0, "lower `mask_threshold` (now 0.99)"),
        ({"mode": "noise"}, 990, 0, "lower `noise_steps`"),
        ({"mask_threshold": 0.0}, 990, 0, None),  # nothing is hidden that could be shown
        ({"similarity": "lexical"}, 990, 0, None),
        ({"guided": False}, 990, 0, None),
    ],
)
def test_hints(settings, first, failed, text):
    found = hint(vars(BDHSConfig(**settings)), 1000, first, failed)
    assert found is None if text is None else text in found


def test_few_rows_give_no_hint():
    assert hint(vars(BDHSConfig()), 20, 0, 20) is None
