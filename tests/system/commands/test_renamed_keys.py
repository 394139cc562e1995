"""Old names of config keys: an error where a person writes them, read where Handrail wrote them.

`data/run_format_1.tar.xz` is a run folder that the code before the renames left (commit 32a0ee7):

    handrail train reach --inline --no-video --run.steps 40 --run.demos 2 --run.eval-episodes 1 ...
"""

import json
import tarfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from actor.cli.run_folders import open_configured_run
from actor.config import Config, load_config
from handrail.config import from_dict, load_toml, to_dict
from handrail.errors import ConfigError, RunFolderError
from handrail.renamed_keys import RENAMED, RENAMED_VALUES, to_current, to_original
from handrail.run_folder import open_run, resume_clock
from handrail.spec import load_spec

OLD_RUN = Path(__file__).parent / "data" / "run_format_1.tar.xz"
KEYS = [(table, old, new) for table, keys in RENAMED.items() for old, new in keys.items()]


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    with tarfile.open(OLD_RUN) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run_format_1"


def test_every_renamed_key_is_known_by_its_new_name_only():
    config = to_dict(load_config("reach"))
    for table, keys in RENAMED.items():
        known = {item.name for item in fields(getattr(from_dict(Config, config), table))}
        assert set(keys.values()) <= known
        assert not set(keys) & known, "an old key that is a new one of another meaning misleads"
        assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize(("table", "old", "new"), KEYS)
def test_an_old_key_in_a_file_is_refused_with_the_new_one(tmp_path, table, old, new):
    path = tmp_path / "mine.toml"
    path.write_text(f'[task]\nname = "reach"\n[{table}]\n{old} = 0.5\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"\[{table}\] '{old}' is called '{new}' now"):
        load_config(str(path))


@pytest.mark.parametrize(("where", "values"), RENAMED_VALUES.items())
def test_an_old_value_is_refused_with_the_new_one(where, values):
    table, key = where
    for old, new in values.items():
        with pytest.raises(ConfigError, match=f"'{old}' is called '{new}' now"):
            from_dict(Config, {"task": {"name": "reach"}, table: {key: [old]}})


@pytest.mark.parametrize("table", RENAMED)
def test_old_words_and_new_ones_are_each_others_inverse(table):
    config = to_dict(load_config("reach"))
    config["control"]["disabled_stages"] = ["target_error", "passivity", "speed"]
    stored = to_original(table, config[table])
    assert stored != config[table]
    assert to_current(table, stored) == config[table]
    assert to_current(table, config[table]) == config[table], "new words stay as they are"


def test_a_run_folder_from_before_the_renames_is_read(old_run: Path):
    assert "critic_rate" in (old_run / "config.toml").read_text()
    _, config = open_configured_run(old_run)
    assert (config.learner.num_qs, config.learner.critic_lr) == (2, 1e-3)
    assert (config.base.lr, config.risk.warning_time) == (2e-3, 0.07)
    assert config.control.disabled_stages == ("passivity",)


def test_a_checkpoint_from_before_the_renames_is_taken_up(old_run: Path):
    from learner.service.progress import RunProgress
    from learner.service.restore import restore
    from learner.store.checkpoint import Checkpoints
    from learner.store.store import Store
    from learner.trainer import Trainer

    run, config = open_configured_run(old_run)
    spec = load_spec(run.spec)
    trainer = Trainer(config.learner, config.base, spec, config.run.seed)
    with Store(run.store, spec) as store:
        restore(trainer, RunProgress(trainer.log), store, Checkpoints(run.checkpoints))
    assert trainer.updates == 84, "its config_hash is that of before the renames"


def test_a_resumed_folder_keeps_its_format(old_run: Path):
    resume_clock(open_run(old_run))
    assert open_run(old_run).format == 1, "the keys in its config.toml are still the old ones"
    open_configured_run(old_run)


def test_a_policy_from_before_the_renames_loads(old_run: Path):
    from learner.policy.load import load_policy

    (described,) = old_run.glob("checkpoints/*.json")
    assert "critic_rate" in json.loads(described.read_text())["meta"]["config"]["learner"]
    policy = load_policy(old_run)
    assert policy.act(np.zeros(policy.spec.state, np.float32)).action.shape == (3,)


def test_a_risk_critic_from_before_the_renames_loads(tmp_path: Path):
    from made_critic import made_critic

    from actor.cli.risk import pipeline
    from handrail.risk_critic.file import FILE_NAME, write_critic
    from handrail.risk_critic.format import pack_critic
    from learner.risk.config import RiskConfig

    config = RiskConfig(lr=2e-3, warning_time=0.07)
    about = {"config": to_original("risk", to_dict(config)), "trained_on": []}
    assert {"rate", "announce", "target_rate"} <= set(about["config"])
    write_critic(tmp_path / FILE_NAME, pack_critic(made_critic()), about)
    assert pipeline.load(tmp_path)[2] == config


def test_a_folder_that_is_newer_than_this_version_is_refused_by_its_format(old_run: Path):
    identity = json.loads((old_run / "run.json").read_text())
    (old_run / "run.json").write_text(json.dumps({**identity, "format": 3}))
    with pytest.raises(RunFolderError, match="format 3, this version of Handrail reads up to 2"):
        open_run(old_run)


def test_old_keys_in_a_folder_of_todays_format_are_a_persons_and_refused(old_run: Path):
    identity = json.loads((old_run / "run.json").read_text())
    (old_run / "run.json").write_text(json.dumps({**identity, "format": 2}))
    assert "rate" in load_toml(old_run / "config.toml")["base"]
    with pytest.raises(ConfigError, match="is called"):
        open_configured_run(old_run)
