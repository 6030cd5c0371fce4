"""What a user did wrong, said in one sentence."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the caller: the message names the offending value and the way out."""


def reason(error: BaseException) -> str:
    """What an exception says, in one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def nearest(word: str, options: Iterable[str]) -> str:
    """`" (did you mean 'byol'?)"` for a misspelt `word`, or an empty string when nothing is close."""
    close = difflib.get_close_matches(word, list(options), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
