"""Everything the learner is, without its sockets and files: rows in, weights out.

Deterministic for a seed and an order of rows and calls: each update's minibatches and keys are
derived from the seed and the update's number alone, so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from handrail.config import check, digest, to_dict
from handrail.episode_label import EpisodeLabel
from handrail.errors import CheckpointError, Error
from handrail.renamed_keys import to_original
from handrail.spec import EnvSpec
from handrail.transition import Source, Transition
from learner import diagnostics
from learner.algo import schedule, utd_governor
from learner.algo.action import make_action_composer
from learner.algo.lagrangian import CostMultiplier
from learner.algo.update import METRICS, UpdateContext, init_state, make_update
from learner.bases.bc import BCWeights, predict
from learner.bases.bc_fit import Report, fit_bc
from learner.bases.queue import relabel_episode
from learner.config import BaseConfig, LearnerConfig
from learner.data.holdout import is_held_out
from learner.data.prefetch import Prefetcher
from learner.data.replay import Replay
from learner.data.sharding import DeviceMesh
from learner.episode_log import EpisodeLog
from learner.nets.normaliser import fit, identity
from learner.nets.precision import use_float32
from learner.nets.pytree_io import flatten, unflatten
from learner.policy.publish import Publication
from learner.policy.ramp import residual_gain
from learner.policy.residual_schedule import ResidualSchedule
from learner.policy.weights import PolicyWeights, template

FORMAT = 1  # of state_dict
CLOCK = "time_left"  # the part of the state that says how far the time limit is


class Trainer:
    """Owns the replay, the base and the learner's state."""

    def __init__(
        self, config: LearnerConfig, base: BaseConfig, spec: EnvSpec, seed: int = 0
    ) -> None:
        use_float32()
        check(
            base.kind != "none" or not config.needs_base,
            "base.kind",
            base.kind,
            f'"bc" for learner.preset {config.preset!r}, which edits or falls back on a base',
        )
        check(
            CLOCK in spec.slices or not config.timeout_is_failure,
            "learner.timeout_is_failure",
            True,
            f"False for task {spec.task}, whose state has no {CLOCK!r}: critics that don't know "
            "when time is up can't tell what ends then; [gym] clock gives an environment one",
        )
        for name in base.ignore:
            check(name in spec.slices, "base.ignore", name, f"one of {', '.join(spec.slices)}")
        self.config, self.base_config, self.spec, self.seed = config, base, spec, seed
        self.log = EpisodeLog(partial(is_held_out, config.holdout, seed))
        self.replay = Replay(config, spec)
        self.log.subscribe(self.replay)
        self.cost_multiplier = CostMultiplier(config, self.log)
        self.residual_schedule = ResidualSchedule(config, self.log)
        self.rows = 0  # rows and labels, passed over or not: the place in the stream
        self.updates = 0
        self.version = 0
        self.base_version = 0
        self.normaliser = identity(spec.state)
        self.base: BCWeights | None = None
        self.fitted = False  # whether fit_base has run, so that there is something to publish
        self._normalised = False
        self._key = jax.random.key(seed)
        self._composer = make_action_composer(config, spec)
        self._devices = DeviceMesh(config.devices)
        self._prefetcher = Prefetcher(config, self.replay, self._devices, self._key, seed)
        sizes = (self._composer, spec.state, spec.action)
        state = init_state(*sizes, jax.random.fold_in(self._key, 0))
        self._state = state if config.devices == 1 else self._devices.replicate(state)
        replicated = self._devices.replicated
        self._critic_only = make_update(*sizes, with_actor=False, replicated=replicated)
        self._full = make_update(*sizes, with_actor=True, replicated=replicated)
        self._metrics: jax.Array | None = None
        self.publication = Publication(self._composer)

    @property
    def env_steps(self) -> int:
        """Training steps taken in so far, of all actors."""
        return self.log.env_steps

    @property
    def phase(self) -> schedule.Phase:
        """Where the run stands."""
        return schedule.phase(self.config, self.env_steps, self.updates)

    @property
    def gain(self) -> float:
        """Share of its reach that an edit has now."""
        return residual_gain(self.config, self.residual_schedule.ramp, self.env_steps, self.updates)

    @property
    def compilations(self) -> int:
        """Number of shapes that this config's updates were compiled for; 2 in a whole run."""
        return self._critic_only._cache_size() + self._full._cache_size()  # type: ignore[attr-defined]

    def add(self, row: Transition, actor: int = 0) -> None:
        """Take in a row; rows of one actor come in order.

        Evaluation rows are passed over; held-out episodes count as steps, but critics and actor
        never train on them. The base does: it holds out demonstrations of its own.
        """
        self.rows += 1
        self.log.add(row, actor)
        self.replay.cost_multiplier = self.cost_multiplier.value

    def label(self, label: EpisodeLabel, actor: int = 0) -> None:
        """Take in what is said of an episode after the fact; it counts as a row of the stream.

        Args:
            label: On an episode of that actor.
            actor: Number of the actor whose episode it is.
        """
        self.rows += 1
        self.log.label(label, actor)

    def fit_base(self, report: Report | None = None) -> dict[str, float]:
        """Fit normaliser and base to the demonstrations, and give these the base's contexts.

        Args:
            report: Called with the losses at each evaluation.

        Returns:
            What training came to; empty without a base.

        Raises:
            Error: The base needs demonstrations and there are none, or its training diverged.
        """
        summary = self._fit_base(report)
        self.fitted = True  # not before: whoever is stopped in between begins anew
        return summary

    def _fit_base(self, report: Report | None) -> dict[str, float]:
        episodes = [e for e in self.replay.episodes(Source.DEMO) if len(e) > 1]
        if len(episodes) < 2:
            if self.config.needs_base:
                raise Error(
                    f"learner.preset {self.config.preset!r} needs a base, and a base needs at "
                    f"least 2 demonstrations; there are {len(episodes)}"
                )
            return {}
        states = self.replay.states(np.concatenate(episodes))
        self.normaliser = fit(states, self.config.normaliser_floor)
        self._normalised = True
        self.base_version += 1
        if self.base_config.kind == "none":
            return {}
        mask = np.ones(self.spec.state, np.float32)
        for name in self.base_config.ignore:
            mask[slice(*self.spec.slices[name])] = 0.0
        recorded = []
        for slots in episodes:
            steps = slots[~self.replay.end[slots]]
            recorded.append((self.replay.states(steps), self.replay.actions(steps)))
        key = jax.random.fold_in(self._key, 3)
        self.base, summary = fit_bc(self.base_config, self.normaliser, mask, recorded, key, report)
        self._relabel()
        return summary

    def due(self) -> int:
        """Return how many updates the governor allows now."""
        if len(self.replay.views.online) + len(self.replay.views.prior_data) == 0:
            return 0
        return utd_governor.due(self.config, self.env_steps, self.updates)

    def advance(self, limit: int, report: bool = True) -> dict[str, float]:
        """Run the updates that are due, at most `limit`, in whole compiled calls.

        Args:
            limit: Most updates to run.
            report: Whether to wait for the result and return its scalars.

        Returns:
            Scalars of the last call, see `metrics`; only the counts if not asked to report.
        """
        block = self.config.actor_every
        calls = min(limit, self.due()) // block
        if calls > 0:
            self._fit_normaliser_from_rollouts()
        for _ in range(calls):
            warming = self.updates < schedule.critic_updates(self.config)
            train_gain = self.gain if self.config.train_gain == "ramp" else 1.0
            packed = self._prefetcher.packed(self.updates)
            fixed = self._prefetcher.fixed(self.normaliser, self.gain, train_gain)
            nothing_to_edit = self._composer.num_edited_dims == 0
            update = self._critic_only if warming or nothing_to_edit else self._full
            self._state, self._metrics = update(self._state, packed, fixed)
            self._prefetcher.used_by(self._metrics)
            self.updates += block
        counts = {"ran": float(calls * block), "updates": float(self.updates)}
        return {**self.metrics(), **counts} if report else counts

    def metrics(self) -> dict[str, float]:
        """Return the scalars of the last compiled call; waits for it."""
        values: dict[str, float] = {
            "gain": self.gain,
            "retreats": float(self.residual_schedule.backoffs),
            "proven": float(self.residual_schedule.improved),
            "updates_per_step": self.updates / max(1, self.env_steps),
            "refused": float(self.publication.refused),
            "cost_price": self.cost_multiplier.value,
            "episode_cost": self.cost_multiplier.last_cost,
            **self._prefetcher.sent,
        }
        if self._metrics is not None:
            pairs = zip(METRICS, np.asarray(self._metrics).tolist(), strict=True)
            values.update({name: value for name, value in pairs if value == value})
        decision = self.publication.decision
        if decision is not None and decision.change == decision.change:
            values["gate_change"] = decision.change
        return values

    def diagnose(self) -> dict[str, float]:
        """Return what `diagnostics.NAMES` names, as far as it is known; changes nothing."""
        if self.updates == 0:
            return {}
        rng = np.random.default_rng((self.seed, 7, self.updates))
        sample = diagnostics.draw_sample(self.replay, rng)
        return diagnostics.report(self._composer, self._state, sample, self._fixed())

    def packet(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return meta data and arrays for the actor, as copies: of the last good weights.

        Those are the newest unless the gate refuses them; `publication.decision` says so and why.

        Raises:
            Error: The weights aren't finite and none ever were.
        """
        rng = np.random.default_rng((self.seed, 6, self.updates))
        weights, error = self._weights(), self._holdout_error(rng)
        if self.publication.try_accept(weights, self.updates, self.replay, rng, error):
            self.version += 1
            self.publication.set_meta(self._meta())
        return self.publication.packet()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs but the rows: "meta" and flat "arrays"."""
        arrays = flatten(self._state, "state")
        arrays |= flatten(self.normaliser, "normaliser")
        if self.base is not None:
            arrays |= flatten(self.base, "base")
        published, good = self.publication.state_dict()
        arrays |= good
        meta = self._meta() | published
        meta |= {
            "state_format": FORMAT,
            "config_hash": self.config_hash,
            "cursor": self.rows,
            "fitted": self.fitted,
            "normalised": self._normalised,
            "seed": self.seed,
        }
        return {"meta": meta, "arrays": arrays}

    @property
    def config_hash(self) -> str:
        """Digest of what must not change between a checkpoint and its resumption.

        The budget may: a run can be made longer. So may the gate, which decides what is published,
        and what the machine has: devices and replay change a result only by rounding, if at all.
        """
        config = replace(
            self.config, total_steps=1, gate_action_change=1.0, gate_td_error=1.0, gate_patience=1,
            devices=1, replay="host",
        )  # fmt: skip
        return digest(
            to_original("learner", to_dict(config)),
            to_original("base", to_dict(self.base_config)),
            self.spec.hash,
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; add its first `meta["cursor"]` rows before, the others after.

        Raises:
            CheckpointError: Of another config, seed or format, or the rows before it are missing.
        """
        meta, arrays = state["meta"], state["arrays"]
        if meta["state_format"] > FORMAT:
            raise CheckpointError(
                f"checkpoint has state format {meta['state_format']}, this version reads up to "
                f"{FORMAT}; upgrade Handrail"
            )
        for name, mine in (("config_hash", self.config_hash), ("seed", self.seed)):
            if meta[name] != mine:
                raise CheckpointError(
                    f"checkpoint has {name} {meta[name]}, this run has {mine}; resume with the "
                    "config it was started with"
                )
        if meta["cursor"] != self.rows:
            raise CheckpointError(
                f"checkpoint was written after {meta['cursor']} rows, but {self.rows} were added "
                "before it; add exactly those first"
            )
        has_base = any(name.startswith("base/") for name in arrays)
        like = template(self.config, self.base_config, self.spec, has_base)
        self.normaliser = unflatten(like.normaliser, arrays, "normaliser")
        self.base = None if like.base is None else unflatten(like.base, arrays, "base")
        restored = unflatten(self._state, arrays, "state")
        self._state = self._devices.replicate(restored)
        self.updates, self.version = meta["updates"], meta["version"]
        self.base_version = meta["base_version"]
        self.fitted, self._normalised = meta["fitted"], meta["normalised"]
        self.publication.load_state_dict(meta, arrays, like._replace(base=self.base))
        if self.base is not None:
            self._relabel()

    def _fixed(self) -> UpdateContext:
        gain = np.float32(self.gain)
        return UpdateContext(self._prefetcher.key, self.normaliser, gain, gain)

    def _holdout_error(self, rng: np.random.Generator) -> float | None:
        if self.phase != "online" or self.updates == 0:
            return None  # the actor hasn't followed the critics anywhere yet
        rows = diagnostics.draw_holdout(self.replay, rng)
        if rows is None:
            return None
        return float(diagnostics.td_error(self._composer, self._state, rows, self._fixed()))

    def _weights(self) -> PolicyWeights:
        state = self._state
        critic = state.target_critic if self.config.needs_critic_to_act else None
        return PolicyWeights(state.actor, state.ema_actor, critic, self.base, self.normaliser)

    def _meta(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "phase": self.phase,
            "env_steps": self.env_steps,
            "updates": self.updates,
            "base_version": self.base_version,
            "has_base": self.base is not None,
            "normaliser_hash": self.normaliser.hash,
            "scale": self.gain,
            "ramp": list(self.residual_schedule.ramp),
            "proven": self.residual_schedule.improved,
        }

    def _relabel(self) -> None:
        assert self.base is not None
        base = self.base
        rng = np.random.default_rng((self.seed, 5))
        execute = self.base_config.execute
        for slots in self.replay.episodes(Source.DEMO):
            states = self.replay.states(slots)
            padded = np.zeros((-(-len(states) // 64) * 64, self.spec.state), np.float32)
            padded[: len(states)] = states
            chunks = np.asarray(predict(self.spec.action, base, self.normaliser, padded))
            phase = int(rng.integers(execute))
            rolled = relabel_episode(lambda _, c=chunks: c, states, execute, phase)
            self.replay.set_context(slots, rolled)

    def _fit_normaliser_from_rollouts(self) -> None:
        if not self._normalised:
            self.normaliser = fit(
                self.replay.states(self.replay.views.online.members()), self.config.normaliser_floor
            )
            self._normalised = True
