"""From rows to what the model reads: chat template, image tokens, lengths, batches."""
