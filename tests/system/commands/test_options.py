"""What a person types: where options stand, what is refused and by which words, what is advised."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actor.config import Config, load_config
from actor.overrides import split, values_of
from handrail.__main__ import main
from handrail.command_line import with_default
from handrail.errors import ConfigError
from handrail.renamed_keys import RENAMED
from handrail.storage.disk import DiskMonitor

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(path.stem for path in (ROOT / "configs").glob("*.toml"))


def handrail(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "handrail", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip


OPTIONS = [
    (["--learner.utd", "4"], {"learner.utd": 4}),
    (["--learner.utd=4"], {"learner.utd": 4}),
    (["--learner.hidden", "64", "32"], {"learner.hidden": [64, 32]}),
    (["--learner.hidden", "[64, 32]"], {"learner.hidden": [64, 32]}),
    (["--learner.v-range", "-1", "0.5"], {"learner.v_range": [-1, 0.5]}),
    (["--learner.v-range", "None"], {"learner.v_range": None}),
    (["--operator.enabled"], {"operator.enabled": True}),
    (["--operator.no-enabled"], {"operator.enabled": False}),
    (["--operator.enabled", "true"], {"operator.enabled": True}),
    (["--learner.preset", "rlpd"], {"learner.preset": "rlpd"}),
    (["--task.name", "5"], {"task.name": "5"}),
    (["--gym.kwargs", "gravity", "9.8"], {"gym.kwargs": {"gravity": 9.8}}),
    (["--task.start-range", "0", "0.1", "0"], {"task.start_range": [0, 0.1, 0]}),
    (
        ["--control.keep-out", *["0", "0", "0", "1", "1", "1"]],
        {"control.keep_out": [[0, 0, 0, 1, 1, 1]]},
    ),
]


@pytest.mark.parametrize(("words", "values"), OPTIONS)
def test_an_option_before_the_task_leaves_the_task(words, values):
    for line in ([*words, "peg"], ["peg", *words], [*words, "--inline", "peg"]):
        overrides, rest = split(Config, line)
        assert [word for word in rest if word != "--inline"] == ["peg"]
        assert values_of(Config, overrides) == values


def test_a_list_of_texts_takes_the_words_up_to_the_next_option():
    line = ["peg", "--control.disabled-stages", "passivity", "speed", "--inline"]
    overrides, rest = split(Config, line)
    assert values_of(Config, overrides) == {"control.disabled_stages": ["passivity", "speed"]}
    assert rest == ["peg", "--inline"]


def test_the_last_of_an_option_wins_and_a_wrong_value_is_the_configs_to_refuse():
    assert load_config("reach", ["--run.seed", "7", "--run.seed", "8"]).run.seed == 8
    with pytest.raises(ConfigError, match=r"run\.seed must be an integer, got 'seven'"):
        load_config("reach", ["--run.seed", "seven"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--learner.utd"], "--learner.utd needs a value"),
        (["--learner.utdd", "4"], "did you mean 'utd'?"),
        (["--lerner.utd", "4"], "did you mean 'learner'?"),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_an_option_that_is_none_is_refused_with_the_nearest(words, said):
    with pytest.raises(ConfigError) as refused:
        load_config("reach", words)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("table", "old", "new"), [(t, o, n) for t, keys in RENAMED.items() for o, n in keys.items()]
)
def test_an_old_key_is_refused_with_the_new_one(table, old, new):
    option, other = (f"--{table}.{key.replace('_', '-')}" for key in (old, new))
    with pytest.raises(ConfigError, match=rf"^{option} is called {other} now$"):
        load_config("reach", [option, "0.5"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gym:Pendulum-v1", ["--control.max-stretch", "0.1"]),
        ("gym:Pendulum-v1", ["--robot.delay", "1"]),
        ("gym:Pendulum-v1", ["--operator.enabled"]),
        ("gym:Pendulum-v1", ["--host.robot", "franka"]),
        ("gym:Pendulum-v1", ["--risk.horizon", "0.2"]),
        ("gym:Pendulum-v1", ["--task.clearance", "0.1"]),
        ("gym:Pendulum-v1", ["--task.no-images"]),
        ("reach", ["--gym.clock"]),
        ("reach", ["--gym.reward-scale", "1"]),
    ],
)
def test_a_key_of_another_kind_of_task_is_refused(name, words, tmp_path):
    key = words[0].removeprefix("--").replace("no-", "").replace("-", "_")
    with pytest.raises(ConfigError, match=rf"{key} \(command line\) means nothing to '{name}'"):
        load_config(name, words)


def test_a_key_of_another_kind_in_a_file_is_refused_unless_it_is_the_default(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '[task]\nname = "gym:Pendulum-v1"\n[learner]\npreset = "rlpd"\n[run]\ndemos = 0\n'
        "[robot]\ndelay = 1\nfriction = [0.2, 0.8]\n"
    )
    load_config(str(path))
    path.write_text(path.read_text().replace("delay = 1", "delay = 3"))
    with pytest.raises(ConfigError, match=r"robot\.delay \(file mine\.toml\) means nothing"):
        load_config(str(path))


def test_a_key_that_this_task_of_the_arm_does_not_read_is_refused(tmp_path):
    done = handrail("new", "reach", "--task.layout", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert "task.layout means nothing to 'reach', which reads" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [["--run.seed", "4294967296"], ["--run.demo-seed", "4294967296"], ["--run.seed", "-1"]]
)
def test_seeds_beyond_32_bits_are_refused_with_the_rule(words):
    with pytest.raises(ConfigError, match=r"seed must be 0 or more and less than 2\^32"):
        load_config("reach", words)
    assert load_config("reach", ["--run.seed", "4294967295"]).run.seed == 2**32 - 1


def test_help_names_every_shipped_task(capsys):
    for command in ("train", "record", "new"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert all(f"{name}," in text for name in SHIPPED), command


@pytest.mark.parametrize("words", [["data", "lss", "x"], ["risk", "trian", "x"], ["trian"]])
def test_a_command_that_does_not_exist_suggests_the_nearest(words, capsys):
    assert main(words) == 2
    right = {"lss": "ls", "trian": "train"}[words[-2] if len(words) > 1 else words[0]]
    assert f"did you mean {right!r}?" in capsys.readouterr().err


def test_recording_what_has_no_demonstrations_says_so_and_makes_no_folder(tmp_path):
    done = handrail("record", "gym:Pendulum-v1", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is nothing to record" in done.stderr
    assert "handrail bc" not in done.stdout + done.stderr
    done = handrail("record", "gym:Pendulum-v1", "--episodes", "2", cwd=tmp_path)
    assert "has no scripted expert" in done.stderr
    assert not list(tmp_path.iterdir())


def test_origin_says_where_each_value_comes_from(tmp_path):
    line = ["train", "--help-config", "--origin", "--learner.utd", "4", "reach"]
    done = handrail(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = {line.split(" = ")[0]: line for line in done.stdout.splitlines()}
    assert said["learner.utd"].endswith("# command line")
    assert said["learner.discount"].endswith("# file reach.toml")
    assert said["learner.actor"].endswith("# preset rlpd")
    assert said["run.publish_steps"].endswith("# default")


def test_a_number_may_be_left_out_where_it_has_a_default():
    assert with_default(["R", "--watch"], "--watch", "2") == ["R", "--watch=2"]
    assert with_default(["--watch", "R"], "--watch", "2") == ["--watch=2", "R"]
    assert with_default(["--watch", "0.5", "R"], "--watch", "2") == ["--watch", "0.5", "R"]


def test_nothing_is_json_without_its_option(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["new", "reach", "--out", str(run)]) == 0
    (run / "metrics.jsonl").write_text('{"kind":"actor","env_steps":3,"time":1.0}\n')
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    assert "{" not in capsys.readouterr().out
    assert main(["report", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env_steps"] == 3


def test_a_nearly_full_disk_that_lasts_for_days_is_no_alarm(tmp_path):
    monitor = DiskMonitor(tmp_path)
    day, size, free = 86400.0, 10**12, 0
    for second in range(0, 1200, 10):
        free = int(0.005 * size * (1 - second / (10 * day)))
        assert monitor.evaluate(float(second), free, size)[1] == "", "it lasts for 10 days"
    said = [monitor.evaluate(1200.0 + s, int(free - s * 3e5), size)[1] for s in range(0, 900, 10)]
    assert sum("h at the measured" in line for line in said) >= 1, "now it lasts for hours"
