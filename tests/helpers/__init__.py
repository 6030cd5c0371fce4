"""What tests share; no test imports a file of tests."""

import pytest

pytest.register_assert_rewrite("tests.helpers.laws", "tests.helpers.distillers")
