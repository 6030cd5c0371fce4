"""Errors that a user can mend, each in one sentence and with a stable code."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that the caller can mend: the message names the offending value, the limit and the way out.

    Attributes:
        code: a stable name of the kind of mistake, such as `unknown-method`; the wording of the message may change.
    """

    def __init__(self, message: str, *, code: str = "invalid-input") -> None:
        super().__init__(message)
        self.code = code


def one_line(error: BaseException) -> str:
    """Return the message of an exception in one line, or its type where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `" (did you mean 'byol'?)"` for a misspelled `word`, or an empty string when nothing is close."""
    close = difflib.get_close_matches(word, list(options), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
