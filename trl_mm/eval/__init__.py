"""Benchmarks: what a model says of an image, against what is in it. One short file each; none runs a model."""
