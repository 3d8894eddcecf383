"""Configs: specs, sections with their defaults, overrides, the checked run."""

from tsjax.config.values import arguments
from tsjax.config.sections import group
from tsjax.config.sections import run
from tsjax.config.sections import stage
from tsjax.config.sections import term
from tsjax.config.specs import spec

__all__ = ["arguments", "group", "run", "spec", "stage", "term"]
