"""Relations of examples and of channels: widths, resolutions, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tsjax import objectives
from tsjax.core import errors
from tsjax.objectives import alignment


def normal(seed, *shape):
  return jnp.asarray(np.random.RandomState(seed).randn(*shape), jnp.float32)


@pytest.mark.parametrize(
  "loss",
  [
    objectives.similarity_preserving,
    objectives.relational,
    objectives.probabilistic_transfer,
    objectives.correlation_congruence,
  ],
)
def test_student_and_teacher_may_differ_in_width(loss):
  narrow, wide = normal(0, 5, 3), normal(1, 5, 2, 2, 4)
  mean = loss(narrow, wide)
  assert mean.count == 5
  assert mean.value() > 0


def test_relations_ignore_what_they_say_they_ignore():
  """A rotation and a scale change neither distances nor angles."""
  student, teacher = normal(0, 6, 4), normal(1, 6, 4)
  rotation = jnp.linalg.qr(normal(2, 4, 4))[0]
  expected = objectives.relational(student, teacher).value()
  moved = 3 * student @ rotation + 1
  np.testing.assert_allclose(
    objectives.relational(moved, teacher).value(), expected, rtol=1e-4
  )
  for loss in (
    objectives.similarity_preserving,
    objectives.probabilistic_transfer,
  ):
    np.testing.assert_allclose(
      loss(3 * student @ rotation, teacher).value(),
      loss(student, teacher).value(),
      rtol=1e-4,
    )


def test_the_weights_of_distance_and_angle():
  student, teacher = normal(0, 6, 4), normal(1, 6, 4)
  distance = objectives.relational_distance(student, teacher).value()
  angle = objectives.relational_angle(student, teacher).value()
  np.testing.assert_allclose(
    objectives.relational(student, teacher, distance=2.0, angle=3.0).value(),
    2 * distance + 3 * angle,
    rtol=1e-6,
  )


@pytest.mark.parametrize(("long", "short"), [(8, 4), (7, 3), (5, 4), (6, 1)])
def test_pooling_is_pytorch_s(long, short):
  x = normal(0, 2, long, long, 3)
  nchw = torch.from_numpy(np.array(x).transpose(0, 3, 1, 2))
  for ours, theirs in (
    (alignment.averaged, torch.nn.functional.adaptive_avg_pool2d),
    (alignment.largest, torch.nn.functional.adaptive_max_pool2d),
  ):
    expected = theirs(nchw, (short, short)).numpy().transpose(0, 2, 3, 1)
    found = ours(ours(x, 1, short), 2, short)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_maps_of_two_resolutions_are_pooled_only_when_told():
  student, teacher = normal(0, 2, 4, 4, 3), normal(1, 2, 2, 2, 5)
  for loss in (
    objectives.attention_transfer,
    objectives.neuron_selectivity,
  ):
    with pytest.raises(errors.UserError, match="resolution='pool'"):
      loss(student, teacher)
    pooled = student.reshape(2, 2, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(
      loss(student, teacher, resolution="pool"),
      loss(pooled, teacher),
      rtol=1e-4,
    )


def test_channels_must_be_as_many_where_they_are_compared_one_by_one():
  student, teacher = normal(0, 2, 4, 4, 3), normal(1, 2, 4, 4, 5)
  for loss in (
    objectives.inter_channel_correlation,
    lambda s, t: objectives.flow_of_solution((s, s), (t, t)),
    lambda s, t: objectives.singular_vectors((s, s), (t, t)),
  ):
    with pytest.raises(errors.UserError, match="channels"):
      loss(student, teacher)
  with pytest.raises(errors.UserError, match="taps that follow"):
    objectives.flow_of_solution(student, student)
  with pytest.raises(errors.UserError, match="two at least"):
    objectives.singular_vectors(student, student)


def test_consecutive_examples_need_one_width():
  with pytest.raises(errors.UserError, match="kernel='gaussian'"):
    objectives.correlation_congruence(
      normal(0, 4, 3), normal(1, 4, 5), kernel="consecutive"
    )


def test_singular_vectors_with_a_fixed_sign_do_not_depend_on_the_device():
  """Whatever sign a decomposition gave: here, by negated features."""
  student = (normal(0, 2, 9, 4), normal(1, 2, 9, 5))
  teacher = (normal(2, 2, 9, 4), normal(3, 2, 9, 5))
  loss = jax.jit(
    lambda s, t: objectives.singular_vectors(s, t, k=2, sign="fixed")
  )
  expected = loss(student, teacher)
  for flipped in ((1, -1), (-1, 1), (-1, -1)):
    found = loss(
      tuple(f * x for f, x in zip(flipped, student)),
      tuple(f * x for f, x in zip(flipped, teacher)),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_gradient_of_singular_vectors_is_the_difference_quotient():
  with jax.enable_x64(True):
    rng = np.random.RandomState(0)
    # More positions than channels, and fewer.
    shapes = ((2, 5, 4), (2, 3, 7))
    student, teacher, along = (
      tuple(jnp.asarray(rng.randn(*shape)) for shape in shapes)
      for _ in range(3)
    )

    @jax.jit
    def value(student):
      return objectives.singular_vectors(
        student, teacher, k=2, sign="fixed"
      ).sum()

    gradient = jax.jit(jax.grad(value))(student)
    step = 1e-6
    ends = [
      value(tuple(s + sign * step * d for s, d in zip(student, along)))
      for sign in (1, -1)
    ]
    slope = sum((g * d).sum() for g, d in zip(gradient, along))
    np.testing.assert_allclose(
      (ends[0] - ends[1]) / (2 * step), slope, rtol=1e-5
    )
