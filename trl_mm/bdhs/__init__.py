"""Bias-Driven Hallucination Sampling (arXiv 2407.02477): SFT rows in, preference rows out."""
