"""The summary and the picture of a run."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor.report.figure import moving, write_report
from actor.report.finalize import UNPROVEN, result_lines
from actor.report.summary import evaluations, summarise, wilson
from handrail.errors import RunFolderError
from handrail.run_folder import Run

KEYS = [
    "task", "preset", "seed", "success", "success_low", "success_high", "base_success",
    "episodes", "env_steps", "interventions", "updates", "train_s",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    config = '[task]\nname = "peg"\n[learner]\npreset = "resfit"\n[run]\nseed = 3\n'
    (tmp_path / "config.toml").write_text(config, encoding="utf-8")
    return tmp_path


def write(folder, rows, tail=""):
    text = "".join(json.dumps(row) + "\n" for row in rows) + tail
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")


def test_summary_says_what_was_reached(folder, metric_rows):
    write(folder, metric_rows)
    summary = summarise(folder)
    assert set(KEYS) <= set(summary)
    assert (summary["task"], summary["preset"], summary["seed"]) == ("peg", "resfit", 3)
    assert summary["success"] == pytest.approx(0.9)
    assert summary["success_low"] == pytest.approx(0.786, abs=1e-3)
    assert summary["success_high"] == pytest.approx(0.957, abs=1e-3)
    assert summary["base_success"] == pytest.approx(0.5)
    assert summary["trivial_success"] == pytest.approx(0.1)
    assert summary["episodes"] == 50
    assert summary["env_steps"] == 2000
    assert summary["updates"] == 4000
    assert summary["interventions"] == sum(r.get("takeovers", 0) for r in metric_rows)
    assert summary["interventions"] > 0
    assert summary["train_s"] == pytest.approx(75.0)


def test_half_written_last_line_changes_nothing(folder, metric_rows):
    write(folder, metric_rows)
    whole = summarise(folder)
    write(folder, metric_rows, '{"kind":"eval","policy":"policy","start":50,"succ')
    assert summarise(folder) == whole


def test_evaluation_that_was_cut_and_gone_on_with_counts_each_start_once():
    row = {"kind": "eval", "policy": "policy", "env_steps": 9}
    rows = [{**row, "start": start, "success": False} for start in (0, 1)]
    rows += [{**row, "start": start, "success": True} for start in (1, 2)]
    assert evaluations(rows) == {"policy": {0: False, 1: True, 2: True}}


def test_evaluation_earlier_in_training_does_not_count():
    rows = [
        {"kind": "eval", "policy": "policy", "env_steps": 100, "start": 0, "success": False},
        {"kind": "eval", "policy": "policy", "env_steps": 900, "start": 0, "success": True},
    ]
    assert evaluations(rows) == {"policy": {0: True}}


def test_last_words_say_when_the_policy_was_the_base(folder, metric_rows):
    said = {}
    for proven in (0.0, 1.0):
        learner = {"kind": "learner", "env_steps": 2000, "proven": proven}
        write(folder, [{"kind": "learner", "proven": 1.0 - proven}, *metric_rows, learner])
        said[proven] = result_lines(Run(folder, "0" * 12, "peg", "", 0.0), summarise(folder))
    assert said[0.0] == [*said[1.0], UNPROVEN]


@pytest.mark.parametrize("count", [0, 1, 15, 40, 60, 120])
def test_run_that_is_not_finished_has_a_report_too(folder, metric_rows, count):
    write(folder, metric_rows[:count])
    summary = write_report(folder)
    assert summary["success"] is None
    assert summary["episodes"] == 0
    assert (folder / "report.png").stat().st_size > 10_000


def test_picture_is_a_picture_and_nothing_else_is_left(folder, metric_rows):
    write(folder, metric_rows)
    assert write_report(folder) == summarise(folder)
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.toml", "metrics.jsonl", "report.png",
    ]  # fmt: skip


def test_folder_without_metrics_is_refused(folder):
    with pytest.raises(RunFolderError, match=r"holds no metrics\.jsonl"):
        write_report(folder)


def test_wilson_interval_has_the_published_values():
    assert wilson(45, 50) == pytest.approx((0.7864, 0.9565), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_rate_and_narrows_with_more_episodes(case):
    wins, n = case
    low, high = wilson(wins, n)
    assert 0.0 <= low <= wins / n <= high <= 1.0
    more_low, more_high = wilson(10 * wins, 10 * n)
    assert more_high - more_low < high - low
    mirrored = wilson(n - wins, n)
    assert mirrored == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("wins", "n"), [(3, 2), (-1, 2), (0, -1)])
def test_impossible_counts_are_refused(wins, n):
    with pytest.raises(ValueError, match=f"got {wins}"):
        wilson(wins, n)


def test_moving_mean_grows_into_its_window():
    assert moving([1, 0, 0, 1], window=2).tolist() == [1.0, 0.5, 0.0, 0.5]
    assert moving([]).tolist() == []
