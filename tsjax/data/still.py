"""A view as evaluation sees it: without its random draws."""

from collections.abc import Mapping
from typing import Any

import jax

from tsjax.data import views

__all__ = ["still"]


def still(view: views.View) -> views.View:
  """A view without its random draws, with any key.

  For teachers that shall see an example as it is, and for outputs of theirs
  that were computed once: `spec(still, view=spec(views.image, shift=1))`.

  Args:
    view: the view.
  """

  def seen(
    example: Mapping[str, jax.Array], key: jax.Array | None = None
  ) -> Any:
    del key
    return view(example, None)

  return seen


def within(spec: Any) -> Any:
  """What `still` holds still, of a view as JSON; another view is itself."""
  name = f"{still.__module__}.{still.__qualname__}"
  while isinstance(spec, dict) and spec.get("call") == name:
    spec = spec["view"]
  return spec
