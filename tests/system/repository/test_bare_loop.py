"""A test of real time is tried again where the machine was late, and fails where it was not."""

from __future__ import annotations

import time

import pytest
from bare_loop import LATE, TRIES, BareLoop, run_beside

pytest_plugins = ["pytester"]

TEST = """
import pathlib
def test_it():
    tried = pathlib.Path("tried")
    tried.write_text(tried.read_text() + "x" if tried.exists() else "x")
    assert len(tried.read_text()) > {passes_after}
"""


@pytest.mark.parametrize(
    ("late", "passes_after", "tries", "passed"),
    [
        (2 * LATE, 0, 1, True),
        (2 * LATE, 1, 2, True),
        (2 * LATE, 99, TRIES, False),
        (LATE / 2, 1, 1, False),
    ],
)
def test_it_is_tried_again_only_where_the_machine_was_late(
    pytester: pytest.Pytester, late: float, passes_after: int, tries: int, passed: bool
) -> None:
    class Plugin:
        def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
            run_beside(lambda: late, item, nextitem)
            return True

    pytester.makepyfile(TEST.format(passes_after=passes_after))
    result = pytester.inline_run("-p", "no:cacheprovider", plugins=[Plugin()])
    result.assertoutcome(passed=int(passed), failed=int(not passed))
    assert (pytester.path / "tried").read_text() == "x" * tries


def test_the_bare_loop_tells_its_lateness_since_it_was_last_asked() -> None:
    loop = BareLoop()
    try:
        loop.worst()
        time.sleep(0.05)
        assert 0.0 < loop.worst() < 10.0
    finally:
        loop.close()
