"""Optimizers from optax, and groups of parameters."""

from tsjax.optim.optimizers import adam, adamw, sgd

__all__ = ["adam", "adamw", "sgd"]
