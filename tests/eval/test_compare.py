import pytest

from trl_mm.eval.compare import compare_models, metric_parts


def pope(images, correct):
    """Questions whose label is yes and no in turn."""
    labelled = [1, 0] * (len(images) // 2)
    said = [label if right else 1 - label for label, right in zip(labelled, correct, strict=True)]
    return {"images": images, "correct": correct, "labelled_yes": labelled, "predicted_yes": said}


def scores(hallucinated=(1, 0, 2), mentions=(2, 3, 4), prior=None, correct=(1, 1, 0, 0, 1, 1)):
    """Scores of three images as `trl-mm eval` writes them, as far as they are compared."""
    counts = {
        "mentions": list(mentions),
        "hallucinated": list(hallucinated),
        "any_hallucinated": [int(count > 0) for count in hallucinated],
        "annotated": [2, 2, 4],
        "named": [1, 2, 2],
    }
    if prior is not None:
        counts["prior"] = list(prior)
    return {
        "chair": {"counts": counts},
        "pope": {"random": pope(["a", "a", "b", "b", "c", "c"], list(correct)), "popular": pope(["c", "a"], [1, 0])},
    }


def test_metrics_are_counts_per_image():
    assert metric_parts(scores(prior=(1, 0, 0))) == {
        "chair_i": ([1, 0, 2], [2, 3, 4]),
        "chair_s": ([1, 0, 1], [1, 1, 1]),
        "recall": ([1, 2, 2], [2, 2, 4]),
        "prior_share": ([1, 0, 0], [2, 3, 4]),
        # A mean over strategies, of twice the right yes over the yes said or labelled; and all strategies together
        "pope_f1": ([[2, 0, 2], [0, 0, 2]], [[2, 2, 2], [1, 0, 2]]),
        "pope_accuracy": ([2, 0, 3], [3, 2, 3]),
        "pope_yes_share": ([2, 1, 2], [3, 2, 3]),
    }


def test_only_what_was_measured_is_compared():
    whole = scores()
    assert set(metric_parts({"pope": whole["pope"]})) == {"pope_f1", "pope_accuracy", "pope_yes_share"}
    assert set(metric_parts({"chair": whole["chair"]})) == {"chair_i", "chair_s", "recall"}


def test_figures_are_pooled_over_images():
    result = compare_models({"base": [scores()], "aligned": [scores((0, 0, 1))]}, first="aligned", second="base")
    base, aligned = result["base"], result["aligned"]
    assert base["chair_i"] == pytest.approx(3 / 9) and aligned["chair_i"] == pytest.approx(1 / 9)
    assert base["chair_s"] == pytest.approx(2 / 3) and aligned["chair_s"] == pytest.approx(1 / 3)
    assert base["recall"] == pytest.approx(5 / 8) and base["pope_accuracy"] == pytest.approx(5 / 8)
    assert set(result) == {"base", "aligned", "difference"}
    assert base["pope_f1"] == pytest.approx((4 / 6 + 2 / 3) / 2)
    metrics = {"chair_i", "chair_s", "recall", "pope_f1", "pope_accuracy", "pope_yes_share"}
    assert set(base) == metrics | {"intervals", "seeds"}
    assert set(aligned) == metrics | {"intervals", "seeds", "difference"}
    assert set(base["intervals"]) == set(result["difference"]) == metrics
    for metric in metrics:
        low, high = base["intervals"][metric]
        assert 0 <= low <= base[metric] <= high <= 1 and low < high


def test_the_difference_is_first_minus_second_on_the_same_images():
    better = scores((0, 0, 0), correct=(1,) * 6)
    result = compare_models({"base": [scores((1, 3, 4))], "aligned": [better]}, first="aligned", second="base")
    low, high = result["difference"]["chair_i"]
    assert -1 <= low < high < 0  # every image is better, so every sample of images is
    low, high = result["difference"]["pope_accuracy"]
    assert 0 <= low < high
    turned = compare_models({"base": [scores((1, 3, 4))], "aligned": [better]}, first="base", second="aligned")
    assert turned["difference"]["chair_i"][0] > 0


def test_a_model_does_not_differ_from_itself():
    seeds = [scores(), scores((2, 1, 0)), scores((0, 0, 0))]
    result = compare_models({"base": seeds}, first="base", second="base")
    assert set(map(tuple, result["difference"].values())) == {(0.0, 0.0)}


def test_figures_are_means_over_seeds():
    result = compare_models({"base": [scores((0, 0, 0)), scores((1, 0, 2), (2, 1, 3))]}, first="base", second="base")
    assert result["base"]["chair_i"] == pytest.approx((0 / 9 + 3 / 6) / 2)  # of the shares, not of the counts
    assert result["base"]["chair_s"] == pytest.approx((0 + 2 / 3) / 2)


def test_figures_of_each_seed_stand_beside_their_mean():
    seeds = [scores((0, 0, 0)), scores((1, 0, 2), (2, 1, 3)), scores(correct=(0,) * 6)]
    base = compare_models({"base": seeds}, first="base", second="base")["base"]
    assert base["seeds"]["chair_i"] == [0.0, 3 / 6, 3 / 9]
    assert base["seeds"]["pope_accuracy"] == [5 / 8, 5 / 8, 1 / 8]
    for metric, values in base["seeds"].items():
        assert base[metric] == pytest.approx(sum(values) / 3)


def test_every_model_differs_from_the_second_one():
    models = {"base": [scores((1, 3, 4))], "aligned": [scores((0, 0, 0))], "worse": [scores((2, 3, 4))]}
    result = compare_models(models, first="aligned", second="base")
    assert "difference" not in result["base"]
    assert result["aligned"]["difference"] == result["difference"]
    for name in ("aligned", "worse"):
        assert result[name]["difference"] == compare_models(models, first=name, second="base")["difference"]
    assert result["aligned"]["difference"]["chair_i"][1] < 0 <= result["worse"]["difference"]["chair_i"][0]


def test_a_metric_that_one_model_lacks_has_no_difference():
    whole = scores()
    result = compare_models({"base": [{"chair": whole["chair"]}], "all": [whole]}, first="all", second="base")
    assert set(result["difference"]) == set(result["all"]["difference"]) == {"chair_i", "chair_s", "recall"}
    assert "pope_accuracy" in result["all"] and "pope_accuracy" not in result["base"]


def test_equal_seeds_of_the_bootstrap_give_equal_intervals():
    many = [{"chair": {"counts": {name: list(range(1, 40)) for name in scores()["chair"]["counts"]}}} for _ in "ab"]
    many[0]["chair"]["counts"]["hallucinated"] = [1] * 39

    def run(seed):
        return compare_models({"a": many[:1], "b": many[1:]}, first="a", second="b", seed=seed)

    assert run(0) == run(0)
    assert run(0)["a"]["intervals"] != run(1)["a"]["intervals"]
    assert run(0)["difference"] != run(1)["difference"]
    assert run(0)["a"]["chair_i"] == run(1)["a"]["chair_i"]


def test_models_on_different_images_are_refused():
    other = scores()
    for name, counts in other["chair"]["counts"].items():
        other["chair"]["counts"][name] = counts[:2]
    with pytest.raises(ValueError, match="same images and seeds"):
        compare_models({"a": [scores()], "b": [other]}, first="a", second="b")
    with pytest.raises(ValueError, match="same images and seeds"):
        compare_models({"a": [scores()], "b": [scores(), scores()]}, first="a", second="b")
