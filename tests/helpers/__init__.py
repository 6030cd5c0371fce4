"""What tests share; no test imports a file of tests.

`shapes` comes first: jaxtyping's import hook (pyproject.toml) calls it as soon as a module of Limbeck is imported.
"""

import pytest

from tests.helpers import shapes

__all__ = ["shapes"]

pytest.register_assert_rewrite("tests.helpers.laws", "tests.helpers.distillers")
