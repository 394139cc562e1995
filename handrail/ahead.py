"""Work ahead of whoever iterates, in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Iterate, with the next item made in a thread while the caller has this one.

    Errors come when their item is due. Who stops early waits for the item that is under way.

    Args:
        items: Runs in that thread alone; yields no None.
    """
    with ThreadPoolExecutor(1, "ahead") as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item
