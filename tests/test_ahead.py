"""The next item is made while this one is used; errors and ends come when they are due."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from handrail.ahead import ahead


def test_items_come_in_order_and_one_ahead() -> None:
    made: list[int] = []
    ready = [threading.Event() for _ in range(5)]

    def items() -> Iterator[int]:
        for n in range(5):
            made.append(n)
            ready[n].set()
            yield n

    got = []
    for n in ahead(items()):
        got.append(n)
        if n < 4:
            assert ready[n + 1].wait(10.0)  # made though nobody has asked for it yet
        assert made == list(range(min(n + 2, 5)))
    assert got == made == list(range(5))


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("three")

    iterator = ahead(items())
    assert [next(iterator), next(iterator)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(iterator)


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    iterator = ahead(iter(range(1000)))
    assert next(iterator) == 0
    iterator.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
