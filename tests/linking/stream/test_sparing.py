"""What others can provoke does not fill a log, and nothing is left out in silence."""

from __future__ import annotations

import logging

import pytest

from handrail.log_rate_limit import RateLimitedFilter
from handrail.rate_limit import RateLimit


@pytest.fixture
def written() -> tuple[logging.Logger, list[str]]:
    """A logger behind the filter, and what comes through."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log = logging.Logger("spared")
    handler = Keep()
    handler.addFilter(RateLimitedFilter(RateLimit(rate=0.0, burst=3.0)))
    log.addHandler(handler)
    return log, lines


def test_the_same_message_passes_a_few_times(written: tuple[logging.Logger, list[str]]) -> None:
    log, lines = written
    for n in range(1000):
        log.warning("refused a message: %s", n)
    assert lines == [f"refused a message: {n}" for n in range(3)]
    log.warning("another one")
    assert lines[3:] == ["another one"]


def test_it_says_how_many_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("handrail.rate_limit.time.monotonic", lambda: clock[0])
    spare = RateLimitedFilter(RateLimit(rate=1.0, burst=2.0))

    def say(n: int) -> str | None:
        record = logging.LogRecord("a", logging.WARNING, "", 0, "refused %d", (n,), None)
        return record.getMessage() if spare.filter(record) else None

    assert [say(n) for n in range(5)] == ["refused 0", "refused 1", None, None, None]
    clock[0] = 1.5
    assert say(5) == "refused 5 (and 3 like it before)"
