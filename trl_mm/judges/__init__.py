"""Which of two answers to a prompt about images is better: local models, endpoints, reward functions."""
