"""The pair of configs/digits.py in PyTorch, and its step, for comparison.

`tests/benchmarks/loop.py` copies the weights of the JAX models into these and
checks that logits, loss and updates agree before it times anything.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.benchmarks import digits
from tsjax.distill import teachers
from tsjax.train import step as step_lib

# Largest differences that let a comparison go on.
LOGITS, LOSS, UPDATES = 1e-4, 1e-5, 1e-3

# What PyTorch calls a norm's leaves -> what Flax calls them.
NORM = {
  "weight": ("params", "scale"),
  "bias": ("params", "bias"),
  "running_mean": ("batch_stats", "mean"),
  "running_var": ("batch_stats", "var"),
}


class Block(nn.Module):
  """Two 3x3 convolutions, the second one grouped, and a shortcut."""

  def __init__(self, channels: int, features: int, stride: int, groups: int):
    super().__init__()
    self.conv_1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
    self.norm_1 = nn.BatchNorm2d(features)
    self.conv_2 = nn.Conv2d(
      features, features, 3, 1, 1, groups=groups, bias=False
    )
    self.norm_2 = nn.BatchNorm2d(features)
    self.changes = stride > 1 or channels != features
    if self.changes:
      self.shortcut_conv = nn.Conv2d(channels, features, 1, stride, bias=False)
      self.shortcut_norm = nn.BatchNorm2d(features)

  def forward(self, inputs: torch.Tensor) -> torch.Tensor:
    """Maps `[batch, channels, height, width]`."""
    outputs = functional.relu(self.norm_1(self.conv_1(inputs)))
    outputs = self.norm_2(self.conv_2(outputs))
    if self.changes:
      inputs = self.shortcut_norm(self.shortcut_conv(inputs))
    return functional.relu(outputs + inputs)


class Network(nn.Module):
  """`resnet.ResNet` or `resnet.ResNeXt` of one basic block per stage."""

  def __init__(self, *, width: int, groups: int, stages: int, classes: int):
    super().__init__()
    self.stem = nn.ModuleDict(
      {
        "conv": nn.Conv2d(1, width, 3, 1, 1, bias=False),
        "norm": nn.BatchNorm2d(width),
      }
    )
    self.stages = stages
    channels = width
    for i in range(stages):
      features = width * 2**i
      block = Block(channels, features, 1 if i == 0 else 2, groups)
      self.add_module(f"stage_{i + 1}", nn.ModuleDict({"block_1": block}))
      channels = features
    self.head = nn.Linear(channels, classes)

  def forward(self, inputs: torch.Tensor) -> torch.Tensor:
    """Maps `[batch, 1, height, width]` to `[batch, classes]`."""
    outputs = self.stem["norm"](self.stem["conv"](inputs))
    outputs = functional.relu(outputs)
    for i in range(self.stages):
      outputs = getattr(self, f"stage_{i + 1}")["block_1"](outputs)
    return self.head(outputs.mean((2, 3)))


def copy_into(network: Network, variables: Mapping[str, Any]) -> None:
  """Copies Flax variables into a network, every leaf of it exactly once."""
  state = network.state_dict()
  copied = 0
  for path in state:
    *folder, module, leaf = path.split(".")
    if leaf == "num_batches_tracked":
      continue
    collection, name = ("params", "kernel" if leaf == "weight" else leaf)
    if "norm" in module:
      collection, name = NORM[leaf]
    found = variables[collection]
    for part in (*folder, module, name):
      found = found[part]
    value = np.asarray(found)
    if name == "kernel":
      # [height, width, in, out] or [in, out]; here the outputs come first.
      value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
    if state[path].shape != value.shape:
      raise ValueError(f"{path}: {tuple(state[path].shape)}, {value.shape}")
    state[path] = torch.from_numpy(np.array(value))
    copied += value.size
  sizes = [_size(variables[name]) for name in ("params", "batch_stats")]
  if copied != sum(sizes):
    raise ValueError(f"{copied} numbers copied of {sum(sizes)}")
  network.load_state_dict(state)


def _size(tree: Any) -> int:
  if isinstance(tree, Mapping):
    return sum(_size(value) for value in tree.values())
  return np.asarray(tree).size


class Trainer:
  """The student's step: the teacher first, both terms, AdamW.

  Args:
    teacher: its weights stay; it runs in evaluation mode, without gradients.
    student: trained in place.
    weight: of the soft targets; the labels weigh 1.
    temperature: of the soft targets.
    weight_decay: of AdamW, none on biases and norms.
    compiled: whether forward, loss and backward go through `torch.compile`.
      The optimizer is PyTorch's fused AdamW, one kernel over all leaves, either
      way: its rate changes in every step, and nothing is compiled anew.
  """

  def __init__(
    self,
    teacher: Network,
    student: Network,
    *,
    weight: float,
    temperature: float,
    weight_decay: float,
    compiled: bool = False,
  ):
    self._teacher = teacher.eval().requires_grad_(False)
    self._student = student.train()
    self._weight, self._temperature = weight, temperature
    decayed = [p for p in student.parameters() if p.ndim > 1]
    others = [p for p in student.parameters() if p.ndim == 1]
    self._optimizer = torch.optim.AdamW(
      [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
      ],
      lr=0.0,
      fused=True,
    )
    self._loss: Callable[..., torch.Tensor] = self.loss
    if compiled:
      self._loss = torch.compile(self.loss)

  def loss(
    self,
    inputs: torch.Tensor,
    label: torch.Tensor,
    labelled: torch.Tensor,
  ) -> torch.Tensor:
    """The loss of a batch, `[]`; `labelled` is 0 or 1 in float32."""
    with torch.no_grad():
      taught = self._teacher(inputs)
    logits = self._student(inputs)
    values = functional.cross_entropy(logits, label, reduction="none")
    labels = (values * labelled).sum() / labelled.sum().clamp(min=1e-9)
    student = functional.log_softmax(logits / self._temperature, -1)
    target = functional.log_softmax(taught / self._temperature, -1)
    soft = functional.kl_div(
      student, target, reduction="batchmean", log_target=True
    )
    return labels + self._weight * self._temperature**2 * soft

  def step(self, batch: tuple[torch.Tensor, ...], rate: float) -> torch.Tensor:
    """One step; the loss before it, not waited for."""
    for group in self._optimizer.param_groups:
      group["lr"] = rate
    loss = self._loss(*batch)
    self._optimizer.zero_grad(set_to_none=True)
    loss.backward()
    self._optimizer.step()
    return loss.detach()


def prepared(stage: digits.Stage, steps: int) -> list[tuple[Any, ...]]:
  """What the JAX step sees after its view, as tensors: nothing is left to do.

  A tensor of `[batch, 1, height, width]`, the labels, and 1.0 where a label may
  be used; the rate of the step last.
  """
  structure = stage.program.structure

  @jax.jit
  def seen(batch: Any) -> Any:
    return step_lib.apply_view(
      structure, structure.student_view, batch, np.uint32(digits.SEED)
    )

  batches = []
  for batch, scalars in stage.inputs(steps):
    examples = stage.examples(batch)
    pixels = np.asarray(seen(examples)).transpose(0, 3, 1, 2)
    batches.append(
      (
        torch.from_numpy(pixels.copy()),
        torch.from_numpy(np.asarray(examples["label"], np.int64)),
        torch.from_numpy(np.asarray(examples["labelled"], np.float32)),
        float(scalars.learning_rate[0]),
      )
    )
  return batches


def trainer_of(
  stage: digits.Stage, variables: Any, taught: Any, *, compiled: bool
) -> tuple[Trainer, dict[str, Network]]:
  """The stage's teacher and student in PyTorch, with these weights."""
  networks = {}
  for name, values in (("teacher", taught), ("student", variables)):
    module = stage.parts.modules[name]
    networks[name] = Network(
      width=module.width,
      groups=getattr(module, "cardinality", 1),
      stages=len(module.stage_sizes),
      classes=module.classes,
    )
    copy_into(networks[name], jax.device_get(values))
  soft = stage.built.config.objective["soft"]
  trainer = Trainer(
    networks["teacher"],
    networks["student"],
    weight=soft.weight,
    temperature=soft.temperature,
    weight_decay=1e-2,
    compiled=compiled,
  )
  return trainer, networks


def contest_of(
  stage: digits.Stage, steps: int, *, compiled: bool
) -> digits.Contest:
  """The same steps in PyTorch, from the same weights, batches prepared."""
  trainer, _ = trainer_of(
    stage,
    stage.begin().variables("student"),
    stage.teachers["teacher"],
    compiled=compiled,
  )
  batches = prepared(stage, steps)

  def contest() -> digits.Seconds:
    start = digits.now()
    for *batch, rate in batches:
      loss = trainer.step(tuple(batch), rate)
    loss.item()
    return tuple(digits.now() - start)

  return contest


def compare(stage: digits.Stage) -> dict[str, float]:
  """Largest differences between JAX and PyTorch.

  Norms and biases are disturbed first: with scales of 1 and statistics of 0
  and 1, a leaf in the wrong place would not show.

  Raises:
    SystemExit: they are not the same model, loss or update.
  """
  random = np.random.default_rng(0)

  def disturbed(x: Any) -> np.ndarray:
    x = np.asarray(x)
    return x + 0.3 * random.random(x.shape, np.float32) if x.ndim == 1 else x

  student, teacher = jax.tree.map(
    disturbed,
    jax.device_get(
      (stage.begin().variables("student"), stage.teachers["teacher"])
    ),
  )
  trainer, networks = trainer_of(stage, student, teacher, compiled=False)
  batches = prepared(stage, 3)
  pixels = batches[0][0]
  found = {}
  with torch.no_grad():
    for name, values in (("teacher", teacher), ("student", student)):
      given = pixels.numpy().transpose(0, 2, 3, 1)
      logits = stage.parts.modules[name].apply(values, given, train=False)
      theirs = networks[name].eval()(pixels).numpy()
      found[f"{name} logits"] = float(np.abs(logits - theirs).max())
  networks["student"].train()

  put = stage.program.put_teachers({teachers.Member("teacher"): teacher})
  state = stage.program.with_variables(stage.begin(), "student", student)
  before = 0.0
  sums = stage.program.zeros()
  for at, (batch, scalars) in enumerate(stage.inputs(3)):
    state, sums = stage.program.run(
      state, put, stage.feed.resident, batch, scalars, sums
    )
    total = float(sums["loss"].total)
    theirs = float(trainer.step(batches[at][:3], batches[at][3]))
    relative = abs(total - before - theirs) / theirs
    found["loss" if at == 0 else "loss after updates"] = relative
    before = total
  limits = {"loss": LOSS, "loss after updates": UPDATES}
  for name, difference in found.items():
    if not difference < limits.get(name, LOGITS):
      raise SystemExit(f"JAX and PyTorch differ: {name} by {difference:.2g}")
  return found
