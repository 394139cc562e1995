"""Read the rows that a run has stored: python examples/read_rows.py runs/my-reach."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from actor.cli.run_folders import read_configured_run
from handrail.transition import Source, Transition
from learner.store.store import Store


def main(folder: Path) -> None:
    """Print each episode's source, length, return and success, and one part of its first state."""
    run, _, spec = read_configured_run(folder)
    episodes: dict[tuple[int, int], list[Transition]] = defaultdict(list)
    store = Store(run.store, spec, readonly=True)
    for _, row in store.rows():
        episodes[row.source, row.episode].append(row)
    store.close()
    part = next(iter(spec.slices))
    for (source, number), rows in episodes.items():
        steps = [row for row in rows if not row.end]  # the last row holds the last observation only
        actions = np.array([row.action for row in steps])  # (T, A)
        first = spec.part(steps[0].state, part)
        print(
            f"{Source(source).name.lower()} {number}: {len(actions)} steps, return "
            f"{sum(row.reward for row in steps):.2f}, success {steps[-1].success}, {part} {first}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
