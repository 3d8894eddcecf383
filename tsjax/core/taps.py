"""Taps: intermediate values of a model under stable, path-like names."""

from collections.abc import Iterator
import contextlib
import contextvars
from typing import Any

from flax import linen as nn
import flax.traverse_util
import jax

from tsjax.core import errors

COLLECTION = "taps"
_ORDER: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar(
  "order", default=None
)


def tap(module: nn.Module, name: str, value: jax.Array) -> jax.Array:
  """Offers `value` as the tap `path/of/module/name` and returns it unchanged.

  A tap that no term reads is dead code to the compiler.
  """
  order = _ORDER.get()
  if order is not None:
    order.append("/".join((*module.path, name)))
  module.sow(COLLECTION, name, value)
  return value


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
  """Collects the names of the taps that are offered, in the order of the calls.

  What a model returns has lost that order: JAX sorts the keys of dicts.
  """
  order: list[str] = []
  token = _ORDER.set(order)
  try:
    yield order
  finally:
    _ORDER.reset(token)


def named(collection: Any) -> dict[str, jax.Array]:
  """Turns the sown collection into `{"stage_1/output": value}`.

  Raises:
    UserError: a tap was offered twice, so its name would mean two values.
  """
  taps = {}
  for path, values in flax.traverse_util.flatten_dict(
    dict(collection), sep="/"
  ).items():
    if len(values) != 1:
      raise errors.UserError(
        f"tap {path!r} was offered {len(values)} times in one call; a module"
        " that is called more than once must name its taps apart"
      )
    taps[path] = values[0]
  return taps


def select(taps: dict[str, jax.Array], names: Any, *, of: str) -> Any:
  """Reads one tap by name, or a tuple of taps by a tuple of names."""
  if isinstance(names, str):
    if names not in taps:
      raise errors.UserError(
        f"{of} offers no tap {names!r}: {errors.nearest(names, taps)}"
      )
    return taps[names]
  return tuple(select(taps, name, of=of) for name in names)
