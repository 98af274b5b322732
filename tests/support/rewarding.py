"""A tiny reward model whose score is not trained, but is not zero either."""

import torch
from transformers import AutoModelForSequenceClassification

import trl_mm.reward.models  # noqa: F401  makes its class known
from support.tiny import tiny_processor


def save_reward_model(folder, generation, num_labels=1):
    """Write one with the weights of a generation checkpoint, and its processor, into a folder; returns it (`str`)."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(generation, num_labels=num_labels)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)
