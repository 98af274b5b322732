"""Rows as tests give them to trainers and commands."""

from datasets import Dataset, Image, List

from support.tiny import tiny_row


def said(text):
    """What the assistant says."""
    return [{"role": "assistant", "content": text}]


def tiny_pairs(count=4, rejected="There is a dog."):
    return [tiny_row(seed, rejected=said(rejected)) for seed in range(count)]


def image_dataset(rows):
    return Dataset.from_list(rows).cast_column("images", List(Image()))
