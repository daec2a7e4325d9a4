"""No key of the world file is without its test."""

from tests.simulator import (
    test_metamorphic_behaviour,
    test_metamorphic_choices,
    test_metamorphic_items,
    test_metamorphic_titles,
    test_metamorphic_topics,
    test_metamorphic_users,
)
from tests.simulator.effects import leaves

TESTED = (
    test_metamorphic_users,
    test_metamorphic_choices,
    test_metamorphic_items,
    test_metamorphic_titles,
    test_metamorphic_topics,
    test_metamorphic_behaviour,
)


def test_every_key_has_a_test():
    tested = [key for module in TESTED for key in module.EFFECTS]
    assert sorted(tested) == sorted(leaves())
