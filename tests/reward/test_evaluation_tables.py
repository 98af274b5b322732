from trl_mm.reward.evaluation_tables import LENGTHS, evaluation_tables
from trl_mm.reward.measures import LENGTH_BUCKETS, measure_pairs


def test_one_row_for_each_dataset_with_its_blind_twin():
    seeing = measure_pairs([1.0, 2.0, -1.0, 3.0], [(2, 1), (10, 12), (10, 10), (5, 1)])
    blind = measure_pairs([1.0, -2.0, -1.0, 3.0])
    accuracy, lengths, confidence = evaluation_tables({"a": seeing, "a_blind": blind, "b_blind": blind})
    assert accuracy.rows == [
        ["a", "4", "75.0%", "50.0%", "62.5%", "66.7%", f"{seeing['ece']:.3f}"],
        ["b_blind", "4", "50.0%", "–", "–", "–", f"{blind['ece']:.3f}"],
    ]
    assert lengths.rows == [["a", "–", "100% (1)", "0% (1)", "–", "100% (2)"]]
    assert [len(row) for row in confidence.rows] == [11, 11] == [len(confidence.header)] * 2
    title, header, first, second = str(accuracy).splitlines()
    assert title == "Accuracy:" and len(set(map(len, (header, first, second)))) == 1
    assert list(LENGTHS) == list(LENGTH_BUCKETS)
    assert evaluation_tables({}) == []
