"""What holds for every test: eight CPU devices and strict arithmetic."""

import os
import pathlib

# Before JAX is imported: it reads these once.
_DEVICES = "--xla_force_host_platform_device_count"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + f" {_DEVICES}=8"
  ).strip()
os.environ["JAX_PLATFORMS"] = "cpu"
# Beside pytest's own cache: the next run compiles less, and a test that calls
# `main` leaves the caller's own cache alone.
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR",
  str(pathlib.Path(__file__).resolve().parents[1] / ".pytest_cache" / "xla"),
)
# The second start of a run compiles many small programs again, too.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

# Rooms whose tests run Optax's optimizers or Linen's norms in bfloat16. Both
# promote: Adam's bias correction raises a float to an int32 power, a norm adds
# a float32 epsilon to a bfloat16 variance. Everywhere else promotion is ours.
_LIBRARIES_PROMOTE = ("checkpoint", "loop", "models", "optim", "train")


@pytest.fixture(autouse=True)
def strict_promotion(request):
  """Forbids implicit dtype promotion in the rooms that can do without it."""
  room = request.path.relative_to(pathlib.Path(__file__).parent).parts[0]
  if room in _LIBRARIES_PROMOTE or room.endswith(".py"):
    yield
    return
  with jax.numpy_dtype_promotion("strict"):
    yield


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """The folder of data sets beside the repository; skips where it is not."""
  path = pathlib.Path(__file__).resolve().parents[2] / "shared"
  if not path.is_dir():
    pytest.skip("needs the data sets in ../shared beside the repository")
  return path
