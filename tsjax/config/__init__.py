"""Configs: specs, sections with their defaults, overrides, the checked run."""

from tsjax.config.loading import load
from tsjax.config.sections import ensemble, group, pull, run, stage, term
from tsjax.config.specs import spec
from tsjax.config.values import arguments

__all__ = [
  "arguments",
  "ensemble",
  "group",
  "load",
  "pull",
  "run",
  "spec",
  "stage",
  "term",
]
