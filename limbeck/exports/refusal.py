"""Why a file of a format cannot be made of a network: the operator that it lacks, where the tools name one."""

import re

from limbeck.core.errors import UserError, one_line

_OPERATOR = re.compile(r"op='([\w.]+)'|No Op registered for (\w+)|implementation for (\w+)")


def not_exportable(target: str, error: BaseException, way: str) -> UserError:
    """Return the error for a network that a target does not take.

    Args:
        target: what it cannot be, such as "written as ONNX".
        error: of the tool; what it was caused by says more.
        way: what to do.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    found = _OPERATOR.search(str(error))
    operator = next(filter(None, found.groups())) if found else ""
    why = f"it has no operator {operator}" if operator else one_line(error).rpartition("failed:")[2][:200]
    return UserError(f"this network cannot be {target} ({why}): {way}", code="not-exportable")
