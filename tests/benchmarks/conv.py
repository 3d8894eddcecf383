"""Times the forms of a grouped 3x3 convolution on this machine's CPU.

    python -m tests.benchmarks.conv [--out conv.json] [--seconds 2]

Prints the milliseconds of a forward and of a backward (both gradients) for each
shape and form, the least of the repetitions, and which form `grouped_conv`
takes. `im2col` is a form that was tried and lost: it lives only here.
"""

import argparse
import functools
import json
import pathlib
import time

import jax
import jax.numpy as jnp

from tsjax.models import conv

# (batch, height and width, channels, groups, stride)
SHAPES = (
  (64, 8, 16, 4, 1),
  (64, 8, 32, 4, 1),
  (64, 8, 64, 4, 1),
  (64, 8, 64, 4, 2),
  (32, 32, 64, 8, 1),
  (32, 28, 128, 32, 1),
  (32, 14, 256, 32, 1),
  (32, 7, 512, 32, 1),
)
PADDING = ((1, 1), (1, 1))


def im2col(inputs, kernel, *, strides, padding, groups):
  """All windows in one array, then one batched matrix product."""
  height, width, channels, features = kernel.shape
  padded = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
  rows = (padded.shape[1] - height) // strides[0] + 1
  columns = (padded.shape[2] - width) // strides[1] + 1
  windows = [
    padded[
      :,
      i : i + (rows - 1) * strides[0] + 1 : strides[0],
      j : j + (columns - 1) * strides[1] + 1 : strides[1],
    ].reshape(-1, groups, channels)
    for i in range(height)
    for j in range(width)
  ]
  outputs = jnp.einsum(
    "ngtc,tcgf->ngf",
    jnp.stack(windows, axis=2),
    kernel.reshape(height * width, channels, groups, -1),
  )
  return outputs.reshape(-1, rows, columns, features)


FORMS = {
  "native": conv.native,
  "block_dense": conv.block_dense,
  "taps": conv.taps,
  "im2col": im2col,
  "grouped_conv": conv.grouped_conv,
}


def milliseconds(function, *arguments, seconds: float) -> float:
  """The least time of a call, over at least one repetition."""
  function = jax.jit(function)
  start = time.perf_counter()
  jax.block_until_ready(function(*arguments))
  # A first call this slow is not the compiler's time: do not repeat it.
  if time.perf_counter() - start > 8 * seconds:
    return 1e3 * (time.perf_counter() - start)
  least, end = float("inf"), time.perf_counter() + seconds
  while time.perf_counter() < end or least == float("inf"):
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    least = min(least, time.perf_counter() - start)
  return 1e3 * least


def measure(shape: tuple[int, ...], *, seconds: float) -> list[dict]:
  """One row per form for `(batch, size, channels, groups, stride)`."""
  batch, size, channels, groups, stride = shape
  keys = jax.random.split(jax.random.key(0), 3)
  inputs = jax.random.normal(keys[0], (batch, size, size, channels))
  kernel = jax.random.normal(keys[1], (3, 3, channels // groups, channels))
  out_size = (size - 1) // stride + 1
  cotangent = jax.random.normal(keys[2], (batch, out_size, out_size, channels))
  rows = []
  for name, form in FORMS.items():
    forward = functools.partial(
      form, strides=(stride, stride), padding=PADDING, groups=groups
    )

    def backward(inputs, kernel, cotangent, forward=forward):
      return jax.vjp(forward, inputs, kernel)[1](cotangent)

    rows.append(
      {
        "shape": shape,
        "form": name,
        "forward": milliseconds(forward, inputs, kernel, seconds=seconds),
        "backward": milliseconds(
          backward, inputs, kernel, cotangent, seconds=seconds
        ),
      }
    )
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=pathlib.Path)
  parser.add_argument("--seconds", type=float, default=2.0)
  options = parser.parse_args()
  table = []
  print(f"{'batch size chan grp str':26}{'form':14}{'fwd ms':>9}{'bwd ms':>10}")
  for shape in SHAPES:
    for row in measure(shape, seconds=options.seconds):
      table.append(row)
      label = " ".join(f"{number:4}" for number in shape)
      print(
        f"{label:26}{row['form']:14}{row['forward']:9.2f}"
        f"{row['backward']:10.2f}",
        flush=True,
      )
  if options.out:
    options.out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
  main()
