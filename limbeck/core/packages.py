"""Packages that only a part of the library needs: the extras of pyproject.toml."""

from importlib.util import find_spec

from limbeck.core.errors import UserError


def require(extra: str, *packages: str, purpose: str) -> None:
    """Raise UserError with the command that installs the extra, if one of `packages` is missing.

    `purpose` is the subject of the sentence, such as "the format onnx". Nothing is imported.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(
            f"{purpose} needs {' and '.join(missing)}: pip install 'limbeck[{extra}]'", code="missing-package"
        )
