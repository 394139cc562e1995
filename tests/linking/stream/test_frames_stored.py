"""Frames of the simulated cameras are in the store bit for bit, shortened or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actor.cli.run_folders import create_configured_run
from actor.loop.run_inline import inline_session
from handrail.link.transition_codec import row_bytes
from learner.store.store import Store


def stored(folder: Path, *options: str) -> tuple[list[dict[str, np.ndarray]], int, int]:
    """Record a demonstration; return the stored frames, all blobs' bytes, and a raw row's."""
    run, config = create_configured_run(
        "peg", ["--task.images", "--run.demos", "1", *options], folder
    )
    with inline_session(run, config) as (session, _):
        session.record(1)
        spec = session.task.spec
    with Store(run.store, spec, readonly=True) as store:
        frames = [dict(row.images) for _, row in store.rows()]
        size = sum(len(blob) for *_, blob in store._blobs(0))
    return frames, size, row_bytes(spec)


@pytest.mark.slow
def test_shortened_frames_of_the_cameras_are_the_frames(tmp_path: Path) -> None:
    short, short_size, row = stored(tmp_path / "short")
    plain, plain_size, _ = stored(tmp_path / "plain", "--link.no-short")
    assert len(short) == len(plain) > 5
    assert plain_size == len(plain) * row
    assert short_size < 0.4 * plain_size
    for a, b in zip(short, plain, strict=True):
        assert sorted(a) == sorted(b) == ["front", "wrist"]
        for name in a:
            assert np.ptp(a[name]) > 50  # a picture, not a blank
            assert np.array_equal(a[name], b[name])
