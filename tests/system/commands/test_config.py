"""Configs are strict: what is wrong is named, with what was given and what would be right."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor.config import load_config, parse_config
from handrail.config import check, digest, from_dict, load_toml, to_dict, to_toml
from handrail.errors import ConfigError

SHIPPED = sorted(path.stem for path in Path("configs").glob("*.toml"))


@dataclass(frozen=True)
class Spring:
    """A nested table."""

    stiffness: float = 1500.0  # [N/m]
    axes: tuple[float, float, float] = (1.0, 1.0, 1.0)  # [-]

    def __post_init__(self) -> None:
        check(self.stiffness > 0, "stiffness", self.stiffness, "positive [N/m]")


@dataclass(frozen=True)
class Arm:
    """A table with a value of every kind."""

    name: str  # no default
    joints: int = 7
    fast: bool = False
    mode: Literal["soft", "stiff"] = "soft"
    spring: Spring = field(default_factory=Spring)
    limit: float | None = None  # [N]
    sizes: tuple[int, ...] = (256, 256)
    where: Path = Path("runs")


def refusal(table):
    with pytest.raises(ConfigError) as caught:
        from_dict(Arm, table, "arm")
    return str(caught.value)


def test_keys_left_out_keep_their_defaults():
    assert from_dict(Arm, {"name": "panda"}, "arm") == Arm("panda")


def test_unknown_key_is_refused_with_the_nearest_known_one():
    message = refusal({"name": "panda", "jionts": 6})
    assert "[arm]" in message
    assert "'jionts'" in message
    assert "did you mean 'joints'?" in message


def test_unknown_key_without_a_near_one_is_refused_with_all_known_ones():
    message = refusal({"name": "panda", "colour": "red"})
    assert "known keys: name, joints, fast" in message


def test_unknown_key_of_a_nested_table_names_the_whole_path():
    assert "[arm.spring]" in refusal({"name": "panda", "spring": {"stifness": 3.0}})


def test_missing_key_is_named():
    assert refusal({}) == "[arm] missing key(s): name"


@pytest.mark.parametrize(
    ("table", "right", "given_value"),
    [
        ({"joints": 7.5}, "arm.joints must be an integer", "7.5"),
        ({"joints": True}, "arm.joints must be an integer", "True"),
        ({"joints": "7"}, "arm.joints must be an integer", "'7'"),
        ({"fast": 1}, "arm.fast must be true or false", "1"),
        ({"name": 3}, "arm.name must be a string", "3"),
        ({"limit": "low"}, "arm.limit must be a number", "'low'"),
        ({"spring": 3}, "[arm.spring] must be a table", "3"),
        ({"spring": {"axes": [1.0, 2.0]}}, "arm.spring.axes must have 3 values", "2"),
        ({"spring": {"axes": [1.0, "x", 2.0]}}, "arm.spring.axes[1] must be a number", "'x'"),
        ({"sizes": 256}, "arm.sizes must be an array", "256"),
        ({"mode": "stif"}, "arm.mode must be one of 'soft', 'stiff'", "'stif'"),
    ],
)
def test_value_of_another_type_is_refused_with_what_would_be_right(table, right, given_value):
    message = refusal({"name": "panda", **table})
    assert right in message
    assert given_value in message


def test_choice_that_is_nearly_right_gets_a_hint():
    assert "did you mean 'stiff'?" in refusal({"name": "panda", "mode": "stif"})


def test_value_out_of_range_names_table_rule_and_value():
    message = refusal({"name": "panda", "spring": {"stiffness": -2}})
    assert message == "[arm.spring] stiffness must be positive [N/m], got -2.0"


def test_integer_will_do_for_a_number():
    arm = from_dict(Arm, {"name": "panda", "spring": {"stiffness": 2}}, "arm")
    assert isinstance(arm.spring.stiffness, float)


def test_syntax_error_names_file_and_line(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[task]\nname = peg\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML.*line 2"):
        load_toml(path)


@pytest.mark.parametrize("content", [None, b"name = '\xff'"])
def test_unreadable_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "some.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"can't read config file .*some\.toml"):
        load_toml(path)


@given(
    st.builds(
        Arm,
        name=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20),
        joints=st.integers(-(2**40), 2**40),
        fast=st.booleans(),
        mode=st.sampled_from(["soft", "stiff"]),
        spring=st.builds(Spring, stiffness=st.floats(1e-3, 1e6)),
        limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        sizes=st.lists(st.integers(1, 512), max_size=3).map(tuple),
    )
)
def test_what_is_written_reads_back_equal(tmp_path_factory, arm):
    path = tmp_path_factory.mktemp("config") / "arm.toml"
    path.write_text(to_toml(arm), encoding="utf-8", newline="")
    assert from_dict(Arm, load_toml(path), "arm") == arm
    assert from_dict(Arm, to_dict(arm), "arm") == arm


def test_digest_changes_with_any_value_and_with_nothing_else():
    arm = Arm("panda")
    assert digest(arm) == digest(Arm("panda"))
    stiffer = dataclasses.replace(arm, spring=Spring(stiffness=1500.5))
    assert digest(arm) != digest(stiffer)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_config_survives_its_run_folder(name):
    config = load_config(name)
    assert parse_config(from_toml(to_toml(config))) == config


def from_toml(text):
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def test_unknown_table_of_a_run_is_refused():
    with pytest.raises(ConfigError, match=r"unknown key 'contrl'; did you mean 'control'"):
        parse_config({"task": {"name": "reach"}, "contrl": {}})


def test_task_that_is_not_shipped_lists_those_that_are():
    with pytest.raises(ConfigError, match=r"no task 'pegg'.*peg.*reach"):
        load_config("pegg")


def test_override_from_the_command_line_wins():
    assert load_config("reach", ["--run.seed", "7"]).run.seed == 7
