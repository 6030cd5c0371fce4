"""Expect a mistake by its code and the values that its message names, whatever its wording."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from limbeck.core.errors import UserError


@contextmanager
def raises(code: str, *values: object) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expect a `UserError` with this code whose message contains every one of `values`."""
    with pytest.raises(UserError) as caught:
        yield caught
    assert caught.value.code == code, f"{caught.value.code}: {caught.value}"
    for value in values:
        assert str(value) in str(caught.value)
