"""Reference log-probabilities, computed once before training and kept on disk."""
