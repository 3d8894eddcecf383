"""Optimizers from optax, and groups of parameters."""

from tsjax.optim.optimizers import adam
from tsjax.optim.optimizers import adamw
from tsjax.optim.optimizers import sgd

__all__ = ["adam", "adamw", "sgd"]
