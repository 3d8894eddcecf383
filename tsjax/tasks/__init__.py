"""Tasks: what is predicted, and the metrics that are theirs."""
