"""Rows to completions: the one place that samples from a model."""

from .completer import Completer
from .decoding import SamplingSettings, generating
from .prompts import Prompt, Request
from .sight import check_sees_images


__all__ = ["Completer", "Prompt", "Request", "SamplingSettings", "check_sees_images", "generating"]
