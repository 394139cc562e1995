"""How a run stands now: what its metrics say last on this host, and what the learner answers."""

from __future__ import annotations

import time
from typing import Any

from actor.config import Config
from actor.report.metrics_tail import MetricsTail
from handrail.errors import Error
from handrail.link.config import resolve_link
from handrail.link.rpc import RpcClient
from handrail.run_folder import Run

ANSWER_S = 2.0  # [s], for the learner
EVENTS = 3  # newest that are shown


def run_status(run: Run, config: Config) -> dict[str, Any]:
    """Return how a run stands now.

    Returns:
        "actor" and "learner_here", the newest rows of metrics of this host with "age" [s], None
        without any; "learner", its answer with "answered_in" [s], or an "error"; "events", the
        newest, with their "age" [s].
    """
    now, newest, events = run.elapsed(), {}, []
    for row in MetricsTail(run.metrics).rows():
        newest[row["kind"]] = row
        if row["kind"] == "event":
            events.append({"text": row.get("text", ""), "age": _age(now, row)})
    return {
        "run": str(run.folder),
        "task": config.task.name,
        "actor": _aged(now, newest.get("actor")),
        "learner_here": _aged(now, newest.get("learner")),
        "learner": _ask(run, config),
        "events": events[-EVENTS:],
    }


def _age(now: float, row: dict[str, Any]) -> float:
    return round(now - float(row.get("time", 0.0)), 3)


def _aged(now: float, row: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {**row, "age": _age(now, row)}


def _ask(run: Run, config: Config) -> dict[str, Any]:
    began = time.monotonic()
    try:
        link = resolve_link(run, config.link, listens=False)
        with RpcClient(link.request, keys=link.keys, learner=link.learner) as line:
            answer = line.call("status", timeout_s=ANSWER_S)
    except Error as error:
        return {"error": str(error)}
    return {**answer, "answered_in": round(time.monotonic() - began, 4)}


def describe(found: dict[str, Any]) -> list[str]:
    """Return what `run_status` found, a line about each thing."""
    lines = [("run", f"{found['run']}, task {found['task']}"), ("learner", _learner(found))]
    actor = found["actor"]
    if actor is None:
        lines.append(("actor", "none has written metrics on this host"))
    else:
        lines += _actor(actor)
    left = actor or found["learner_here"] or {}
    if "disk_free_bytes" in left:
        lines.append(("disk", _disk(left)))
    lines += [("event", f"{_ago(event['age'])}: {event['text']}") for event in found["events"]]
    return [f"{name:<9}{text}" for name, text in lines]


def _learner(found: dict[str, Any]) -> str:
    said = found["learner"]
    if "error" in said:
        return said["error"]
    return (
        f"answers in {1e3 * said['answered_in']:.0f} ms: {said['phase']}, {said['rows']} rows "
        f"stored, {said['env_steps']} training steps, {said['updates']} updates "
        f"({said['due']} due), weights {said['version']}"
    )


def _actor(row: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        (
            "actor",
            f"{row['phase']}, {row['env_steps']} training steps at {row['steps_per_s']:.1f}/s, "
            f"said {_ago(row['age'])}",
        )
    ]
    if "spool_depth" in row:
        lines.append(
            (
                "rows",
                f"{row['spool_depth']} wait ({_size(row['spool_bytes'])}), the oldest for "
                f"{row['spool_age']:.1f} s; {_size(row['flying_bytes'])} on the way, "
                f"acknowledged after {1e3 * row['ack_lag']:.0f} ms; "
                f"{'connected' if row['connected'] else 'NOT CONNECTED'}",
            )
        )
        lines.append(
            ("weights", f"{row['policy_version']}, new ones came {row['weights_age']:.1f} s before")
        )
    return lines


def _disk(row: dict[str, Any]) -> str:
    hours = row.get("disk_hours")
    lasts = "it does not fill" if hours is None else f"full in {hours:.1f} h at this rate"
    return f"{_size(row['disk_free_bytes'])} free, {lasts}"


def _ago(seconds: float) -> str:
    return f"{seconds:.1f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
