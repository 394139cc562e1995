"""From a run folder to the policy that it trained: `load_policy`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from handrail.config import from_dict
from handrail.renamed_keys import to_current
from handrail.spec import EnvSpec
from learner.config import BaseConfig, LearnerConfig
from learner.policy.policy import Policy
from learner.store.checkpoint import Checkpoints


def load_policy(run_folder: str | Path) -> Policy:
    """Return the trained policy of a run folder, from its newest checkpoint.

    Where the publish guard was refusing weights then, these are the last good ones before.

        policy = load_policy("runs/x")
        policy.reset()
        action = policy.act(state).action

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged or of a newer format.
    """
    state = Checkpoints(Path(run_folder) / "checkpoints").load()
    described = state["meta"]["config"]
    spec = from_dict(EnvSpec, described["spec"], "spec")
    learner = from_dict(LearnerConfig, to_current("learner", described["learner"]), "learner")
    base = from_dict(BaseConfig, to_current("base", described["base"]), "base")
    meta, refused = state["meta"], state["meta"].get("refusing", False)
    if refused:
        arrays = {n.removeprefix("good/"): a for n, a in state["arrays"].items() if "good/" in n}
        arrays |= {n: a for n, a in state["arrays"].items() if n.startswith("base/")}
        meta = meta["good"]
    else:
        arrays = _newest(state["arrays"])
    policy = Policy(spec, learner, base)
    policy.load(meta, arrays)
    return policy


def _newest(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix("state/").replace("target_critic/", "critic/"): array
        for name, array in arrays.items()
        if not name.startswith("state/critic/")
    }
