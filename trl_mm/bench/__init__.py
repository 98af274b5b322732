"""Benchmarks that any user can run: ours and theirs in turn, in one process, on the same rows."""
