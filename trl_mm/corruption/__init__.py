"""Rejected answers by a text model that rewrites chosen ones with plausible errors."""
