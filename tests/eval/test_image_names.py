import pytest

from trl_mm.eval.image_names import image_finder, sums_per_image


@pytest.mark.parametrize(
    "name",
    [
        "391895",
        "000000391895.jpg",
        "COCO_val2014_000000391895.jpg",
        "val2014/COCO_val2014_000000391895.jpg",
        r"a\391895.png",
    ],
)
def test_an_image_is_found_by_any_of_its_names(name):
    assert image_finder(["COCO_val2014_000000391895.jpg", "2.jpg"])(name) == "COCO_val2014_000000391895.jpg"
    assert image_finder([name, "2.jpg"])("391895") == name


def test_other_images_are_not_found():
    find = image_finder(["train/1.png", "val/1.png", "v1_2.png"])
    assert [find("train/1.png"), find("val/1.png")] == ["train/1.png", "val/1.png"]
    assert [find("1"), find("2"), find("COCO_1"), find("")] == [None] * 4


def test_counts_are_summed_per_image():
    assert sums_per_image(["b", "a", "b"], [1, 2, 4]) == [5, 2]
    assert sums_per_image(["b", "a", "b"], [1, 2, 4], ["a", "b", "c"]) == [2, 5, 0]
