"""POVID's distortion as published: what a model expects under a noisy image, scored after the chosen answer's tokens.

At each place of the chosen answer the likeliest token under the noisy image is the rejected one, and its
log-probability is taken under the clean image, π(ỹ-_t | y+_<t, x); the reference takes likeliest tokens of its own
(arXiv 2407.02477, the row "POVID's distortion").

What is unusual in it: there is no rejected answer to read. In TRL's layout it is the chosen one once more, with other
labels. Where prompts are shared it is no branch of its own either: the states that predict the chosen answer are
scored a second time.
"""

import functools
import types
from dataclasses import replace

import torch
from trl.models.utils import disable_gradient_checkpointing

from ..tokens.processor import TOKEN_INPUTS


TILE = 512  # tokens whose logits are in memory at a time
DISTORTION = "distortion"  # of a batch: what `DistortedModel` needs to know of it


def distorts(generator):
    """Whether a pair generator, if there is one, distorts images at each step instead of making pairs (`bool`)."""
    return getattr(generator, "distorts", False)


def check_distortion(args, data_collator):
    """Refuse what does not go with labels that are not those of the inputs."""
    if data_collator is not None or args.ld_alpha is not None:
        raise ValueError(
            "`mode='povid'` scores tokens that stand in no answer, which works without `data_collator` and `ld_alpha` "
            "only. Leave them out, or make the pairs before training (`online=False`)."
        )


def distorted_batch(trainer, rows):
    """
    Batch in which the chosen answers stand for the distorted ones.

    Args:
        trainer ([`MMDPOTrainer`]): the trainer.
        rows (`list[dict]`): SFT rows, or preference rows if the stored rejected answers count too.

    Returns:
        `dict`: batch as from [`PreferenceCollator`], with the chosen answers once more where sampled ones would be;
        and under `"distortion"` what the model reads to find the likeliest tokens (`inputs`, the chosen answers behind
        noisy images), and for each of `pairs` which rows stand for distorted answers (`stands_for`, a list of
        `torch.BoolTensor`; one for all rows if they go through the model together).
    """
    collator = trainer.pair_collator
    step = trainer.state.global_step if trainer.model.training else 0
    images = trainer.pair_generator.distorted_images(rows, step)
    noisy = [
        {**row, "images": distorted, "rejected": row["chosen"]} for row, distorted in zip(rows, images, strict=True)
    ]
    inputs = replace(collator, two_rejected=False, images_per_group=False)(noisy)  # each image has a noise of its own
    inputs.pop("completion_mask")
    if collator.images_per_prompt:
        inputs = {name: value[: len(rows)] if name in TOKEN_INPUTS else value for name, value in inputs.items()}
    no, yes = torch.zeros(len(rows), dtype=torch.bool), torch.ones(len(rows), dtype=torch.bool)
    if not collator.two_rejected:
        batch = collator([{**row, "rejected": row["chosen"]} for row in rows])
        stands_for = [torch.cat([no, yes])]
    else:
        batch = collator(
            [
                {**row, "rejected": row.get("rejected") or row["chosen"], "second_rejected": row["chosen"]}
                for row in rows
            ]
        )
        without = torch.tensor([not row.get("rejected") for row in rows])
        parts = [torch.cat([no, without]), torch.cat([no, yes])]
        stands_for = [torch.cat([parts[0], yes])] if collator.images_per_prompt else parts
    return {**batch, DISTORTION: {"inputs": inputs, "stands_for": stands_for}}


class DistortedModel:
    """
    A model to TRL's loss: the labels of answers that stand for distorted ones become the tokens that the model finds
    likeliest under the noisy images.

    Args:
        trainer ([`MMDPOTrainer`]): the trainer.
        model ([`~transformers.PreTrainedModel`]): policy or reference, as accelerate has prepared it.
        inputs (`dict`): what it reads to find the likeliest tokens.
        stands_for (`torch.BoolTensor` of shape `(num_answers * batch_size,)`): which rows are meant.
    """

    changed = None  # share of the answers' tokens that the last call has exchanged, of shape `()`

    def __init__(self, trainer, model, inputs, stands_for):
        self.trainer, self.model, self.inputs, self.stands_for = trainer, model, inputs, stands_for

    def __call__(self, labels, **inputs):
        if self.trainer.pair_collator.images_per_prompt:
            inputs["scored_again"] = True
        return self.model(labels=self._distorted(labels), **inputs)

    def _distorted(self, labels):
        """Labels of shape `(num_answers * batch_size, length)` with the likeliest tokens in place of the chosen."""
        chosen = labels[: len(self.inputs["input_ids"])]  # without prefix sharing the chosen answers are there twice
        likeliest = self._likeliest(chosen)
        self.changed = (likeliest != chosen).sum() / (chosen != -100).sum().clamp(min=1)
        repeats = len(labels) // len(likeliest)
        return torch.where(self.stands_for[:, None], likeliest.repeat(repeats, 1), labels)

    def _likeliest(self, labels):
        width = self.inputs["input_ids"].shape[1]  # stored rejected answers may be longer
        args = self.trainer.args
        with (
            torch.no_grad(),
            disable_gradient_checkpointing(self.trainer.model, args.gradient_checkpointing_kwargs),
        ):
            tokens = self.model(**self.inputs, likeliest=labels[:, :width] != -100)
        return torch.nn.functional.pad(tokens, (0, labels.shape[1] - width)).masked_fill(labels == -100, -100)


def find_likeliest(model):
    """
    Let the forward of a model take `likeliest` (`torch.BoolTensor` of shape `(num_rows, length)`, places of the
    answers) and return the likeliest tokens there, in a tensor of that shape.

    They come from the weight of the LM head, as in TRL's loss, and not from a call of that module: ZeRO-3 would take
    the weight away after it, which the loss still needs.

    Args:
        model ([`~transformers.PreTrainedModel`]): vision-language model.
    """
    inner_forward = model.forward

    @functools.wraps(type(model).forward)
    def forward(self, *args, likeliest=None, **kwargs):
        if likeliest is None:
            return inner_forward(*args, **kwargs)
        num_answers = len(likeliest)  # without prefix sharing every row is there twice
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state[
            :num_answers, :-1
        ]  # (B, T - 1, H)
        head = self.get_output_embeddings()
        # A softcap or a scale of the logits, which some models have, does not change which is the largest
        tokens = [
            torch.nn.functional.linear(states, head.weight, head.bias).argmax(-1)
            for states in hidden[likeliest[:, 1:]].split(TILE)
        ]
        found = torch.zeros(likeliest.shape, dtype=torch.long, device=likeliest.device)
        found[:, 1:][likeliest[:, 1:]] = torch.cat(tokens) if tokens else found.new_zeros(0)
        return found

    model.forward = types.MethodType(forward, model)
