import torch

from trl_mm.trainer.prefix_sharing.attention import boolean_mask
from trl_mm.trainer.prefix_sharing.packing import pack_pairs


def test_the_layout_of_packed_pairs():
    input_ids = torch.tensor([[1, 2, 3, 4, 5], [7, 8, 9, 0, 0], [1, 2, 3, 6, 0], [7, 8, 9, 9, 9]])
    labels = torch.tensor(
        [[-100, -100, -100, 4, 5], [-100, -100, 9, -100, -100], [-100, -100, -100, 6, -100], [-100, -100, 9, 9, 9]]
    )
    packed = pack_pairs(input_ids, labels)
    assert packed.num_shared == 2
    assert packed.input_ids.tolist() == [[1, 2, 3, 4, 3, 0], [7, 0, 8, 8, 9, 9]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 2, 0], [0, 1, 1, 1, 2, 3]]
    assert packed.row.tolist() == [[0, 0, 0, 0, 2, 2], [1, 1, 1, 3, 3, 3]]
    real = packed.branch >= 0
    assert torch.equal(packed.pack(input_ids)[real], packed.input_ids[real])
    assert torch.equal(packed.pack(torch.stack([input_ids, -input_ids]))[1], -packed.pack(input_ids))
    assert packed.branch.tolist() == [[0, 0, 1, 1, 2, -1], [0, -1, 1, 2, 2, 2]]
    assert packed.predicted.tolist() == [4, 5, 6, 9, 9, 9, 9]
    assert packed.unpack(packed.predicted).tolist() == [[0, 0, 4, 5], [0, 9, 0, 0], [0, 0, 6, 0], [0, 9, 9, 9]]
    assert packed.until.tolist() == [[6, 6, 4, 4, 5, 6], [6, 2, 3, 6, 6, 6]]
    assert packed.leader.tolist() == [0, 1]
    assert boolean_mask(packed.until)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]
    assert torch.equal(boolean_mask(packed.until, first=2), boolean_mask(packed.until)[:, :, 2:])


def test_prompts_without_answers_are_packed_to_nothing():
    packed = pack_pairs(torch.tensor([[1, 2], [1, 2]]), torch.full((2, 2), -100))
    assert packed.input_ids.shape == (1, 0) and packed.unpack(torch.zeros(0)).tolist() == [[0.0], [0.0]]
