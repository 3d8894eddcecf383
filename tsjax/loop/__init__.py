"""Runs an experiment: builds it, checks it, trains its stages in order."""

from tsjax.loop.experiment import Experiment
from tsjax.loop.experiment import fit

__all__ = ["Experiment", "fit"]
