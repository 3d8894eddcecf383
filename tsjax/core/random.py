"""Random keys that are a function of seed, stream and step."""

import zlib

import jax


def stream(name: str) -> int:
  """A stable 32-bit number for a stream's name (never Python's salted hash)."""
  return zlib.crc32(name.encode())


def key(seed: jax.Array | int, name: str, step: jax.Array | int = 0):
  """The key of stream `name` at `step`; all but the name may be traced.

  Args:
    seed: the run's seed.
    name: the stream: "init", "dropout", "view/plain", ...
    step: the step, or any other counter.
  """
  base = jax.random.key(seed)
  return jax.random.fold_in(jax.random.fold_in(base, stream(name)), step)
