"""The live view: what it makes of rows of metrics, at any moment and on any terminal."""

import io
import json
import random

import pytest
from rich.cells import cell_len
from rich.console import Console

from actor.config import load_config
from actor.report.live_panel import line, panel
from actor.report.live_state import (
    PHASES,
    LiveState,
    Plan,
    fold,
    history,
    intervention_rate,
    progress,
    success_rate,
    time_left,
)
from actor.report.live_view import LiveView
from actor.report.metrics_tail import MetricsTail
from actor.report.tensorboard import scalars
from handrail.config import to_toml
from handrail.run_folder import create_run

PLAN = Plan("peg", "resfit", 0, "runs/peg-resfit-0", 2000, 20, 50, 2.0)


def folded(rows):
    state = LiveState()
    for row in rows:
        state = fold(state, row)
    return state


def drawn(state, width, now=1000.0):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(panel(state, PLAN, now, width))
    return captured.get()


def test_phases_are_passed_in_their_order(metric_rows):
    assert folded(metric_rows).seen == PHASES


def test_success_and_interventions_are_of_the_last_20(metric_rows):
    state = folded(metric_rows)
    training = [r for r in metric_rows if r["kind"] == "episode" and r["phase"] != "record"]
    alone = [r["success"] for r in training if r["autonomous"]][-20:]
    assert success_rate(state) == pytest.approx(sum(alone) / len(alone))
    driven = [r["human_steps"] / r["length"] for r in training[-20:]]
    assert intervention_rate(state) == pytest.approx(sum(driven) / len(driven))


def test_demonstrations_are_not_counted_as_training(metric_rows):
    recording = [r for r in metric_rows if r["time"] <= 20.0]
    state = folded(recording)
    assert state.demos == 20
    assert success_rate(state) is None


def test_state_is_a_value(metric_rows):
    state = folded(metric_rows[:60])
    before = repr(state)
    for row in metric_rows[60:]:
        fold(state, row)
    assert repr(state) == before


def test_time_left_is_what_the_pace_says(metric_rows):
    until = next(i for i, r in enumerate(metric_rows) if r.get("env_steps") == 1000)
    state = folded(metric_rows[: until + 1])
    assert progress(state, PLAN) == (1000, 2000, "training steps")
    assert time_left(state, PLAN) == pytest.approx(25.0, rel=0.05)  # 40 steps a second


def test_history_is_bounded_and_ends_at_now(metric_rows):
    state = folded(metric_rows)
    shown = history(state, 12)
    assert len(shown) == 12
    assert shown[-1] == pytest.approx(success_rate(state))


@pytest.mark.parametrize("width", [40, 64, 80, 120, 200])
def test_view_fits_the_terminal_at_every_moment(metric_rows, width):
    state = LiveState()
    for i, row in enumerate([{"kind": "phase", "phase": ""}, *metric_rows]):
        state = fold(state, row)
        if i % 15 == 0:
            text = drawn(state, width)
            assert max(cell_len(part) for part in text.splitlines()) <= width


def test_view_is_as_tall_in_training_at_its_beginning_as_at_its_end(metric_rows):
    moments = [i for i, r in enumerate(metric_rows) if r.get("phase") == "online"]
    heights = {len(drawn(folded(metric_rows[: i + 1]), 100).splitlines()) for i in moments[::9]}
    assert len(heights) == 1


def test_view_shows_what_was_asked_for(metric_rows):
    cut = next(i for i, r in enumerate(metric_rows) if r["kind"] == "event") + 1
    text = drawn(folded(metric_rows[:cut]), 100)
    for words in (
        "peg", "resfit", "seed 0", "runs/peg-resfit-0", "✓ warm-up", " online ", "success",
        "last 20 autonomous", "interventions", "return", "Q", "2.00 per step", "25 µs", "0.90 J",
        "3 rows", "v80", "2 000 / 2 000 training steps", "learner died (SIGKILL)",
    ):  # fmt: skip
        assert words in text, words


def test_view_asks_for_hands_off_in_an_exam_only(metric_rows):
    def control(**told):
        row = {"kind": "actor", "time": 40.0, "env_steps": 600, "phase": "online", **told}
        text = drawn(fold(folded(metric_rows), row), 80)
        return next(line for line in text.splitlines() if "control" in line)

    assert "hands off" in control(authority="policy", quiet=True)
    assert "hands off" not in control(authority="policy", quiet=False)
    assert "operator" in control(authority="human", quiet=True)


def test_view_ends_with_policy_beside_base_and_trivial(metric_rows):
    text = drawn(folded(metric_rows), 100)
    order = [text.index(words) for words in ("45 of 50", "25 of 50", "5 of 50")]
    assert "trivial/push" in text
    assert order[0] < order[1]


@pytest.mark.parametrize("seed", range(3))
def test_rows_with_holes_and_surprises_break_nothing(metric_rows, seed):
    rng = random.Random(seed)
    state = LiveState()
    for row in metric_rows:
        odd = {k: rng.choice([v, None]) if k != "kind" else v for k, v in row.items()}
        state = fold(fold(state, odd), {"kind": "of the future", "x": [1]})
    assert drawn(state, 90)
    assert line(state, PLAN, 10.0)


def test_line_says_in_one_line_what_the_panel_says(metric_rows):
    cut = next(i for i, r in enumerate(metric_rows) if r["kind"] == "event")
    text = line(folded(metric_rows[:cut]), PLAN, 75.0)
    assert text.startswith("[01:15]  online")
    assert "2000/2000" in text
    assert "\n" not in text


def test_tail_gives_each_complete_row_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.rows() == []
    first, second = json.dumps({"kind": "a"}), json.dumps({"kind": "b", "text": "ä"})
    path.write_text(first + "\nnot json\n" + second[:9], encoding="utf-8")
    assert tail.rows() == [{"kind": "a"}]
    assert tail.rows() == []
    with path.open("a", encoding="utf-8") as file:
        file.write(second[9:] + "\n")
    assert tail.rows() == [{"kind": "b", "text": "ä"}]


@pytest.fixture
def run(tmp_path):
    config = load_config("reach")
    return create_run(tmp_path / "run", "reach", "0" * 16, to_toml(config)), config


def append(run, rows):
    with run.metrics.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_without_a_terminal_there_are_plain_lines(run, metric_rows):
    out = io.StringIO()
    with LiveView(*run, console=Console(file=out, width=80)) as view:
        for i in range(0, len(metric_rows), 40):
            append(run[0], metric_rows[i : i + 40])
            view.update()
    lines = out.getvalue().splitlines()
    assert "\x1b" not in out.getvalue()
    assert 5 < len(lines) < 15  # phases, the event, first and last
    assert any("learner died" in text for text in lines)
    assert "policy 45/50" in lines[-1]


def test_in_a_terminal_there_is_a_panel_and_its_last_state_stays(run, metric_rows):
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    with LiveView(*run, console=console) as view:
        append(run[0], metric_rows)
        view.update(force=True)
    assert "Handrail" in out.getvalue()
    assert "45 of 50" in out.getvalue()


def test_resumed_run_shows_what_was_before_and_writes_each_curve_once(run, metric_rows):
    append(run[0], metric_rows)
    for _ in range(2):
        with LiveView(*run, console=Console(file=io.StringIO())):
            pass
        assert len(list((run[0].folder / "tensorboard").glob("events.*"))) == 1


def test_curves_are_named_by_kind_and_hold_numbers_only():
    row = {"kind": "learner", "time": 1.0, "env_steps": 5, "q": 0.5, "phase": "online", "x": None}
    assert scalars(row) == {"learner/q": 0.5}
    row = {"kind": "eval", "policy": "base", "start": 3, "success": True}
    assert scalars(row) == {"eval/base/success": 1.0}


def test_an_evaluation_that_is_made_again_counts_each_start_once(metric_rows):
    again = [row for row in metric_rows if row["kind"] == "eval"]
    state = folded([*metric_rows, *again[:30]])
    assert state.evaluation["policy"][1] == 50
    state = folded([*metric_rows, {"kind": "phase", "phase": "base"}])
    state = fold(state, {"kind": "phase", "phase": "evaluation"})
    assert progress(state, PLAN) == (0, 50, "evaluation episodes")
    for row in again[:30]:
        state = fold(state, row)
    assert progress(state, PLAN) == (10, 50, "evaluation episodes")


def test_no_time_is_left_to_a_phase_whose_work_is_done(metric_rows):
    state = LiveState()
    for row in metric_rows:
        state = fold(state, row)
        part = progress(state, PLAN)
        assert part is None or part[0] < part[1] or time_left(state, PLAN) is None
