"""Look-ups of whole days give what indexing gives, however often and in whatever order items are asked for."""

import pytest
import torch

from micrec.data.day_table import DayTable


@pytest.fixture
def values():
    return torch.randn(6, 9, generator=torch.Generator().manual_seed(3))


def test_every_look_up_is_that_of_the_values(values):
    table, days = DayTable(values), torch.tensor([5, 0, 0, 3])
    some, others = torch.tensor([1, 4, 8]), torch.tensor([7, 2, 2])
    for items in (some, some, others, some, some, some, others, others):
        for rows in (days, days[:2]):
            torch.testing.assert_close(table.on(rows, items), values[rows][:, items])
    torch.testing.assert_close(table.on(days), values[days])
    assert len(table) == 6
    torch.testing.assert_close(table.to("cpu").on(days, some), values[days][:, some])


@pytest.mark.parametrize("items", [None, torch.tensor([2, 3])])
def test_room_for_the_values_is_used_once_they_lie_ready(values, items):
    table, days = DayTable(values), torch.tensor([4, 1])
    out = torch.zeros(2, 9 if items is None else 2)
    for _ in range(3):
        found = table.on(days, items, out)
        torch.testing.assert_close(found, values[days] if items is None else values[days][:, items])
    assert found.data_ptr() == out.data_ptr()
