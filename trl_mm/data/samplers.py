"""What a trainer knows of the samplers that make its pairs. They reach it as arguments."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class PairGenerator(Protocol):
    """
    A callback that makes preference rows for the trainer it is given to.

    Attributes:
        online (`bool`): whether pairs are made from the current policy at each step, or once before training.
        needs (`tuple[str]`): columns that the rows must have.
        rejected_weight (`float` or `None`): weight of the `rejected` that a row has beside the one that is made, which
            is then `second_rejected`; `None` if pairs have one rejected answer.

    One may also have `distorts` (`bool`). If it is true, no pairs are made: rejected are the tokens that are likeliest
    at each place of the chosen answer under the images that `distorted_images(rows, step)` returns for each row
    (`list[list[PIL.Image.Image]]`).
    """

    online: bool
    needs: tuple[str, ...]
    rejected_weight: float | None

    def sample(self, model, processor, rows, step):
        """
        Make pairs from rows (`list[dict]`); returns the pairs and metrics (`dict[str, float]`), the same ones in every
        process. `step` is `None` in evaluation.
        """

    def make_dataset(self, model, processor, dataset, folder, rank, world_size):
        """Make pairs from a whole dataset and keep them in a folder; returns the folder with the finished shards."""

    def health(self, pairs):
        """Metrics (`dict[str, float]`) of the pairs of `make_dataset`, as loaded (`datasets.Dataset`)."""
