"""What a run reached, computed from its metrics file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actor.report.live_state import TRAINING, phase_name
from handrail.config import load_toml
from handrail.errors import RunFolderError
from handrail.run_folder import read_metrics

Row = dict[str, Any]
HELD_OUT = "held_out/policy"  # name of the policy's results on goals that training never showed
ACTING = ("phase", "actor", "episode")  # kinds of rows whose phase is the arm's, not the learner's


def summarise(run_folder: Path) -> dict[str, Any]:
    """Return the run's result.

    Keys: task, preset, seed; success with its 95 % interval success_low to success_high over
    `episodes` evaluation episodes; base_success from the same starts and trivial_success, the best
    trivial policy's; held_out_success, the policy's on goals that training never showed; return,
    base_return and trivial_return, the means of the rewards' sums; env_steps and train_episodes of
    training; interventions, the take-overs in training; refused, the publications of weights that
    the gate kept from the arm; updates; train_s, the time on the run's clock to the end of
    training, which takes in recording and the base. What the run has not come to yet is None or 0;
    so is success where nothing says what it is.

    Args:
        run_folder: A run folder, finished or not.

    Raises:
        RunFolderError: The folder has no metrics.
        ConfigError: Its config is damaged.
    """
    rows = read_rows(run_folder)
    config = load_toml(Path(run_folder) / "config.toml")
    results = evaluations(rows)
    wins, total = _count(results.get("policy", {}))
    judged = results if is_judged(rows) else {}
    low, high = wilson(wins, total) if total and judged else (None, None)
    trivial = [_share(r) for name, r in judged.items() if name.startswith("trivial")]
    training = training_episodes(rows)
    returns = mean_returns(rows)
    return {
        "task": config.get("task", {}).get("name"),
        "preset": config.get("learner", {}).get("preset"),
        "seed": config.get("run", {}).get("seed"),
        "success": wins / total if total and judged else None,
        "success_low": low,
        "success_high": high,
        "base_success": _share(judged["base"]) if "base" in judged else None,
        "trivial_success": max(trivial) if trivial else None,
        "held_out_success": _share(judged[HELD_OUT]) if HELD_OUT in judged else None,
        "return": returns.get("policy"),
        "base_return": returns.get("base"),
        "trivial_return": max(
            (r for name, r in returns.items() if name.startswith("trivial")), default=None
        ),
        "episodes": total,
        "env_steps": max((int(r.get("env_steps") or 0) for r in rows), default=0),
        "train_episodes": len(training),
        "interventions": sum(takeovers(r) for r in training),
        "refused": max((int(r.get("refused") or 0) for r in rows), default=0),
        "updates": max((int(r.get("updates") or 0) for r in rows), default=0),
        "train_s": training_time(rows),
    }


def read_rows(run_folder: Path) -> list[Row]:
    """Return a run's rows of metrics; a half-written last line is passed over.

    Raises:
        RunFolderError: The folder has no metrics.
    """
    path = Path(run_folder) / "metrics.jsonl"
    try:
        return list(read_metrics(path))
    except FileNotFoundError:
        raise RunFolderError(
            f"{run_folder} holds no metrics.jsonl: not a run folder, or nothing has run in it yet"
        ) from None


def is_judged(rows: list[Row]) -> bool:
    """Return whether anything says what success is in a run; else its rows say null."""
    told = [r["success"] for r in rows if r.get("kind") in ("episode", "eval") and "success" in r]
    return not told or any(success is not None for success in told)


def evaluations(rows: list[Row]) -> dict[str, dict[int, bool]]:
    """Return the outcomes of the last evaluation: name of the policy -> start -> success.

    An evaluation that was cut and gone on with counts each start once; one made earlier in
    training doesn't count.

    Args:
        rows: All rows of a run, oldest first.
    """
    results: dict[str, dict[int, bool]] = {}
    for r in _last_evaluation(rows):
        start = int(r.get("start") or 0)
        results.setdefault(str(r.get("policy")), {})[start] = bool(r.get("success"))
    return results


def mean_returns(rows: list[Row]) -> dict[str, float]:
    """Return each policy's mean return in the last evaluation, [reward].

    Args:
        rows: All rows of a run, oldest first.
    """
    returns: dict[str, dict[int, float]] = {}
    for r in _last_evaluation(rows):
        if r.get("return") is not None:
            start = int(r.get("start") or 0)
            returns.setdefault(str(r.get("policy")), {})[start] = float(r["return"])
    return {name: sum(of.values()) / len(of) for name, of in returns.items()}


def training_episodes(rows: list[Row]) -> list[Row]:
    """Return the rows of finished training episodes, without demonstrations."""
    return [
        r for r in rows if r.get("kind") == "episode" and phase_name(r.get("phase")) in TRAINING
    ]


def training_time(rows: list[Row]) -> float:
    """Return when training ended on the run's clock, [s]; where it hasn't, the newest time."""
    named = [(_time(r), phase_name(r.get("phase"))) for r in rows if r.get("kind") in ACTING]
    trained = max((time for time, phase in named if phase in TRAINING), default=None)
    if trained is None:
        return max(map(_time, rows), default=0.0)
    return min((t for t, phase in named if phase == "evaluation" and t >= trained), default=trained)


def takeovers(episode: Row) -> int:
    """Return how often a person took over in an episode."""
    given = episode.get("takeovers")
    return int(given) if given is not None else int(bool(episode.get("human_steps")))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the interval that a success rate lies in with 95 %.

    Args:
        successes: Number of successes, 0 to n.
        n: Number of episodes; for none the interval is [0, 1].

    Raises:
        ValueError: More successes than episodes, or negative numbers.

    Source:
        E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    from scipy.stats import binomtest  # takes half a second, which most processes never need

    if not 0 <= successes <= n:
        raise ValueError(f"successes must be 0 to n = {n}, got {successes}")
    if n == 0:
        return 0.0, 1.0
    low, high = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def _last_evaluation(rows: list[Row]) -> list[Row]:
    found = [r for r in rows if r.get("kind") == "eval"]
    newest = max((int(r.get("env_steps") or 0) for r in found), default=0)
    return [r for r in found if int(r.get("env_steps") or 0) == newest]


def _count(outcomes: dict[int, bool]) -> tuple[int, int]:
    return sum(outcomes.values()), len(outcomes)


def _share(outcomes: dict[int, bool]) -> float:
    return sum(outcomes.values()) / len(outcomes)


def _time(row: Row) -> float:
    return float(row.get("time") or 0.0)
