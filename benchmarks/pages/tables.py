"""Write docs/results/benchmarks.md from benchmarks/results/learn.jsonl.

    python benchmarks/pages/tables.py            # write
    python benchmarks/pages/tables.py --check    # fail if the page is not what the results say

The figures come from the results alone; what they mean is read by people, in
benchmarks/pages/reading.md, which is put below the tables as it stands.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from actor.report.summary import wilson
from benchmarks.kit.seed_statistics import chance_ahead, interquartile_mean, interval, least_lead

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "learn.jsonl"
READING = ROOT / "benchmarks" / "pages" / "reading.md"
PAGE = ROOT / "docs" / "results" / "benchmarks.md"
REFERENCE = "rlpd"
EPISODES = 50  # of each final evaluation, where a row doesn't say

HEAD = """\
# Benchmarks

Each cell is one run of `benchmarks/learn.py` on one core: demonstrations, training, evaluation, all
inline, the same to the bit for its seed. Methods of one seed share their demonstrations, networks,
batch size and ratio of updates to steps. No seed is dropped. The tables are made by
`python benchmarks/pages/tables.py` from `benchmarks/results/learn.jsonl`, where each line names the
commit that it was run at; `python benchmarks/learn.py --suite sim` runs what is missing, and
`python benchmarks/reproduce.py --task peg_far --preset rlpd --seed 4` runs a cell
that isn't missing again, at its commit, and says what came out differently.

**success**: share of 100 (10,000 steps: 50) autonomous evaluation episodes at the end, last
averaged weights, mean over seeds, and the range over seeds. **IQM**: interquartile mean over seeds.
**95 %**: bootstrap over seeds, then episodes (10,000 steps: Wilson interval of the pooled
episodes). **over rlpd**: difference to the mean success of `rlpd` over the seeds that both have,
and in how many resamples, of seeds and then episodes, it is ahead; fewer than five seeds order
nothing. **curve**: mean success over ten evaluations during training, which is the area under the
learning curve. **to 80 %**: training steps until three consecutive evaluations average 80 %; `—` is
a seed that never did. **failures**: autonomous episodes that failed during training. **base**,
**best trivial**, **expert**: the behaviour-cloned base, the best policy without skill, and the
script behind the demonstrations, without its noise, from the same starts. **held out**: success on
goals that training never showed, and the base's on them; only Meta-World has a fixed set of goals.
**least lead**: the lower 95 % bound of how far the policy is ahead of its base from the same
starts, at the worst of the ten evaluations, corrected for their number; above −0.10 nobody can say
that it was worse.
"""


def main() -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Write docs/results/benchmarks.md from the results."
    )
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    text = page([json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()])
    if options.check:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(
            "up to date"
            if same
            else "docs/results/benchmarks.md differs: python benchmarks/pages/tables.py"
        )
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page's text."""
    groups: dict[tuple[str, bool, int], dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for row in rows:
        key = (row["task"], row["operator"], row["steps"])
        groups[key].setdefault(row["preset"], []).append(row)
    parts = [HEAD]
    for (task, operator, steps), presets in sorted(groups.items()):
        title = f"{task}, {'with' if operator else 'without'} the operator, {steps:,} steps"
        parts.append(f"\n## {title}\n\n{table(presets, operator)}")
    if READING.exists():
        parts.append("\n## Reading them\n\n" + READING.read_text(encoding="utf-8").strip() + "\n")
    commits = sorted({row["commit"] for row in rows})
    parts.append("\nCommits: " + ", ".join(f"`{commit}`" for commit in commits) + "\n")
    return "".join(parts)


def table(presets: dict[str, list[dict[str, Any]]], operator: bool) -> str:
    """Return one table, a line per preset."""
    presets = {name: sorted(rows, key=lambda row: row["seed"]) for name, rows in presets.items()}
    held_out = any(
        row.get("held_out_success") is not None for rows in presets.values() for row in rows
    )
    names = ["preset", "seeds", "success", "IQM", "95 %", f"over {REFERENCE}", "curve", "to 80 %"]
    names += ["failures", "base", "least lead", "best trivial", "expert", "wall [s]"]
    names += ["held out", "held out: base"] if held_out else []
    names += ["takeovers", "human steps", "budget left"] if operator else []
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for preset, rows in sorted(presets.items()):
        cells = [f"`{preset}`", str(len(rows)), spread(rows, "success")]
        cells += [f"{interquartile_mean([row['success'] for row in rows]):.2f}", covered(rows)]
        cells += ["—" if preset == REFERENCE else over(rows, presets.get(REFERENCE, []))]
        cells += [spread(rows, "auc"), ", ".join(_steps(row) for row in rows)]
        cells += [counted(rows, "failures"), spread(rows, "base_success"), lead(rows)]
        cells += [spread(rows, "trivial_success"), spread(rows, "expert_success")]
        cells += [plain(rows, "wall_s")]
        if held_out:
            cells += [spread(rows, f"held_out_{name}") for name in ("success", "base_success")]
        if operator:
            cells += [plain(rows, n) for n in ("interventions", "human_steps", "budget_left")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def over(rows: list[dict[str, Any]], reference: list[dict[str, Any]]) -> str:
    """Return how far success is ahead of the reference's over common seeds, and how surely."""
    ours, theirs = ({row["seed"]: row for row in some} for some in (rows, reference))
    seeds = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    if not pairs or not all("outcomes" in row for pair in pairs for row in pair):
        return "—"
    ahead = chance_ahead(
        *([_bits(row["outcomes"]["policy"]) for row in side] for side in zip(*pairs, strict=True))
    )
    difference = sum(a["success"] - b["success"] for a, b in pairs) / len(pairs)
    return f"{difference:+.2f} ({ahead:.1%})"


def spread(rows: list[dict[str, Any]], key: str) -> str:
    """Return mean and range of a share over seeds."""
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return "—"
    return f"{sum(values) / len(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def counted(rows: list[dict[str, Any]], key: str) -> str:
    """Return mean and range of a count over seeds."""
    values = [row[key] for row in rows]
    return f"{sum(values) / len(values):,.0f} ({min(values):,}–{max(values):,})"


def plain(rows: list[dict[str, Any]], key: str) -> str:
    """Return the mean over seeds of a number."""
    values = [row[key] for row in rows if row[key] is not None]
    return f"{sum(values) / len(values):,.0f}" if values else "—"


def covered(rows: list[dict[str, Any]]) -> str:
    """Return the 95 % interval over seeds, or over pooled episodes for rows without outcomes."""
    if not all("outcomes" in row for row in rows):
        return pooled(rows)
    low, high = interval([_bits(row["outcomes"]["policy"]) for row in rows])
    return f"{low:.2f}–{high:.2f}"


def lead(rows: list[dict[str, Any]]) -> str:
    """Return the least lower bound of the policy's lead over its base, of the evaluations."""
    if not all("grid" in row for row in rows):
        return "—"
    points = [
        [
            [bit for row in rows for bit in _bits(row["grid"][i][name])]
            for name in ("policy", "base")
        ]
        for i in range(min(len(row["grid"]) for row in rows))
    ]
    bounds = [least_lead(policy, base, looks=len(points)) for policy, base in points]
    return f"{min(bounds):+.2f}"


def _bits(digits: str) -> list[bool]:
    return [digit == "1" for digit in digits]


def pooled(rows: list[dict[str, Any]]) -> str:
    """Return the Wilson 95 % interval of all final episodes together."""
    counts = [row.get("eval_episodes", EPISODES) for row in rows]
    total = sum(counts)
    wins = sum(row["success"] * n for row, n in zip(rows, counts, strict=True))
    low, high = wilson(round(wins), total)
    return f"{low:.2f}–{high:.2f}"


def _steps(row: dict[str, Any]) -> str:
    return "—" if row["steps_to_80"] is None else f"{row['steps_to_80']:,}"


if __name__ == "__main__":
    sys.exit(main())
