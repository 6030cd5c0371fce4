"""Checks the shapes in the signatures of losses, methods, models and metrics whenever a test calls them.

pyproject.toml names `check_shapes` as the type checker of jaxtyping's import hook, which also binds the letters: two
arguments with a `B` have the same number of rows. A user's run imports the package without the hook and pays nothing.
"""

import typing
from collections.abc import Callable
from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments and the result of a function that have a shape, and nothing else."""
    shapes = {name: hint for name, hint in function.__annotations__.items() if has_shape(hint)}
    if not shapes:
        return function
    function.__annotations__ = shapes
    return beartype(function)


def has_shape(hint: Any) -> bool:
    """Return whether an annotation contains an array with a shape."""
    inner = typing.get_args(hint)
    return any(has_shape(part) for part in inner) or (isinstance(hint, type) and issubclass(hint, AbstractArray))
