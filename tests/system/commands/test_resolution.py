"""A config is folded from layers: each value is that of before, and can say where it is from.

`data/resolved.json` has digests of every shipped config with every preset, made by the code of
commit 32a0ee7, which resolved in several passes. They are over the keys and names of then.
"""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor.config import load_config, resolve_config
from actor.resolution import Layer, flatten, fold, nest
from handrail.config import to_dict
from handrail.errors import ConfigError
from handrail.renamed_keys import to_original

FROZEN = json.loads((Path(__file__).parent / "data" / "resolved.json").read_text())


def resolved(words: str) -> str:
    name, *overrides = words.split()
    try:
        tables = to_dict(load_config(name, overrides))
    except ConfigError:
        return "refused"
    values = flatten({name: to_original(name, table) for name, table in tables.items()})
    kept = {key: values[key] for key in FROZEN["keys"] if key in values}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def test_values_of_every_shipped_config_with_every_preset_are_those_of_before():
    assert len(FROZEN["digests"]) == 198
    shipped = {path.stem for path in Path("configs").glob("*.toml")}
    assert {words.split()[0] for words in FROZEN["digests"]} >= shipped
    different = [w for w, digest in FROZEN["digests"].items() if resolved(w) != digest]
    assert not different


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers()), max_size=5))
def test_the_last_layer_that_names_a_key_wins_and_is_its_origin(tables):
    folded = fold(Layer(str(i), table) for i, table in enumerate(tables))
    assert set(folded) == set().union(*tables)
    for key, (value, origin) in folded.items():
        assert tables[int(origin)][key] == value
        assert not any(key in later for later in tables[int(origin) + 1 :])


def test_tables_and_dotted_keys_are_each_others_inverse():
    tables = {"task": {"name": "reach"}, "gym": {"kwargs": {"a": 1}}, "odd": 3, "empty": {}}
    assert nest(flatten(tables)) == tables


@pytest.mark.parametrize(
    ("words", "key", "value", "origin"),
    [
        ("reach", "run.publish_steps", 25, "default"),
        ("reach", "learner.discount", 0.95, "file reach.toml"),
        ("reach", "learner.collect_with", "policy", "preset rlpd"),
        ("reach --learner.discount 0.9", "learner.discount", 0.9, "command line"),
        ("reach --learner.utd 8", "learner.batch", 80, "scaled to learner.utd"),
        ("reach --run.steps 900", "learner.total_steps", 900, "run.steps"),
        ("gym:Pendulum-v1", "learner.normaliser_floor", 1.0, "for this kind of task"),
        ("gym:Pendulum-v1", "run.demos", 0, "any gym:ID"),
    ],
)
def test_every_value_says_where_it_is_from(words, key, value, origin):
    name, *overrides = words.split()
    config, origins = resolve_config(name, overrides)
    assert origins[key] == (value, origin)
    assert flatten(to_dict(config))[key] == value
    for dotted, of_config in flatten(to_dict(config)).items():
        if origins[dotted].origin != "default":
            assert of_config == json.loads(json.dumps(origins[dotted].value)), dotted


def test_rates_of_a_file_follow_another_ratio_from_there():
    _, origins = resolve_config("peg", ["--learner.utd", "16"])
    assert origins["learner.critic_lr"].origin == "file peg.toml, scaled to learner.utd"
