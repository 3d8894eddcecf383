"""Linen modules, one family in each file; they know nothing of teachers."""

from tsjax.models.mlp import MLP
from tsjax.models.resnet import ResNet, ResNeXt

__all__ = ["MLP", "ResNeXt", "ResNet"]
