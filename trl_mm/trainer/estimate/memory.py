"""Memory that training takes on each GPU, estimated from shapes: no weight is loaded.

What is unusual in it: nothing is measured. Each term can be worked out by hand, and the tests do so.
"""

from dataclasses import asdict, dataclass

import numpy as np

from ..parts.model_parts import part_of


GIB = 2**30
BUCKET = 500_000_000  # DeepSpeed's `reduce_bucket_size`, in gradients
LIVE = 1_000_000_000  # DeepSpeed's `stage3_max_live_parameters`, in weights
TILE = (4096, 8192)  # tokens and vocabulary of the logits that TRL's fused LM head has at once
ASSUMPTIONS = (
    "Assumed: every row of the batch as long as the longest; attention that keeps no scores (not eager); DeepSpeed's "
    "default buckets; without the CUDA context (about 0.5 GiB), NCCL's buffers and fragmentation (5 to 20 %)."
)


@dataclass(frozen=True)
class LargestBatch:
    """
    The batch that takes most memory.

    Attributes:
        tokens (`int`): places that the language model computes, padding included.
        predicted (`int`): tokens of answers, which need logits.
        patches (`int`): patches that the vision tower computes.
    """

    tokens: int
    predicted: int
    patches: int


def largest_batch(counts, batch_size, patches=0, shared=True, answer_tokens=None, num_answers=2):
    """
    The batch of the longest rows.

    Args:
        counts ([`TokenCounts`]): tokens of the rows that are trained on.
        batch_size (`int`): rows in a batch.
        patches (`int`, *optional*, defaults to `0`): patches of the images of one row.
        shared (`bool`, *optional*, defaults to `True`): whether a prompt and its images are computed once.
        answer_tokens (`int`, *optional*): longest answer, if answers are still to be sampled.
        num_answers (`int`, *optional*, defaults to `2`): answers to a prompt.

    Returns:
        [`LargestBatch`]
    """
    chosen, rejected = counts.chosen, counts.rejected if counts.rejected.any() else counts.chosen
    if answer_tokens is not None:
        chosen = rejected = np.full_like(counts.prompt, answer_tokens)
    longer = np.maximum(chosen, rejected)
    answers = chosen + rejected + (num_answers - 2) * longer
    width = counts.prompt + answers if shared else num_answers * (counts.prompt + longer)
    batch_size = min(batch_size, len(counts))
    longest = np.argsort(width)[-batch_size:]
    return LargestBatch(
        tokens=batch_size * int(width[longest].max()),
        predicted=batch_size * int(answers[longest].max()),
        patches=batch_size * patches * (1 if shared else num_answers),
    )


def image_patches(images, processor, vision_config):
    """Patches (`int`) that the vision tower computes for the `images` of a row: pixels over those of a patch."""
    if not images:
        return 0
    pixels = processor.image_processor(images=images, return_tensors="pt")["pixel_values"].numel()
    frames = getattr(vision_config, "temporal_patch_size", 1)
    return pixels // (3 * frames * vision_config.patch_size**2)


@dataclass(frozen=True)
class Memory:
    """
    Bytes on each GPU, by what they hold, and in the CPU memory of each process.

    Attributes:
        weights (`int`): the policy; with mixed precision also the copies that autocast makes.
        reference (`int`): the reference model.
        gradients (`int`): gradients of what trains; with DDP also its buckets.
        optimizer (`int`): the optimizer's states, and under DeepSpeed float32 copies of what trains.
        buffers (`int`): DeepSpeed's buckets, and weights that are gathered from other processes.
        activations (`int`): of the largest batch, at its peak in the backward pass.
        host (`int`): what is offloaded, in CPU memory.
    """

    weights: int
    reference: int
    gradients: int
    optimizer: int
    buffers: int
    activations: int
    host: int

    @property
    def total(self):
        """Bytes (`int`) on each GPU."""
        return sum(size for name, size in asdict(self).items() if name != "host")

    def __str__(self):
        lines = [f"{name:16}{size / GIB:10.2f} GiB" for name, size in asdict(self).items() if name != "host"]
        lines.append(f"{'together':16}{self.total / GIB:10.2f} GiB")
        if self.host:
            lines.append(f"{'in CPU memory':16}{self.host / GIB:10.2f} GiB for each process")
        return "\n".join(lines)


def expected_memory(model, args, sharding, batch, reference=True, passes=1):
    """
    Estimate the memory of training.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the policy, with weights of the types that
            they are loaded in, and frozen where they do not train; may be on the meta device.
        args ([`~transformers.TrainingArguments`]): `optim` and `gradient_checkpointing`.
        sharding ([`Sharding`]): how it is spread.
        batch ([`LargestBatch`]): the largest batch of a process.
        reference (`bool`, *optional*, defaults to `True`): whether a reference model stands beside the policy.
        passes (`int`, *optional*, defaults to `1`): forwards of its language model before a backward; 2 with a value
            model, which is to be among the modules of `model`.

    Returns:
        [`Memory`]
    """
    parameters = list(model.named_parameters())
    half = sharding.mixed_precision != "no"
    cast = sharding.deepspeed and half  # DeepSpeed casts the module itself and keeps float32 copies of what trains
    size = {name: p.numel() * (2 if cast else p.element_size()) for name, p in parameters}
    trained = {name: p.numel() for name, p in parameters if p.requires_grad}
    weights, trained_size = sum(size.values()), sum(size[name] for name in trained)
    states, width = OPTIMIZER_STATES.get(getattr(args.optim, "value", args.optim), (2, None))
    element = width or (4 if cast else None)
    optimizer = states * (sum(trained.values()) * element if element else trained_size)
    optimizer += 4 * sum(trained.values()) if cast else 0
    gradients, buffers, copies = trained_size // sharding.over(2), 0, 0
    if sharding.deepspeed and sharding.zero_stage:
        buffers += BUCKET * (2 if half else 4)
    if sharding.deepspeed and sharding.zero_stage == 3:
        buffers += min(weights, LIVE * (2 if half else 4))
    elif sharding.zero_stage == 3:  # FSDP gathers a layer, and the next one
        buffers += 2 * max(size.values())
    elif not sharding.deepspeed and sharding.num_processes > 1:
        gradients *= 2  # DDP's buckets
    if half and not cast:
        # Autocast keeps a copy of what trains; the graph, without checkpointing, of what gradients pass through
        copies = sum(
            2 * p.numel()
            for name, p in parameters
            if p.element_size() == 4 and p.ndim > 1 and (p.requires_grad or not args.gradient_checkpointing)
        )
    split = {
        "weights": weights // sharding.over(3),
        "reference": weights // sharding.over(3) if reference else 0,
        "gradients": gradients,
        "optimizer": optimizer // sharding.over(1),
    }
    offloaded = [*(["gradients", "optimizer"] if sharding.offload_optimizer else [])]
    offloaded += ["weights", "reference"] if sharding.offload_weights else []
    on_gpu = {name: 0 if name in offloaded else bytes for name, bytes in split.items()}
    on_gpu["weights"] += copies // sharding.over(3)
    return Memory(
        **on_gpu,
        buffers=buffers,
        activations=activations(model, batch, cast, half, args.gradient_checkpointing, passes),
        host=sum(split[name] for name in offloaded),
    )


def activations(model, batch, cast, half, checkpointing, passes=1):
    """
    Bytes (`int`) that a forward keeps for the backward pass, and what the backward pass needs at its peak.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the policy.
        batch ([`LargestBatch`]): the batch.
        cast (`bool`): whether weights are in half precision whatever `model` says.
        half (`bool`): whether products are computed in half precision.
        checkpointing (`bool`): whether layers are computed again in the backward pass.
        passes (`int`, *optional*, defaults to `1`): as in [`expected_memory`].
    """
    text, vision = model.config.get_text_config(), model.config.vision_config
    stream = 2 if cast else model.get_input_embeddings().weight.element_size()  # bytes of a number between layers
    number = 2 if half else stream  # and of one within them
    language = LayerShape.of(text, gated=True)
    tower = LayerShape.of(vision, gated=False)
    trains = {part_of(name, model.config.model_type) for name, p in model.named_parameters() if p.requires_grad}
    kept, again = language.stack(batch.tokens, stream, number, checkpointing)
    if trains & {"vision tower", "vision part"}:
        kept += tower.stack(batch.patches, stream, number, checkpointing)[0]
    encoding = batch.patches * (tower.layers * tower.hidden * stream + tower.widest * number)
    vocabulary = text.vocab_size
    head = batch.predicted * language.hidden * (stream + number + 4)
    head += min(batch.predicted, TILE[0]) * min(vocabulary, TILE[1]) * (number + 4)
    if model.get_output_embeddings().weight.requires_grad:
        head += 4 * vocabulary * language.hidden  # its gradient is summed up in float32
    return int(max(passes * kept + max(again, head), encoding))


@dataclass(frozen=True)
class LayerShape:
    """Sizes of a stack of transformer layers: numbers per token, and layers."""

    layers: int
    hidden: int
    queries: int
    keys: int
    inner: int
    gated: bool

    @classmethod
    def of(cls, config, gated):
        """Sizes in a configuration, by whichever of the usual names it has."""

        def get(*names, default=None):
            return next((v for name in names if (v := getattr(config, name, None)) is not None), default)

        hidden, heads = get("embed_dim", "hidden_size"), get("num_attention_heads", "num_heads", default=1)
        width = get("head_dim", default=hidden // heads)
        inner = get("intermediate_size", default=int(hidden * get("mlp_ratio", default=4)))
        keys = get("num_key_value_heads", default=heads) * width
        return cls(get("num_hidden_layers", "depth"), hidden, heads * width, keys, inner, gated)

    @property
    def widest(self):
        """Numbers of a token that a forward without gradients has at once."""
        return 2 * self.hidden + max(2 * self.inner, self.queries + 2 * self.keys)

    def kept(self, stream, number):
        """
        Bytes that one layer keeps for one token: inputs of linear layers, of attention and of the activation function
        in `number` bytes each; what both norms read and divide, in float32 and in `stream` bytes.
        """
        within = 2 * self.hidden + 2 * self.queries + 2 * self.keys + (4 if self.gated else 2) * self.inner
        return number * within + 2 * self.hidden * (4 + stream)

    def stack(self, tokens, stream, number, checkpointing):
        """Bytes (`int`, `int`) that all layers keep, and that the backward pass of one of them adds."""
        layer = self.kept(stream, number)
        gradients = number * (3 if self.gated else 2) * self.inner + stream * 2 * self.hidden
        if not checkpointing:
            return tokens * self.layers * layer, tokens * gradients
        return tokens * self.layers * self.hidden * stream, tokens * (layer + gradients)


# `optim`: states of each weight, and bytes of each state if it has a type of its own. All others count as AdamW.
OPTIMIZER_STATES = {
    "adafactor": (0, 0),
    "sgd": (0, 0),
    "adagrad": (1, None),
    "rmsprop": (1, None),
    "lion_32bit": (1, 4),
    "lion_8bit": (1, 1),
    "adamw_bnb_8bit": (2, 1),
    "adamw_8bit": (2, 1),
    "adamw_torch_8bit": (2, 1),
    "adamw_torch_4bit": (2, 0.5),
    "paged_adamw_32bit": (2, 4),
    "paged_adamw_8bit": (2, 1),
    "paged_lion_32bit": (1, 4),
    "paged_lion_8bit": (1, 1),
}
