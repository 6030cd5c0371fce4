"""Messages on stderr and in the log file of a run."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from limbeck.core import logs
from limbeck.core.logs import configure, ensure_visible, log_file

LOGGER = logging.getLogger("limbeck.test")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    handlers, level = list(logs.ROOT.handlers), logs.ROOT.level
    logs.ROOT.handlers = []
    yield
    logs.ROOT.handlers = handlers
    logs.ROOT.setLevel(level)


def test_information_is_a_bare_sentence_and_a_warning_has_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    LOGGER.debug("detail")
    LOGGER.info("chosen")
    LOGGER.warning("careful")
    assert capsys.readouterr().err == "chosen\nwarning: careful\n"


def test_configured_again_it_writes_each_message_once_at_the_new_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    configure(logging.WARNING)
    with log_file(tmp_path / "log.txt") as begin:
        begin()
        LOGGER.info("chosen")
        LOGGER.warning("careful")
    assert capsys.readouterr().err == "warning: careful\n"
    assert (tmp_path / "log.txt").read_text().count("\n") == 2


def test_an_application_with_logging_of_its_own_is_left_to_it() -> None:
    assert logging.getLogger().handlers, "pytest has handlers"
    ensure_visible()
    assert logs.ROOT.handlers == []


def test_messages_from_before_a_run_starts_are_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    with log_file(file) as begin:
        LOGGER.info("before")
        assert not file.exists()
        begin()
        LOGGER.warning("after")
    with log_file(file) as begin:
        begin()
        LOGGER.info("resumed")
    lines = file.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO before", "WARNING after", "INFO resumed"]


def test_a_run_that_never_starts_leaves_no_file(tmp_path: Path) -> None:
    def failing_run() -> None:
        with log_file(tmp_path / "log.txt"):
            LOGGER.info("before")
            raise ValueError("no images")

    with pytest.raises(ValueError, match="no images"):
        failing_run()
    assert list(tmp_path.iterdir()) == []


def test_the_error_that_ends_a_run_is_the_last_line(tmp_path: Path) -> None:
    def failing_run() -> None:
        with log_file(tmp_path / "log.txt") as begin:
            begin()
            raise ValueError("too\nbad")

    with pytest.raises(ValueError, match="too\nbad"):
        failing_run()
    assert (tmp_path / "log.txt").read_text().endswith("ERROR too bad\n")


def test_the_level_of_an_application_counts(tmp_path: Path) -> None:
    logs.ROOT.setLevel(logging.WARNING)
    with log_file(tmp_path / "log.txt") as begin:
        begin()
        LOGGER.info("chosen")
        LOGGER.warning("careful")
    assert (tmp_path / "log.txt").read_text().count("\n") == 1
    assert logs.ROOT.level == logging.WARNING


def test_another_rank_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    configure()
    with log_file(tmp_path / "log.txt") as begin:
        begin()
        LOGGER.warning("careful")
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "log.txt").exists()


def test_torch_does_not_warn_of_a_compiler_for_a_gpu_that_is_not_there() -> None:
    configure()
    assert not logging.getLogger("torch.utils.cpp_extension").isEnabledFor(logging.WARNING)
