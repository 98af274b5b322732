"""TRL's trainers for image-text preference data. Samplers reach them as arguments."""
