"""The laws that every method obeys, applied to every file in limbeck/methods without naming one."""

import pytest

from tests.helpers.laws import (
    test_embeddings_pass_through_the_heads,
    test_forward_changes_nothing_and_after_step_updates_state,
    test_loss_is_a_finite_float32_scalar,
    test_state_dict_and_configuration_are_all_the_state,
    test_the_card_is_complete,
    test_the_configuration_survives_json,
    test_the_gradient_reaches_trained_parameters_alone,
    test_the_order_of_the_images_does_not_matter,
)
from tests.helpers.tiny import configs

__all__ = [
    "test_embeddings_pass_through_the_heads",
    "test_forward_changes_nothing_and_after_step_updates_state",
    "test_loss_is_a_finite_float32_scalar",
    "test_state_dict_and_configuration_are_all_the_state",
    "test_the_card_is_complete",
    "test_the_configuration_survives_json",
    "test_the_gradient_reaches_trained_parameters_alone",
    "test_the_order_of_the_images_does_not_matter",
]

CONFIGS = configs()

pytestmark = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
