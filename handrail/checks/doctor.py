"""`handrail doctor`: what works here, for which role, and the line that fixes the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import UseAppendAction

from handrail.checks import install, ipc, machine, network, timing
from handrail.checks.result import FAIL, OK, CheckResult
from handrail.command_line import Json, parse

DEFAULT_ROLES = ("host", "actor", "learner", "sim")  # what `handrail train` needs
_MEANING = {
    "host": "run the 1 kHz control process",
    "actor": "run a policy",
    "learner": "update the policy",
    "sim": "train on a simulated arm",
    "dev": "work on Handrail",
}


@dataclass(frozen=True)
class DoctorOptions:
    """Say what is installed, what is missing for which role, and what fixes it.

    The exit code is 0 if the roles that were asked for work, else 1.
    """

    role: UseAppendAction[tuple[Literal["host", "actor", "learner", "sim", "dev"], ...]] = ()
    """Role to judge by, may be repeated (default: all but dev)."""
    json: Json = False


def main(argv: list[str] | None = None) -> int:
    """Look at this machine and print what was found; return 0 if the asked roles work."""
    options: DoctorOptions = parse(DoctorOptions, "doctor", argv)
    asked = tuple(options.role) or DEFAULT_ROLES
    findings = [f for f in run_checks(asked) if set(f.roles) & set(asked)]
    verdicts = {role: role_works(findings, role) for role in asked}
    if options.json:
        report = {
            "ok": all(verdicts.values()),
            "roles": verdicts,
            "findings": [f._asdict() for f in findings],
        }
        print(json.dumps(report))
    else:
        _show(findings, verdicts)
    return 0 if all(verdicts.values()) else 1


def run_checks(roles: Sequence[str]) -> list[CheckResult]:
    """Return the findings of every check that concerns the roles."""
    found = [*install.packages(), *install.dependencies()]
    if "sim" in roles:
        found += machine.graphics()
    if "learner" in roles:
        found += machine.accelerator()
    found += machine.resources(Path.cwd())
    if "host" in roles:
        found += [
            *timing.clocks(),
            *timing.rt_privileges(),
            *network.governors(),
            *network.network_cards(),
        ]
    if any(f.name == "core" and f.state == FAIL for f in found):
        return found
    return [*found, *ipc.local_ipc()]


def role_works(findings: Sequence[CheckResult], role: str) -> bool:
    """Return whether nothing was found that keeps a role from working."""
    return not any(f.state == FAIL and role in f.roles for f in findings)


def _show(findings: Sequence[CheckResult], verdicts: dict[str, bool]) -> None:
    try:
        from rich.console import Console
    except ImportError:  # the doctor must be able to say that rich is missing
        _show_plainly(findings, verdicts)
        return
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    marks = {OK: ("✓", "green"), FAIL: ("✗", "bold red")}
    for group in dict.fromkeys(f.group for f in findings):
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=1)
        table.add_column(min_width=23, style="bold")
        table.add_column(overflow="fold")
        for f in (f for f in findings if f.group == group):
            table.add_row(Text(*marks.get(f.state, ("!", "yellow"))), f.name, Text(f.text))
            if f.remedy:
                table.add_row("", "", Text(f"→ {f.remedy}", "cyan"))
        console.print(Text(f"\n{group}", "grey58"))
        console.print(Padding(table, (0, 0, 0, 2)))
    console.print()
    for role, fine in verdicts.items():
        console.print(
            Text.assemble(
                ("  ✓ " if fine else "  ✗ ", "green" if fine else "bold red"),
                (f"{role:<9}", "bold"),
                (_MEANING[role] if fine else f"{_MEANING[role]}: {_why(findings, role)}", "grey58"),
            )
        )


def _show_plainly(findings: Sequence[CheckResult], verdicts: dict[str, bool]) -> None:
    for f in findings:
        remedy = f"\n       -> {f.remedy}" if f.remedy else ""
        print(f"{f.state:<5}{f.name}: {f.text}{remedy}")
    for role, fine in verdicts.items():
        print(f"{role}: {'works' if fine else 'does not work, ' + _why(findings, role)}")


def _why(findings: Sequence[CheckResult], role: str) -> str:
    return "see " + ", ".join(f.name for f in findings if f.state == FAIL and role in f.roles)


if __name__ == "__main__":
    sys.exit(main())
