"""The policy on the actor's side: published weights in, one action per env step out."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handrail.errors import Error
from handrail.spec import EnvSpec
from learner.algo import schedule
from learner.algo.action import ActionComposer, make_action_composer
from learner.bases.bc import BCBase
from learner.bases.protocol import BaseContext
from learner.bases.queue import ChunkQueue
from learner.config import BaseConfig, LearnerConfig
from learner.nets.mlp import Params
from learner.nets.normaliser import Normaliser, normalise
from learner.nets.precision import use_float32
from learner.policy.ramp import ScaleRamp, initial_ramp, residual_gain
from learner.policy.weights import PolicyWeights, WeightsMeta, parse_meta, template, unpack_weights

Mode = Literal["explore", "noise_free", "eval", "base"]


class PolicyStep(NamedTuple):
    """An action and how it came about."""

    action: np.ndarray  # (A,) float32, in [-1, 1]
    base: BaseContext  # at the same state
    edit: np.ndarray  # (A,) float32, before the reach; 0 where the base's action was chosen
    q: float  # value of the action where the critics are at hand, else nan


class _Loaded(NamedTuple):
    weights_meta: WeightsMeta
    weights: PolicyWeights  # on the device; the base lives in the queue
    has_base: bool


class Policy:
    """Acts with the newest loaded weights; `load` swaps them whole between two steps."""

    def __init__(
        self, spec: EnvSpec, learner: LearnerConfig, base: BaseConfig, seed: int = 0
    ) -> None:
        use_float32()
        self.spec, self.config, self.base_config = spec, learner, base
        self._composer = make_action_composer(learner, spec)
        self._act = _compiled_act(self._composer, spec.state)
        self._seed = np.uint32(seed)
        self._t = 0  # [steps] of the episode so far
        self._loaded: _Loaded | None = None
        self._base_version = -1
        self._templates: dict[bool, PolicyWeights] = {}  # with and without a base
        self._phase: schedule.Phase = "collect"
        self._queue = ChunkQueue(None, spec.action)

    @property
    def version(self) -> int:
        """Version of the loaded weights; -1 before the first."""
        return -1 if self._loaded is None else self._loaded.weights_meta.version

    @property
    def compilations(self) -> int:
        """Number of shapes that acting by this config was compiled for; 1 in a whole run."""
        return self._act._cache_size()  # type: ignore[attr-defined]

    @property
    def has_base(self) -> bool:
        """Whether a base came with the weights."""
        return self._loaded is not None and self._loaded.has_base

    @property
    def phase(self) -> schedule.Phase:
        """Where the run stood at the last step, or at the weights' publication if that is later."""
        return self._phase

    @property
    def weights_meta(self) -> WeightsMeta | None:
        """What the loaded weights say of themselves; None before the first."""
        return None if self._loaded is None else self._loaded.weights_meta

    def load(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take over new weights; on any error the old ones stay.

        Raises:
            CheckpointError: An array is missing or has another shape.
            ProtocolMismatch: The meta data is not a policy's, or the normaliser is not the one that
                the weights were trained with.
        """
        weights_meta = parse_meta(meta)
        with_base = weights_meta.has_base
        if with_base not in self._templates:
            parts = (self.config, self.base_config, self.spec, with_base)
            self._templates[with_base] = template(*parts)
        weights = unpack_weights(self._templates[with_base], weights_meta, arrays)
        if weights_meta.base_version != self._base_version:
            base = None
            if weights.base is not None:
                base = BCBase(self.base_config, self.spec.action, weights.base, weights.normaliser)
            self._queue = ChunkQueue(base, self.spec.action)
            self._base_version = weights_meta.base_version
        on_device = jax.tree.map(jnp.asarray, weights._replace(base=None))
        self._loaded = _Loaded(weights_meta, on_device, with_base)
        self._phase = weights_meta.phase

    def reset(self) -> None:
        """Begin an episode."""
        self._queue.reset()
        self._t = 0

    def flush(self) -> None:
        """Drop the base's planned actions: somebody else had the arm."""
        self._queue.flush()

    def act(
        self, state: np.ndarray, mode: Mode = "eval", env_step: int | None = None
    ) -> PolicyStep:
        """Return the action at a state.

        What is random comes from the seed and the env step, so that neither an evaluation in
        between nor a restart changes it; where no env step is told, from the seed, the state and
        the step of the episode.

        Args:
            state: (S,) float32, in its own units.
            mode: "explore" as the phase has it, with noise; "noise_free" without, by the averaged
                actor; "eval" the same, but by the base until the weights say that edits are proven;
                "base" the base alone.
            env_step: Env steps so far, for phase, ramp and noise; None for the learner's count at
                the weights' publication, which is the same for many steps.

        Raises:
            Error: No weights were loaded, or the base was asked for and there is none.
        """
        loaded = self._loaded
        if loaded is None:
            raise Error("the policy has no weights yet; load a packet first")
        if mode == "base" and not loaded.has_base:
            raise Error("there is no base policy to act; train one, or use another mode")
        context = self._queue.next(state)
        weights_meta = loaded.weights_meta
        steps = weights_meta.env_steps if env_step is None else env_step
        number = zlib.crc32(state.tobytes(), self._t) if env_step is None else env_step
        self._t += 1
        self._phase = phase = schedule.phase(self.config, steps, weights_meta.updates)
        ramp = (
            initial_ramp(self.config)
            if weights_meta.ramp is None
            else ScaleRamp(*weights_meta.ramp)
        )
        gain = residual_gain(self.config, ramp, steps, weights_meta.updates)
        explore = mode == "explore"
        by_base = phase != "online" and self.config.collect_with == "base"
        at_random = phase != "online" and self.config.collect_with == "random" and explore
        by_proof = mode == "eval" and loaded.has_base and not weights_meta.proven
        if mode == "base" or by_base or by_proof or at_random:
            return self._roll_out(context, mode, number)
        action, edit, q = self._act(
            loaded.weights.actor if explore else loaded.weights.ema_actor,
            loaded.weights.critic,
            loaded.weights.normaliser,
            np.concatenate(
                [
                    state,
                    context.action,
                    np.asarray([context.position, context.valid, gain, explore], np.float32),
                ]
            ),
            np.asarray([self._seed, number], np.uint32),
        )
        return PolicyStep(np.asarray(action), context, np.asarray(edit), float(q))

    def _roll_out(self, context: BaseContext, mode: Mode, number: int) -> PolicyStep:
        action = context.action.copy()
        if mode == "explore":
            rng = np.random.default_rng((int(self._seed), 8, number))
            if self.config.collect_with == "random":
                action = rng.uniform(-1.0, 1.0, self.spec.action)
            elif context.valid:
                action = action + rng.normal(0.0, self.config.collect_noise, self.spec.action)
            action = np.clip(action, -1.0, 1.0).astype(np.float32)
        return PolicyStep(action, context, np.zeros(self.spec.action, np.float32), float("nan"))


@lru_cache(maxsize=16)  # of one process: policies of one config share the compiled code
def _compiled_act(composer: ActionComposer, state: int) -> Callable[..., Any]:
    return jax.jit(partial(_act, composer))


def _act(
    composer: ActionComposer,
    actor: Params,
    critic: Params | None,
    normaliser: Normaliser,
    packed: jax.Array,
    counter: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    action = len(composer.residual_scale)
    states = len(packed) - action - 4
    position, valid, gain, explore = (packed[i - 4] for i in range(4))
    state = normalise(normaliser, packed[:states])[None]
    context = BaseContext(packed[states:-4][None], position[None], valid[None])
    key = jax.random.fold_in(jax.random.key(counter[0]), counter[1])
    noise = composer.noise(key, (1, action), "explore") * explore
    candidate_noise = composer.candidate_noise(key, (1, action))
    acted = composer.act(actor, critic, state, context, noise, gain, candidate_noise)
    q = jnp.asarray(jnp.nan, jnp.float32)
    if acted.value is not None:
        q = acted.value.mean()
    return acted.action[0], acted.edit[0], q
