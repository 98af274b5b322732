"""The prompt and its images computed once for all answers to it, under the model: losses stay TRL's."""
