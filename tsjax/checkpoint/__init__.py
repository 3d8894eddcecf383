"""Orbax checkpoints, verified when they are read."""
