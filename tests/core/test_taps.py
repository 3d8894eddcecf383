"""Taps: values under path-like names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import errors, taps


class Layer(nn.Module):
  """Doubles, and offers what it saw."""

  @nn.compact
  def __call__(self, x):
    return 2 * taps.tap(self, "input", x)


class Model(nn.Module):
  """Two layers, or one that is called twice."""

  shared: bool = False

  @nn.compact
  def __call__(self, x):
    first = Layer(name="first")
    second = first if self.shared else Layer(name="second")
    return taps.tap(self, "features", second(first(x)))


def sown(**options):
  _, changed = Model(**options).apply(
    {}, jnp.float32(1), mutable=[taps.COLLECTION]
  )
  return changed[taps.COLLECTION]


def test_names_are_paths():
  named = taps.named(sown())
  assert {name: float(value) for name, value in named.items()} == {
    "features": 4.0,
    "first/input": 1.0,
    "second/input": 2.0,
  }


def test_a_tap_costs_nothing_where_it_is_not_asked_for():
  assert Model().apply({}, jnp.float32(1)) == 4
  text = jax.jit(lambda x: Model().apply({}, x)).lower(jnp.float32(1)).as_text()
  read = jax.jit(lambda x: 4 * x).lower(jnp.float32(1)).as_text()
  assert text.count("return") == read.count("return")


def test_a_name_that_would_mean_two_values():
  with pytest.raises(
    errors.UserError, match=r"'first/input' was offered 2 times"
  ):
    taps.named(sown(shared=True))


def test_select_one_or_several():
  named = taps.named(sown())
  assert taps.select(named, "features", of="m") == 4
  first, second = taps.select(named, ("first/input", "second/input"), of="m")
  np.testing.assert_array_equal([first, second], [1, 2])
  with pytest.raises(
    errors.UserError, match=r"m offers no tap 'frist/input': .*'first/input'"
  ):
    taps.select(named, ("features", "frist/input"), of="m")
