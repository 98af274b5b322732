from trl_mm.eval.per_image import sums_per_image


def test_columns_are_summed_for_each_image_in_the_order_of_the_images():
    assert sums_per_image(["b", "a", "b"], [1, 2, 3], [1, 1, 1]) == [[4, 2], [2, 1]]
    assert sums_per_image([], [], []) == [[], []]
