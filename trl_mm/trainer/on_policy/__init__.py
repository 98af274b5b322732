"""What online training has beside a trainer: ranked answers, vLLM, losses with weights, logs."""
