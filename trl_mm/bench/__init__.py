"""Benchmarks that any user can run: ours and theirs in turn, in one process, on the same rows.

One file per benchmark: `measure(settings)` returns the figures, `summary(result)` their text for the terminal.
"""
