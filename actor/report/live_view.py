"""Show a run as it goes: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.live import Live

from actor.config import Config
from actor.report.live_panel import line, panel
from actor.report.live_state import LiveState, Plan, fold
from actor.report.metrics_tail import MetricsTail
from actor.report.tensorboard import TensorBoardWriter
from handrail.run_folder import Run

PANEL_PERIOD = 0.25  # [s], between drawings
LINE_PERIOD = 5.0  # [s], between lines where there is no terminal


class LiveView:
    """Follows a run's metrics while the run goes, for the terminal and for TensorBoard.

    Use it as a context manager and call `update` often.
    """

    def __init__(self, run: Run, config: Config, console: Console | None = None) -> None:
        self._run = run
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._plan = plan_of(run, config)
        self._state = LiveState()
        self._tail = MetricsTail(run.metrics)
        self._board = TensorBoardWriter(run)
        self._live: Live | None = None
        self._shown = float("-inf")

    def __enter__(self) -> LiveView:
        if _can_draw(self._console):
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.__enter__()
        self._fold()
        self.update(force=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.update(force=True)
        finally:
            self._board.close()
            if self._live is not None:
                self._live.__exit__(kind, error, trace)

    def update(self, force: bool = False) -> None:
        """Take in what is new, and draw if it is time to.

        Args:
            force: Draw in any case.
        """
        before = self._state
        self._fold()
        now = self._run.elapsed()
        if self._live is not None:
            if force or now - self._shown >= PANEL_PERIOD:
                self._shown = now
                view = panel(self._state, self._plan, now, self._console.width)
                self._live.update(view, refresh=True)
            return
        for time, text in self._state.events:
            if (time, text) not in before.events:
                self._say(f"[{time:6.1f} s]  {text}")
        changed = self._state.phase != before.phase or self._state.note != before.note
        if force or changed or now - self._shown >= LINE_PERIOD:
            self._shown = now
            self._say(line(self._state, self._plan, now))

    def _fold(self) -> None:
        rows = self._tail.rows()
        for row in rows:
            self._state = fold(self._state, row)
        self._board.add(rows)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def _can_draw(console: Console) -> bool:
    """Return whether a terminal moves its cursor and has the panel's signs."""
    return (
        console.is_terminal
        and not console.is_dumb_terminal
        and console.encoding.lower().startswith("utf")
    )


def plan_of(run: Run, config: Config) -> Plan:
    """Return what the view says about the run before it has begun."""
    return Plan(
        config.task.name,
        config.learner.preset,
        config.run.seed,
        str(run.folder),
        config.run.steps,
        config.run.demos,
        config.run.eval_episodes,
        config.control.tank_max,
    )
