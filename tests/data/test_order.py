"""The order is a function of seed and position, for any number of hosts."""

import numpy as np
import pytest

from tsjax.core import errors
from tsjax.data import order


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_has_every_row_once(shuffle):
  epochs, rows = order.Order(97, 3, shuffle=shuffle).at(np.arange(3 * 97))
  np.testing.assert_array_equal(epochs, np.repeat([0, 1, 2], 97))
  for epoch in range(3):
    seen = rows[epoch * 97 : (epoch + 1) * 97]
    np.testing.assert_array_equal(np.sort(seen), np.arange(97))
    assert shuffle == (seen != np.arange(97)).any()


def test_the_order_is_a_function_of_seed_and_position():
  first, again = order.Order(50, 7), order.Order(50, 7)
  far = np.array([5000, 3, 120, 49, 50])
  again.at(np.arange(1000))
  for one, other in zip(first.at(far), again.at(far)):
    np.testing.assert_array_equal(one, other)
  epoch = first.at(np.arange(50))[1]
  assert (order.Order(50, 8).at(np.arange(50))[1] != epoch).any()
  assert (first.at(np.arange(50, 100))[1] != epoch).any()


def test_the_permutation_does_not_change_between_releases():
  # Computed once with NumPy 2.4; runs are resumed under later releases.
  golden = [3, 4, 9, 6, 2, 8, 5, 7, 0, 1]
  assert order.permutation(10, 0, "order", epoch=1).tolist() == golden


def test_positions_give_types_of_the_contract():
  epochs, rows = order.Order(5).at(np.arange(7))
  assert epochs.dtype == np.int32 and rows.dtype == np.int64


def test_hosts_share_one_global_batch():
  whole = order.host_slice(5, 24)
  for processes in (2, 3, 4):
    parts = [order.host_slice(5, 24, p, processes) for p in range(processes)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
  np.testing.assert_array_equal(whole, np.arange(120, 144))


@pytest.mark.parametrize(
  "call, told",
  [
    (lambda: order.Order(0), "0 examples"),
    (lambda: order.Order(5, -1), "seed=-1"),
    (lambda: order.host_slice(0, 10, 0, 4), "batch_size=10.*4 hosts; 8 can"),
    (lambda: order.host_slice(0, 3, 0, 4), "batch_size=3.*4 hosts; 4 can"),
    (lambda: order.host_slice(0, 0), "batch_size=0.*; 1 can"),
    (lambda: order.host_slice(0, 8, 4, 4), r"process=4.*0\.\.3"),
  ],
)
def test_errors(call, told):
  with pytest.raises(errors.UserError, match=told):
    call()
