"""The laws that every method obeys, applied to every file in limbeck/methods without naming one."""

import pytest

from tests.helpers.laws import (
    test_a_card_says_what_it_is,
    test_a_collapse_is_looked_for_behind_the_heads,
    test_asking_changes_nothing_and_telling_does,
    test_configuration_survives_json,
    test_gradient_reaches_what_learns_and_nothing_else,
    test_loss_is_a_finite_float32_scalar,
    test_order_of_the_images_does_not_matter,
    test_state_is_all_there_is,
)
from tests.helpers.tiny import configs

__all__ = [
    "test_a_card_says_what_it_is",
    "test_a_collapse_is_looked_for_behind_the_heads",
    "test_asking_changes_nothing_and_telling_does",
    "test_configuration_survives_json",
    "test_gradient_reaches_what_learns_and_nothing_else",
    "test_loss_is_a_finite_float32_scalar",
    "test_order_of_the_images_does_not_matter",
    "test_state_is_all_there_is",
]

CONFIGS = configs()

pytestmark = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
