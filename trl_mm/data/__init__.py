"""Rows on disk: their format, reading, checking, storing and pushing them. No processor, no model."""
