"""Keys: a function of seed, stream and step, the same on every machine."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from tsjax.core import random


def bits(*arguments):
  return tuple(np.asarray(jax.random.key_data(random.key(*arguments))).tolist())


def test_a_key_never_changes():
  # Recorded on 2026-11-23: a resumed run must draw what it would have drawn.
  assert random.stream("dropout") == 2458513353
  assert bits(0, "x") == (3924618079, 3558329763)


def test_seeds_streams_and_steps_differ():
  keys = [
    bits(seed, name, step)
    for seed, name, step in itertools.product(
      (0, 1, 2**32 - 1), ("init", "view/plain"), (0, 1)
    )
  ]
  assert len(set(keys)) == len(keys)


def test_traced_arguments_give_the_same_key():
  traced = jax.jit(lambda s, n: jax.random.key_data(random.key(s, "init", n)))
  assert tuple(traced(jnp.uint32(3), jnp.int32(5)).tolist()) == bits(
    3, "init", 5
  )
