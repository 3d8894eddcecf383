"""Tasks: what is predicted, and the metrics that are theirs."""

from tsjax.tasks.classification import Classification

__all__ = ["Classification"]
