"""What the live view knows: a value folded from rows of metrics, one row at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

PHASES = ("record", "base", "roll-outs", "warm-up", "online", "evaluation")
TRAINING = PHASES[2:5]
_ALIASES = {
    "rollout": "roll-outs",
    "rollouts": "roll-outs",
    "base_rollouts": "roll-outs",
    "collect": "roll-outs",
    "warmup": "warm-up",
    "warm_up": "warm-up",
    "critic_warmup": "warm-up",
    "eval": "evaluation",
}
WINDOW = 20  # [episodes], over which success and interventions are shown
EVENTS = 3  # shown at a time
PACE_S = 45.0  # [s], the time left is judged by the pace of this long


class Plan(NamedTuple):
    """What the run is and how long it will be."""

    task: str
    preset: str
    seed: int
    folder: str
    steps: int  # [steps], training
    demos: int  # [episodes]
    eval_episodes: int  # [episodes], of each policy
    tank_max: float  # [J], capacity of the energy tank


class Episode(NamedTuple):
    """One finished training episode."""

    success: bool | None  # None: nothing says what success is
    autonomous: bool
    intervened: float  # share of its steps that a person drove
    reward_sum: float


@dataclass(frozen=True)
class LiveState:
    """Everything that the view shows; numbers are None until a row has told them."""

    phase: str = ""
    seen: tuple[str, ...] = ()  # phases so far
    note: str = ""  # what goes on within the phase, where a phase has nothing else to tell
    time: float = 0.0  # [s], of the newest row
    env_steps: int = 0  # [steps], training steps so far
    demos: int = 0  # [episodes], recorded
    episodes: tuple[Episode, ...] = ()  # of training, oldest first
    evaluated: dict[str, dict[int, bool]] = field(default_factory=dict)  # policy: start: success
    returns: dict[str, dict[int, float]] = field(default_factory=dict)  # where nothing judges
    pace: tuple[tuple[float, float], ...] = ()  # (time, progress) of the newest rows, one phase
    actor: dict[str, Any] = field(default_factory=dict)  # newest row of each process
    learner: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    version: int | None = None  # of the policy that the actor runs
    version_time: float = 0.0  # [s], when it got it
    events: tuple[tuple[float, str], ...] = ()  # (time, what happened), newest last

    @property
    def evaluation(self) -> dict[str, tuple[int, int]]:
        """Wins and episodes of each policy in the last evaluation; a start counts once."""
        return {name: (sum(of.values()), len(of)) for name, of in self.evaluated.items()}

    @property
    def autonomous(self) -> tuple[bool, ...]:
        """Outcomes of the training episodes that nobody intervened in."""
        return tuple(e.success for e in self.episodes if e.autonomous and e.success is not None)

    @property
    def judged(self) -> bool:
        """Whether anything says what success is, as far as is known."""
        return not self.returns and all(e.success is not None for e in self.episodes)


def phase_name(phase: object) -> str:
    """Return the phase's name as it is shown, whatever spelling a process uses."""
    return _ALIASES.get(str(phase), str(phase or ""))


def fold(state: LiveState, row: dict[str, Any]) -> LiveState:
    """Return the state after one more row of metrics; rows of unknown kind change nothing."""
    handler = _HANDLERS.get(row["kind"])
    state = replace(state, time=max(state.time, _number(row.get("time"))))
    return state if handler is None else handler(state, row)


def success_rate(state: LiveState) -> float | None:
    """Return the success of the newest autonomous training episodes."""
    return _mean([float(s) for s in state.autonomous[-WINDOW:]])


def intervention_rate(state: LiveState) -> float | None:
    """Return the share of steps that a person drove in the newest training episodes."""
    return _mean([e.intervened for e in state.episodes[-WINDOW:]])


def mean_return(state: LiveState) -> float | None:
    """Return the mean return of the newest training episodes."""
    return _mean([e.reward_sum for e in state.episodes[-WINDOW:]])


def history(state: LiveState, points: int) -> list[float]:
    """Return the moving success of the autonomous training episodes, at most `points` values."""
    outcomes = state.autonomous
    moving = []
    for i in range(len(outcomes)):
        window = outcomes[max(0, i + 1 - WINDOW) : i + 1]
        moving.append(sum(window) / len(window))
    if len(moving) <= points:
        return moving
    return [moving[(i + 1) * len(moving) // points - 1] for i in range(points)]


def compiling(state: LiveState) -> bool:
    """Return whether the learner's first update is awaited, which is when it is compiled."""
    return state.phase in ("warm-up", "online") and not state.learner.get("updates")


def progress(state: LiveState, plan: Plan) -> tuple[int, int, str] | None:
    """Return how far the phase is: done, total, unit; None where nobody can know."""
    if state.phase == "record":
        return min(state.demos, plan.demos), plan.demos, "demonstrations"
    if state.phase in TRAINING:
        return min(state.env_steps, plan.steps), plan.steps, "training steps"
    if state.phase == "evaluation":
        done = max((total for _, total in state.evaluation.values()), default=0)
        return min(done, plan.eval_episodes), plan.eval_episodes, "evaluation episodes"
    return None


def time_left(state: LiveState, plan: Plan) -> float | None:
    """Return the seconds that the phase's remaining part takes at the newest pace."""
    part = progress(state, plan)
    if part is None or len(state.pace) < 2:
        return None
    (t0, p0), (t1, p1) = state.pace[0], state.pace[-1]
    if t1 - t0 < 2.0 or p1 <= p0:
        return None
    done, total, _ = part
    if done >= total:
        return None
    return (total - done) * (t1 - t0) / (p1 - p0)


def _on_phase(state: LiveState, row: dict[str, Any]) -> LiveState:
    return _enter(state, str(row.get("phase") or ""))


def _enter(state: LiveState, name: str) -> LiveState:
    phase = phase_name(name)
    if not phase or phase == state.phase:
        return state
    if phase not in PHASES:  # "compiling" and the like happen within a phase
        return replace(state, note=phase)
    if phase == "evaluation":  # a run that is gone on with evaluates anew
        state = replace(state, evaluated={}, returns={})
    kept = state.pace if {phase, state.phase} <= set(TRAINING) else ()
    return replace(state, phase=phase, seen=(*state.seen, phase), note="", pace=kept)


def _on_actor(state: LiveState, row: dict[str, Any]) -> LiveState:
    state = _enter(replace(state, actor=row, note=""), str(row.get("phase") or ""))
    state = _at(state, row)
    if state.phase in TRAINING:
        state = _paced(state, state.env_steps)
    version = row.get("policy_version")
    if isinstance(version, int) and version >= 0 and version != state.version:
        state = replace(state, version=version, version_time=state.time)
    return state


def _on_learner(state: LiveState, row: dict[str, Any]) -> LiveState:
    return replace(state, learner=row)


def _on_base(state: LiveState, row: dict[str, Any]) -> LiveState:
    return replace(state, base=row)


def _on_episode(state: LiveState, row: dict[str, Any]) -> LiveState:
    state = _at(state, row)
    if phase_name(row.get("phase")) == "record":
        demos = int(_number(row.get("demos"), state.demos + 1))
        return _paced(replace(state, demos=demos), demos)
    episode = Episode(
        None if _unjudged(row) else bool(row.get("success")),
        bool(row.get("autonomous", True)),
        _number(row.get("human_steps")) / max(1.0, _number(row.get("length"), 1.0)),
        _number(row.get("return")),
    )
    return replace(state, episodes=(*state.episodes, episode))


def _on_evaluation(state: LiveState, row: dict[str, Any]) -> LiveState:
    name = str(row.get("policy"))
    start, success = int(_number(row.get("start"))), bool(row.get("success"))
    starts = {**state.evaluated.get(name, {}), start: success}
    state = replace(state, evaluated={**state.evaluated, name: starts})
    if _unjudged(row):
        returns = {**state.returns.get(name, {}), start: _number(row.get("return"))}
        state = replace(state, returns={**state.returns, name: returns})
    return _paced(state, len(starts)) if name == "policy" else state


def _unjudged(row: dict[str, Any]) -> bool:
    return "success" in row and row["success"] is None


def _on_doing(state: LiveState, row: dict[str, Any]) -> LiveState:
    return replace(state, note=str(row.get("text", "")))


def _on_event(state: LiveState, row: dict[str, Any]) -> LiveState:
    event = (_number(row.get("time")), str(row.get("text", "")))
    return replace(state, events=(*state.events, event)[-EVENTS:])


def _at(state: LiveState, row: dict[str, Any]) -> LiveState:
    return replace(state, env_steps=max(state.env_steps, int(_number(row.get("env_steps")))))


def _paced(state: LiveState, done: float) -> LiveState:
    newest = (*state.pace, (state.time, float(done)))
    return replace(state, pace=tuple(p for p in newest if p[0] >= state.time - PACE_S))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: Any, default: float = 0.0) -> float:
    return float(value) if isinstance(value, int | float) else float(default)


_HANDLERS: dict[str, Callable[[LiveState, dict[str, Any]], LiveState]] = {
    "phase": _on_phase,
    "actor": _on_actor,
    "learner": _on_learner,
    "base": _on_base,
    "episode": _on_episode,
    "eval": _on_evaluation,
    "event": _on_event,
    "doing": _on_doing,
}
