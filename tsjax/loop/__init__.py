"""Runs an experiment: builds it, checks it, trains its stages in order."""

from tsjax.loop.experiment import Experiment, fit

__all__ = ["Experiment", "fit"]
