"""Draw the live view: one calm panel for a terminal, or one line where there is none."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from actor.report.live_state import (
    PHASES,
    TRAINING,
    WINDOW,
    LiveState,
    Plan,
    compiling,
    history,
    intervention_rate,
    mean_return,
    progress,
    success_rate,
    time_left,
)

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 92  # [columns], at most
NARROW = 72  # [columns], below it the two tables stand one above the other
LABEL, VALUE, ACCENT, GOOD, BAD = "grey58", "bold", "bold cyan", "green", "red"


def panel(state: LiveState, plan: Plan, now: float, width: int) -> RenderableType:
    """Return the view.

    Args:
        state: What is known.
        plan: What the run is.
        now: Time on the run's clock, [s].
        width: Width of the terminal, [columns].
    """
    width = min(width, WIDTH)
    parts: list[RenderableType] = [_phases(state, now, width), Text()]
    if state.phase == "evaluation" and state.evaluation:
        parts += [_evaluation(state, width), Text()]
    else:
        parts += [_headline(state, width), Text()]
    parts += [_tables(state, plan, now, width), Text(), _progress(state, plan)]
    if state.events:
        parts += [Text(), _events(state)]
    title = Text.assemble(
        (" Handrail ", "bold default"),
        ("· ", LABEL),
        (plan.task, ACCENT),
        (" · ", LABEL),
        plan.preset,
        (f" · seed {plan.seed} ", LABEL),
    )
    folder = Text(f" {plan.folder} ", LABEL)
    folder.truncate(width - 6, overflow="ellipsis")
    return Panel(
        Group(*parts),
        title=title,
        title_align="left",
        subtitle=folder,
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="grey42",
        padding=(1, 2),
        width=width,
    )


def line(state: LiveState, plan: Plan, now: float) -> str:
    """Return the view as one line of text, without colours."""
    words = [f"[{_clock(now)}]", f"{_phase_name(state):<10}"]
    part = progress(state, plan)
    if part is not None:
        words.append(f"{part[0]}/{part[1]}")
    if state.phase == "base" and state.base:
        words.append(f"validation loss {_figure(state.base.get('validation_loss'), 4)}")
    if state.phase in TRAINING:
        words += [f"success {_percent(success_rate(state))}"] if state.judged else []
        words += [
            f"interventions {_percent(intervention_rate(state))}",
            f"return {_figure(mean_return(state), 2)}",
            f"Q {_figure(state.learner.get('q'), 2)}",
            "compiling"
            if compiling(state)
            else f"updates/step {_figure(state.learner.get('updates_per_step'), 2)}",
            *([f"weights refused {n} times"] if (n := state.learner.get("refusals")) else []),
            f"tick {_figure(state.actor.get('tick_us'), 0)} us",
            f"spool {_count(state.actor.get('spool_depth'))}",
        ]
    for name, (wins, total) in state.evaluation.items():
        told = f"{wins}/{total}" if state.judged else f"return {_mean_of(state, name)}"
        words.append(f"{name} {told}")
    left = time_left(state, plan)
    if left is not None:
        words.append(f"ETA {_clock(left)}")
    return "  ".join(words)


def _phases(state: LiveState, now: float, width: int) -> RenderableType:
    wide = width >= NARROW
    chips = Text(no_wrap=True)
    for name in PHASES:
        if chips:
            chips.append(" · " if wide else " ", LABEL)
        if name == state.phase:
            chips.append(f" {name} ", "bold black on cyan")
        elif name in state.seen:
            chips.append(f"✓ {name}" if wide else "✓", GOOD)
        else:
            chips.append(name if wide else "·", "grey42")
    row = Table.grid(expand=True)
    row.add_column()
    row.add_column(justify="right")
    row.add_row(chips, Text(_clock(now), LABEL))
    return row


def _headline(state: LiveState, width: int) -> RenderableType:
    wide = width >= NARROW
    if not state.judged:
        span = min(WINDOW, len(state.episodes))
        mean = _value(_figure(mean_return(state), 2), f"last {span} episodes")
        return Text.assemble(("return       ", LABEL), mean, no_wrap=True)
    rate = success_rate(state)
    label = ("success      ", LABEL)
    if rate is None:
        return Text.assemble(label, ("–   ", VALUE), (_waiting(state), LABEL), no_wrap=True)
    bars = "".join(BLOCKS[min(7, int(v * 8))] for v in history(state, 32 if wide else 20))
    style = GOOD if rate >= 0.8 else "yellow" if rate >= 0.4 else "default"
    span = min(WINDOW, len(state.autonomous))
    return Text.assemble(
        label,
        (f"{rate:.0%}".ljust(4), f"bold {style}"),
        (bars, style),
        (f"  last {span}" + (" autonomous episodes" if wide else ""), LABEL),
        no_wrap=True,
    )


def _waiting(state: LiveState) -> str:
    if state.note:
        return f"{state.note} …"
    return {
        "": "starting; the first time, compiling takes a minute",
        "record": "recording demonstrations",
        "base": "training the base policy",
    }.get(state.phase, "the first episode is under way")


def _evaluation(state: LiveState, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=11)
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, (wins, total) in sorted(state.evaluation.items(), key=_rank):
        share = wins / total
        main = name == "policy"
        if not state.judged:
            mean = Text(_mean_of(state, name), f"bold {GOOD}" if main else VALUE)
            row = (Text("mean return", LABEL), Text(f"{total} episodes", LABEL))
            table.add_row(Text(name, VALUE if main else LABEL), mean, *row)
            continue
        table.add_row(
            Text(name, VALUE if main else LABEL),
            Text(f"{share:.0%}", f"bold {GOOD}" if main else VALUE),
            _bar(share, 32 if width >= NARROW else 16, "green" if main else "grey50"),
            Text(f"{wins} of {total}", LABEL),
        )
    return table


def _mean_of(state: LiveState, name: str) -> str:
    returns = state.returns.get(name, {})
    return _figure(sum(returns.values()) / len(returns) if returns else None, 1)


def _rank(item: tuple[str, tuple[int, int]]) -> tuple[bool, bool, str]:
    return item[0] != "policy", item[0] != "base", item[0]


def _tables(state: LiveState, plan: Plan, now: float, width: int) -> RenderableType:
    if width < NARROW:
        return Group(_learning(state, now), Text(), _robot(state, plan))
    both = Table.grid(expand=True, padding=(0, 2))
    both.add_column(ratio=1)
    both.add_column(ratio=1)
    both.add_row(_learning(state, now), _robot(state, plan))
    return both


def _learning(state: LiveState, now: float) -> RenderableType:
    learner = state.learner
    span = min(WINDOW, len(state.episodes))
    table = _pairs()
    table.add_row("return", _value(_figure(mean_return(state), 2), f"last {span}"))
    table.add_row("Q", _value(_figure(learner.get("q"), 2)))
    made = _count(learner.get("updates"))
    table.add_row(
        "updates",
        _value("compiling …")
        if compiling(state)
        else _value(_figure(learner.get("updates_per_step"), 2), "per step", made),
    )
    table.add_row("gain", _value(_figure(learner.get("gain"), 2), "of the edit"))
    if state.phase == "base" and state.base:
        loss = _figure(state.base.get("validation_loss"), 4)
        table.add_row("base", _value(loss, "validation loss"))
    elif state.version is None:
        table.add_row("policy", _value("–"))
    else:
        if learner.get("refusals"):
            refused = f"newer ones refused {_count(learner['refusals'])} times"
            table.add_row("policy", Text(f"v{state.version} · {refused}", BAD))
            return table
        age = f"{max(0.0, now - state.version_time):.0f} s old" if state.phase in TRAINING else ""
        table.add_row("policy", _value(f"v{state.version}", age))
    return table


def _robot(state: LiveState, plan: Plan) -> RenderableType:
    actor = state.actor
    rate = intervention_rate(state)
    tick = _value(_figure(actor.get("tick_us"), 0), "µs of 1000", _pace(actor))
    tank = actor.get("tank_j")
    if isinstance(tank, int | float):
        share = max(0.0, min(1.0, tank / plan.tank_max))
        bar = _bar(share, 12, "cyan" if share > 0.1 else BAD)
        level = Text.assemble(bar, (f" {tank:.2f}", VALUE), (" J", LABEL))
    else:
        level = _value("–")
    link = "" if actor.get("connected", True) else "learner not connected"
    table = _pairs()
    table.add_row("control", _authority(state))
    table.add_row("interventions", _value(_percent(rate), "of steps"))
    table.add_row("tick", tick)
    table.add_row("tank", level)
    table.add_row("spool", _value(_count(actor.get("spool_depth")), "rows", link))
    return table


def _authority(state: LiveState) -> Text:
    if not state.actor or state.phase in ("", "base"):
        return _value("–")
    if state.phase == "record":
        return _value("expert")
    if state.actor.get("authority") == "human":
        return Text(" operator ", "bold black on dark_orange")
    if state.actor.get("quiet"):
        return Text("exam: hands off", "bold yellow")
    return _value("policy")


def _progress(state: LiveState, plan: Plan) -> RenderableType:
    part = progress(state, plan)
    row = Table.grid(expand=True, padding=(0, 2))
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True)
    if part is None:
        what = "until the validation loss stops falling" if state.phase == "base" else ""
        row.add_row(ProgressBar(total=None, pulse_style="cyan", style="grey30"), Text(what, LABEL))
        return row
    done, total, unit = part
    left = time_left(state, plan)
    bar = ProgressBar(
        total=total,
        completed=done,
        complete_style="cyan",
        finished_style="green",
        style="grey30",
    )
    words = Text.assemble((_count(done), VALUE), (f" / {_count(total)} {unit}", LABEL))
    if left is not None:
        words.append(f"   {_clock(left)} left")
    row.add_row(bar, words)
    return row


def _events(state: LiveState) -> RenderableType:
    return Text("\n").join(
        Text.assemble((f"{_clock(time)}  ", LABEL), (text, "yellow")) for time, text in state.events
    )


def _pairs() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style=LABEL, min_width=11)
    table.add_column()
    return table


def _value(value: str, unit: str = "", more: str = "") -> Text:
    text = Text(value, VALUE)
    if unit and value != "–":
        text.append(f" {unit}", "not bold grey58")
    if more and more != "–":
        text.append(f" · {more}", "not bold grey58")
    return text


def _bar(share: float, width: int, style: str) -> Text:
    full = round(share * width)
    return Text.assemble(("━" * full, style), ("━" * (width - full), "grey30"))


def _phase_name(state: LiveState) -> str:
    name = state.phase or "starting"
    return f"{name} ({state.note})" if state.note else name


def _pace(actor: dict[str, object]) -> str:
    pace = actor.get("steps_per_s")
    return f"{pace:.0f} steps/s" if isinstance(pace, int | float) else ""


def _figure(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "–"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _count(value: object) -> str:
    return f"{int(value):,}".replace(",", " ") if isinstance(value, int | float) else "–"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
