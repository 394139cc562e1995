"""What the benchmark pages say of a handful of seeds, held against closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.kit.cells import append
from benchmarks.kit.seed_statistics import chance_ahead, interquartile_mean, interval, least_lead
from benchmarks.learn import Cell, sibling
from benchmarks.pages.tables import over
from benchmarks.reproduce import differences, found


def outcomes(rng: np.random.Generator, shares: list[float], episodes: int) -> list[list[bool]]:
    return [list(rng.random(episodes) < share) for share in shares]


def test_interquartile_mean_drops_the_outer_quarters():
    assert interquartile_mean([0.0, 1.0, 2.0, 100.0]) == pytest.approx(1.5)
    assert interquartile_mean([0.2, 0.4, 0.9]) == pytest.approx(0.5)  # too few to drop any


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(100):
        low, high = interval(outcomes(rng, [0.7] * 5, 100))
        hits += low <= 0.7 <= high
    assert 85 <= hits <= 100


def test_seeds_that_disagree_widen_the_interval_more_than_episodes_can_narrow_it():
    agree = [[True] * 500 + [False] * 500] * 3
    differ = [[True] * 1000, [True] * 500 + [False] * 500, [False] * 1000]
    width = [high - low for low, high in (interval(agree), interval(differ))]
    assert width[1] > 5 * width[0]


def test_chance_ahead_tells_better_from_equal_and_worse():
    rng = np.random.default_rng(1)
    strong, weak = (outcomes(rng, [share] * 3, 100) for share in (0.95, 0.6))
    assert chance_ahead(strong, weak) > 0.99
    assert chance_ahead(weak, strong) < 0.01
    assert chance_ahead(strong, strong) == pytest.approx(0.5, abs=0.05)
    assert chance_ahead(strong[:2], weak) > 0.99  # unpaired


def row(seed: int, successes: int) -> dict:
    bits = "1" * successes + "0" * (100 - successes)
    return {"seed": seed, "success": successes / 100, "outcomes": {"policy": bits}}


def test_a_table_compares_methods_over_the_seeds_that_both_have():
    ours, theirs = [row(0, 90), row(1, 80), row(2, 0)], [row(1, 30), row(0, 40)]
    assert over(ours, theirs) == "+0.50 (100.0%)"
    assert over(theirs, ours) == "-0.50 (0.0%)"
    assert over(ours, []) == "—"
    assert over([{"seed": 0, "success": 1.0}], theirs) == "—"  # of an age without outcomes


def test_least_lead_is_nothing_for_the_same_actions_and_worse_the_more_often_one_looks():
    same = [True, False, True, True]
    assert least_lead(same, same, looks=10) == 0.0
    policy, base = [True] * 30 + [False] * 10, [True] * 20 + [False] * 20
    assert 0.0 < least_lead(policy, base) < 0.25
    assert least_lead(policy, base, looks=10) < least_lead(policy, base)
    assert least_lead([True], [False]) == -math.inf


def test_least_lead_seldom_exceeds_the_true_lead():
    rng, above = np.random.default_rng(2), 0
    for _ in range(400):
        policy, base = rng.random(60) < 0.8, rng.random(60) < 0.6
        above += least_lead(list(policy), list(base)) > 0.2
    assert above <= 36  # 5 % of 400 is 20; 36 has a chance below a thousandth


def test_a_cell_takes_over_what_its_sibling_of_task_seed_and_commit_has_measured(tmp_path):
    results = tmp_path / "learn.jsonl"
    row = {"task": "peg", "preset": "rlpd", "seed": 1, "commit": "abc"}
    harder = ["--task.friction", "2"]
    for other in ({"task": "pick"}, {"seed": 2}, {"commit": "abd"}, {"overrides": harder}, {}):
        append(results, {**row, **other})
    cell = Cell("peg", "resfit", operator=False, seed=1, steps=100)
    assert sibling(cell, results, "abc", []) == row
    assert sibling(cell, results, "abc", harder) == {**row, "overrides": harder}
    assert sibling(cell, results, "abc", ["--run.demos", "5"]) is None
    assert sibling(cell, results, "new", []) is None
    append(results, {**row, "commit": "abc+"})
    assert sibling(cell, results, "abc+", []) is None  # nobody knows what was changed


def test_a_cell_that_is_run_again_finds_the_lines_that_it_found_the_first_time():
    def line(preset: str, time: str, **values) -> dict:
        row = {"task": "peg", "preset": preset, "seed": 1, "commit": "abc", "wall_s": 300.0}
        return {**row, "time": f"2026-01-01T{time}", **values}

    own = line("resfit", "10:10:00")
    before = line("rlpd", "10:04:59")
    meanwhile = line("ibrl", "10:05:01")
    elsewhere = [line("expo", "10:00:00", **other) for other in ({"seed": 2}, {"commit": "abd"})]
    assert found(own, [*elsewhere, before, own, meanwhile]) == [before]


def test_a_cell_that_is_run_again_may_differ_in_its_times_only():
    there = {"success": 0.5, "wall_s": 10.0, "time": "a", "failures": 3}
    assert differences(there, {**there, "wall_s": 20.0, "time": "b"}) == {}
    assert differences(there, {**there, "failures": 4}) == {"failures": [3, 4]}
    assert differences(there, {"success": 0.5}) == {"failures": [3, None]}
