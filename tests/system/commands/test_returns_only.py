"""Where nothing says what success is, returns alone are reported: view, picture, last words."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from actor.config import load_config
from actor.loop.make_env import make_task
from actor.report.figure import draw
from actor.report.finalize import result_lines
from actor.report.live_panel import line, panel
from actor.report.live_state import LiveState, Plan, fold
from actor.report.summary import summarise
from handrail.run_folder import Run

PLAN = Plan("gym:Pendulum-v1", "rlpd", 0, "runs/pendulum", 400, 0, 2, 2.0)
TRAINING = [
    {"kind": "phase", "phase": "online", "env_steps": 0, "time": 1.0},
    *(
        {
            "kind": "episode", "phase": "online", "env_steps": 200 * n, "time": 2.0 * n,
            "success": None, "autonomous": True, "return": -1000.0 + 100.0 * n, "length": 200,
        }
        for n in (1, 2)
    ),
]  # fmt: skip
EVALUATION = [
    {"kind": "phase", "phase": "evaluation", "env_steps": 400, "time": 5.0},
    *(
        {
            "kind": "eval", "policy": name, "start": start, "env_steps": 400, "time": 6.0,
            "success": None, "return": mean + start, "length": 200,
        }
        for start in (0, 1)
        for name, mean in (("policy", -150.0), ("trivial/random", -1200.0))
    ),
]  # fmt: skip
ROWS = TRAINING + EVALUATION


def views(rows) -> list[str]:
    state = LiveState()
    for row in rows:
        state = fold(state, row)
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(panel(state, PLAN, 9.0, 100))
    return [captured.get(), line(state, PLAN, 9.0)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "config.toml").write_text('[task]\nname = "gym:Pendulum-v1"\n')
    return tmp_path


@pytest.mark.parametrize("rows", [TRAINING, ROWS])
def test_no_view_speaks_of_success(rows):
    for view in views(rows):
        assert "success" not in view
        assert "0%" not in re.sub(r"interventions +0%", "", view)
        assert "-850.00" in view or "-149.5" in view


def test_the_summary_has_no_success_and_the_last_words_are_returns(folder: Path):
    summary = summarise(folder)
    assert {
        summary[key] for key in ("success", "success_low", "success_high", "trivial_success")
    } == {None}
    assert (summary["return"], summary["trivial_return"], summary["episodes"]) == (
        -149.5,
        -1199.5,
        2,
    )
    said = result_lines(Run(folder, "0" * 12, "gym:Pendulum-v1", "", 0.0), summary)
    assert [text.split() for text in said] == [
        ["policy", "mean", "return", "-149.5", "over", "2", "episodes"],
        ["trivial/random", "mean", "return", "-1,199.5", "over", "2", "episodes"],
    ]


def test_the_picture_draws_returns(folder: Path):
    figure = draw(ROWS, summarise(folder))
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    words += [axes.get_title(loc="left") for axes in figure.axes] + [
        t.get_text() for t in figure.texts
    ]
    assert not [word for word in words if "success" in word or "%" in word]
    assert "policy -149.5" in words


def test_a_task_knows_whether_anything_says_what_success_is():
    for name, options, judged in (
        ("gym:Pendulum-v1", [], False),
        ("gym:Pendulum-v1", ["--gym.success-return", "-200.0"], True),
        ("reach", [], True),
    ):
        assert make_task(load_config(name, options)).has_success is judged
