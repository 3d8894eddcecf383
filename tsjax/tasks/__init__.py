"""Tasks: what is predicted, and the metrics that are theirs."""

from tsjax.tasks.classification import Classification
from tsjax.tasks.multi_label import MultiLabel
from tsjax.tasks.regression import Regression

__all__ = ["Classification", "MultiLabel", "Regression"]
