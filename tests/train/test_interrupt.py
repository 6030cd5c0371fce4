"""The first and the second signal, and that no handler remains."""

import signal
from collections.abc import Iterator

import pytest

from limbeck.train.interrupt import SIGNALS, StopRequest


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """Give SIGINT its usual handler, which a shell takes away from what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_is_a_request_and_the_second_one_acts_as_usual(first: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(first)
        assert stop.requested
        assert stop.code == 128 + first
        assert [signal.getsignal(number) for number in SIGNALS] == before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_request_that_never_came_leaves_no_handler() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no hangups")
def test_a_hangup_that_was_ignored_is_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
