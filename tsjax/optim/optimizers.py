"""Directions of descent.

An optimizer here is optax's, without its learning rate: the rate is a traced
scalar of the step, so that arms, schedules and stages share one executable. The
update is `-rate * group_rate * direction`, which is what optax's own aliases
compute. Each takes `decay`, a tree of factors for its weight decay.
"""

from typing import Any

import jax
import optax


def sgd(
  decay: Any,
  *,
  momentum: float = 0.9,
  nesterov: bool = False,
  weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  """SGD; weight decay is added to the gradient, before the momentum."""
  return optax.chain(
    _add_decay(weight_decay, decay),
    optax.trace(decay=momentum, nesterov=nesterov)
    if momentum
    else optax.identity(),
  )


def adam(
  decay: Any,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Adam (Kingma and Ba 2015, 1412.6980)."""
  del decay
  return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def adamw(
  decay: Any,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 1e-2,
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay (Loshchilov and Hutter, 1711.05101)."""
  return optax.chain(
    optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
    _add_decay(weight_decay, decay),
  )


def _add_decay(rate: float, factors: Any) -> optax.GradientTransformation:
  if not rate:
    return optax.identity()

  def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
    def add(u: jax.Array, p: jax.Array, factor: float) -> jax.Array:
      return u + rate * factor * p if factor else u

    return jax.tree.map(add, updates, params, factors), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
