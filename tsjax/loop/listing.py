"""`tsjax list`: what there is to name in a config, with a line each."""

import ast
from collections.abc import Iterator
import importlib
import pathlib

from tsjax.core import errors

# What is listed -> the packages or modules whose `__all__` names it.
ROOMS = {
  "models": ("tsjax.models",),
  "objectives": ("tsjax.objectives",),
  "sources": (
    "tsjax.data.sources",
    "tsjax.data.tables",
    "tsjax.data.image_folder",
    "tsjax.data.hugging_face",
    "tsjax.data.tfds_source",
  ),
  "views": ("tsjax.data.views", "tsjax.data.still"),
  "tasks": ("tsjax.tasks",),
  "optimizers": ("tsjax.optim",),
  "schedules": ("tsjax.core.schedules",),
  "starts": ("tsjax.distill.transfer",),
}
KINDS = (*ROOMS, "configs")


def lines(kind: str, *, configs: str = "configs") -> Iterator[str]:
  """Yields "module.name  first sentence of the docstring".

  Args:
    kind: one of `KINDS`.
    configs: the folder whose files `configs` lists.

  Raises:
    UserError: no such kind.
  """
  if kind == "configs":
    yield from _configs(pathlib.Path(configs))
    return
  if kind not in ROOMS:
    raise errors.UserError(f"tsjax list {kind}: {errors.nearest(kind, KINDS)}")
  for room in ROOMS[kind]:
    module = importlib.import_module(room)
    for name in module.__all__:
      value = getattr(module, name)
      short = value.__module__.removeprefix("tsjax.")
      yield f"{short}.{name}  {_sentence(value.__doc__)}"


def _sentence(text: str | None) -> str:
  first = " ".join((text or "").split("\n\n")[0].split())
  return first


def _configs(folder: pathlib.Path) -> Iterator[str]:
  if not folder.is_dir():
    raise errors.UserError(
      f"{folder}: no such folder; run `tsjax list configs` in the repository"
    )
  for path in sorted(folder.glob("*.py")):
    # Parsed and not run: a config is code.
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    yield f"{path}  {_sentence(text)}"
