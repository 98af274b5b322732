"""Which parts of a vision-language model train, at what rate and in which data type."""
