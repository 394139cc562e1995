"""Wrap a run up: summary, picture, film, and the last words on the terminal."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable

from actor.config import Config
from actor.report.figure import write_report
from actor.report.summary import evaluations, is_judged, mean_returns, summarise
from actor.report.video import record_video
from handrail.errors import Error
from handrail.processes.stop import Stopped
from handrail.run_folder import Run, read_metrics, write_atomic

log = logging.getLogger("handrail")

UNPROVEN = (
    "the policy was the base itself: edits haven't been proven to do better "
    "(learner.require_improvement)"
)


def finalize(
    run: Run, config: Config, video: bool = True, stop: Callable[[], bool] = lambda: False
) -> None:
    """Write summary.json, report.png and policy.mp4, and say what was reached.

    Args:
        run: The run.
        config: Its config.
        video: Whether to make the film.
        stop: Returns True once the film is to be left out.
    """
    summary = summarise(run.folder)
    write_atomic(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_report(run.folder)
    made = ["report.png"]
    if video:
        print("filming the policy", flush=True)
        try:
            record_video(run, config, stop)
            made.append("policy.mp4")
        except (Error, ImportError, OSError, RuntimeError) as error:
            print(f"no policy.mp4: {error}")
        except Stopped:
            print(f"no policy.mp4: stopped; make it by: handrail eval {run.folder} --film")
    for line in result_lines(run, summary):
        print(line)
    print("pictures: " + ", ".join(str(run.folder / name) for name in made), flush=True)


def result_lines(run: Run, summary: dict[str, object]) -> list[str]:
    """Return what was reached, beside the base and the trivial policies, one line each."""
    rows = list(read_metrics(run.metrics))
    outcomes, returns = evaluations(rows), mean_returns(rows)
    shares = {name: sum(of.values()) / len(of) for name, of in outcomes.items()}
    dense = any(abs(returns.get(name, share) - share) > 1e-6 for name, share in shares.items())
    judged, lines = is_judged(rows), []
    for name in sorted(outcomes, key=lambda n: (n != "policy", n != "base", n)):
        wins, total = sum(outcomes[name].values()), len(outcomes[name])
        if not judged:
            mean = returns.get(name, math.nan)
            lines.append(f"{name:<24} mean return {mean:,.1f} over {total} episodes")
            continue
        interval = ""
        if name == "policy":
            low, high = _percent(summary["success_low"]), _percent(summary["success_high"])
            interval = f"   95 % interval {low} to {high}"
        if dense:  # the return says more than success does
            interval += f"   mean return {returns.get(name, math.nan):,.1f}"
        lines.append(f"{name:<24} {wins:>3} of {total} episodes  {shares[name]:6.1%}{interval}")
    if "policy" in outcomes and not next((r["proven"] for r in rows[::-1] if "proven" in r), True):
        lines.append(UNPROVEN)
    return lines


def _percent(share: object) -> str:
    return f"{float(share):.0%}" if isinstance(share, float | int) else "?"
