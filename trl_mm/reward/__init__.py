"""Reward models that see the images."""
