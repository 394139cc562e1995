"""How long rows wait, and what is said of it."""

from __future__ import annotations

import pytest

from actor.link.ack_age import AckAge
from actor.report.run_status import describe


def test_the_oldest_row_that_waits_tells_the_age():
    backlog = AckAge(0, now=0.0)
    assert backlog.age(0, 5.0) == 0.0
    for i in range(10):
        backlog.add(now=10.0 + i)
    assert backlog.age(10, 20.0) == 10.0
    assert backlog.age(3, 20.0) == 3.0  # rows made at 17, 18 and 19 wait
    assert backlog.age(1, 20.0) == 1.0
    assert backlog.age(0, 20.0) == 0.0
    backlog.add(now=30.0)
    assert backlog.age(1, 31.0) == 1.0


def test_rows_made_together_count_as_of_the_first_ones_time():
    backlog = AckAge(0, now=0.0)
    for i in range(1000):
        backlog.add(now=1.0 + 0.001 * i)
    assert backlog.age(1000, 3.0) == 2.0
    assert backlog.age(1, 3.0) == pytest.approx(3.0 - 1.9, abs=0.11)


def test_a_predecessors_rows_wait_since_the_beginning():
    backlog = AckAge(7, now=100.0)
    backlog.add(now=160.0)
    assert backlog.age(8, 170.0) == 70.0
    assert backlog.age(1, 170.0) == 10.0


def test_what_is_amiss_is_said():
    row = {
        "phase": "online", "env_steps": 120, "steps_per_s": 9.87, "age": 200.0,
        "spool_depth": 3, "spool_bytes": 294_912, "spool_age": 4.2, "flying_bytes": 0,
        "ack_lag": 0.0123, "connected": False, "policy_version": 12, "weights_age": 7.0,
        "disk_free_bytes": 12.3e9, "disk_hours": None,
    }  # fmt: skip
    found = {
        "run": "runs/a",
        "task": "peg",
        "actor": row,
        "learner_here": None,
        "learner": {"error": "waited 2 s"},
        "events": [{"text": "host lost", "age": 3.0}],
    }
    text = "\n".join(describe(found))
    assert "waited 2 s" in text
    assert "3 wait (295 kB), the oldest for 4.2 s" in text
    assert "NOT CONNECTED" in text
    assert "said 3 min ago" in text
    assert "12.3 GB free, it does not fill" in text
    assert "3.0 s ago: host lost" in text
    found["actor"] = None
    assert "none has written metrics on this host" in "\n".join(describe(found))
