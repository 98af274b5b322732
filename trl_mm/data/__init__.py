"""Rows in TRL's vision format: reading, checking, storing and collating them."""
