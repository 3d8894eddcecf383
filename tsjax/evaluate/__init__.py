"""What a model's outputs on a split come to, on the host."""
