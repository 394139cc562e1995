"""Everything about the learner that training leaves alone: tables [learner] and [base]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from handrail.config import check

AtTakeover = Literal["through", "cut", "terminal"]
PresetName = Literal["resfit", "rlpd", "serl", "hil_serl", "ibrl", "expo", "idql", "residual_hil"]


@dataclass(frozen=True)
class LearnerConfig:
    """The learner's table; the defaults are the preset `resfit`, `presets.expand` gives others."""

    preset: PresetName = "resfit"  # name of the method that the fields below describe
    total_steps: int = 10_000  # [env steps], budget of the run; phases are shares of it

    # The action composer.
    residual_on: Literal["base", "zeros"] = "base"  # what the actor edits
    select: Literal["edit", "best"] = "edit"  # best: the base's own action competes, judged by Q
    margin: float = 0.0  # [-], best: deviations over the heads to lead by at first, 0 at full gain
    samples: int = 0  # [-], best: actions drawn around the base's own that compete as well
    sample_noise: float = 0.2  # [-], deviation of those from the base's own, at full gain
    residual_scale: tuple[float, ...] = (
        0.5,
    )  # [-], reach of an edit of the base, share of half-range
    # [-], the same for the gripper's dimension; None: as residual_scale
    gripper_residual_scale: float | None = None

    # The actor.
    actor: Literal["td3", "sac"] = "td3"
    explore_noise: float = 0.2  # [-], td3: deviation of acting noise before scaling
    target_noise: float = 0.2  # [-], td3: deviation of the target's smoothing noise before scaling
    target_noise_clip: float = 0.3  # [-], td3: largest smoothing noise before scaling
    noise_free_every: int = 0  # [episodes], of which one is acted without noise; 0: none
    initial_log_std: float = 0.0  # [-], sac: log deviation before tanh at initialisation
    temperature: float = 0.01  # [-], sac: initial entropy weight
    temperature_floor: float = 1e-3  # [-], sac: the entropy weight never falls below this
    entropy_per_dim: float = -0.5  # [nat], sac: target entropy of each action dimension
    backup_entropy: bool = False  # sac: count entropy in the value; wrong for sparse rewards
    edit_penalty: float = 0.0  # [-], weight of the squared edit in the actor's loss
    bc_weight: float = 0.0  # [-], weight of staying near demonstrated and human actions
    train_gain: Literal["full", "ramp"] = "full"  # reach that the actor's loss assumes in the ramp

    # The critics.
    num_qs: int = 5  # [-], heads
    num_min_qs: int = 2  # [-], heads drawn without replacement, whose minimum is the target
    discount: float = 0.98  # [-], per env step
    n_step: int = 3  # [env steps], length of the return before the bootstrap
    tau: float = 0.005  # [-], share of the new weights per critic step
    v_range: tuple[float, float] | None = None  # [reward], clip targets to this; None: off
    value_loss: Literal["squares", "cross_entropy"] = "squares"  # the latter where v_range is given
    success_is_terminal: bool = True  # no bootstrap past a step that reached the goal
    timeout_is_failure: bool = False  # True: no bootstrap at the time limit (needs a clock input)
    cost_weight: float = 0.0  # [reward/cost], what a step's cost takes off its reward at first
    cost_budget: float | None = None  # [cost/episode], the weight rises while episodes cost more
    cost_lr: float = 0.01  # [reward/cost^2], how fast the weight follows

    # Interventions, see docs/interventions.md.
    # cut: no window across; terminal: nothing after a take-over
    at_takeover: AtTakeover = "through"
    takeover_cost: float = 0.0  # [reward], taken off the last step before a person takes over
    reward: Literal["task", "interventions"] = "task"  # interventions: of these alone (RLIF)
    # [env steps], before a take-over, that are flagged as leading to it
    pre_intervention_steps: int = 0
    # [-], weight of a flagged step in the batches; 0: it is never drawn
    pre_intervention_weight: float = 1.0
    intervention_share: float | None = None  # [-], of a batch's anchors; None: as they come

    # Networks and optimisers.
    hidden: tuple[int, ...] = (256, 256)  # [-], widths of actor and critics
    activation: Literal["relu", "tanh"] = "relu"
    critic_lr: float = 3e-4  # [-], Adam's step
    actor_lr: float = 3e-4  # [-]
    # [-], share of the run, its last, in which both fall to a tenth; 0: never
    lr_decay_fraction: float = 0.0
    temperature_lr: float = 3e-4  # [-]
    weight_decay: float = 1e-4  # [-], decoupled
    grad_clip: float = 10.0  # [-], norm
    actor_ema: float = 0.005  # [-], share of the new actor in the evaluation actor per actor step

    # Data.
    batch: int = 128  # [rows], of one update
    demo_fraction: float = 0.5  # [-], share of each batch from demonstrations and interventions
    successes_as_demos: bool = False  # autonomous successful episodes join the demonstrations' half
    capacity: int = 200_000  # [rows], of the replay ring; demonstrations are never evicted
    normaliser_floor: float = 1e-3  # [unit of the state], least deviation that a state is scaled by
    holdout: float = 0.05  # [-], share of the episodes that critics and actor never train on

    # The gate before weights reach the arm, see `gate`.
    gate_action_change: float = 0.75  # [-], of the actions, in reaches per 100 updates; inf: any
    gate_td_error: float = 2.0  # [-], held-out TD error, in largest returns so far; inf: any
    gate_patience: int = 4  # [publications], refused for their actions alone before one is believed

    # The machine.
    devices: int = 1  # [-], that each minibatch is cut over; equal parts, so batch is a multiple
    replay: Literal["host", "device"] = "host"  # device: rows are copied there once, as they come
    precision: Literal["float32", "bfloat16"] = "float32"  # of products; sums and weights: float32

    # Pace. An update is one critic step.
    utd: float = 2.0  # [updates/env step]; another one scales batch and rates left out, `scaling`
    actor_every: int = 2  # [updates], critic steps per actor step; one compiled call does them
    collect: float = 0.05  # [-], share of total_steps that is rolled out before learning
    collect_with: Literal["base", "policy", "random"] = "base"  # who acts in those
    collect_noise: float = 0.1  # [-], deviation added to the base's actions in those
    warmup: float = 0.1  # [-], critic-only updates, as share of total_steps
    ramp: float = 0.1  # [-], share of total_steps over which an edit of the base grows to its reach
    # [-], chance of so few successes under the base at which it shrinks again
    backoff_level: float = 0.0
    # evaluations are the base's until edits have shown to do better
    require_improvement: bool = False

    def __post_init__(self) -> None:
        check(self.total_steps > 0, "total_steps", self.total_steps, "positive")
        check(self.num_qs >= 1, "num_qs", self.num_qs, "at least 1")
        check(
            1 <= self.num_min_qs <= self.num_qs, "num_min_qs", self.num_min_qs, "within 1 .. num_qs"
        )
        check(0 < self.discount < 1, "discount", self.discount, "between 0 and 1")
        check(self.n_step >= 1, "n_step", self.n_step, "at least 1")
        check(self.noise_free_every >= 0, "noise_free_every", self.noise_free_every, "0 or more")
        check(self.samples >= 0, "samples", self.samples, "non-negative")
        check(
            self.samples == 0 or self.select == "best",
            "samples",
            self.samples,
            '0 unless select is "best"',
        )
        check(self.batch >= 2, "batch", self.batch, "at least 2")
        check(
            0 <= self.pre_intervention_weight <= 1,
            "pre_intervention_weight",
            self.pre_intervention_weight,
            "within 0 .. 1",
        )
        if self.intervention_share is not None:
            share = self.intervention_share
            check(0 <= share <= 1, "intervention_share", share, "within 0 .. 1")
        check(
            self.reward == "task" or self.takeover_cost > 0,
            "takeover_cost",
            self.takeover_cost,
            'positive with reward = "interventions", which has no other reward',
        )
        check(self.devices >= 1, "devices", self.devices, "at least 1")
        check(
            self.batch % self.devices == 0,
            "batch",
            self.batch,
            f"a multiple of devices ({self.devices}), which get equal parts of it",
        )
        check(0 <= self.demo_fraction <= 1, "demo_fraction", self.demo_fraction, "within 0 .. 1")
        check(0 <= self.holdout < 1, "holdout", self.holdout, "within 0 .. 1, 1 excluded")
        check(self.gate_patience >= 1, "gate_patience", self.gate_patience, "at least 1")
        check(self.utd > 0, "utd", self.utd, "positive")
        check(self.actor_every >= 1, "actor_every", self.actor_every, "at least 1")
        check(len(self.hidden) >= 1, "hidden", self.hidden, "one width or more")
        check(all(w > 0 for w in self.hidden), "hidden", self.hidden, "positive widths")
        check(self.capacity >= 1000, "capacity", self.capacity, "at least 1000 rows")
        check(
            all(s >= 0 for s in self.residual_scale),
            "residual_scale",
            self.residual_scale,
            "non-negative",
        )
        check(
            len(self.residual_scale) >= 1,
            "residual_scale",
            self.residual_scale,
            "one value, or one per action dimension",
        )
        check(self.temperature > 0, "temperature", self.temperature, "positive")
        check(
            0 < self.temperature_floor <= self.temperature,
            "temperature_floor",
            self.temperature_floor,
            "positive and at most temperature",
        )
        for name in ("tau", "actor_ema"):
            value = getattr(self, name)
            check(0 < value <= 1, name, value, "within 0 .. 1, 0 excluded")
        for name in (
            "critic_lr",
            "actor_lr",
            "temperature_lr",
            "grad_clip",
            "gate_action_change",
            "gate_td_error",
        ):
            check(getattr(self, name) > 0, name, getattr(self, name), "positive")
        for name in ("lr_decay_fraction", "collect", "warmup", "ramp", "backoff_level"):
            check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "within 0 .. 1")
        for name in (
            "margin",
            "sample_noise",
            "explore_noise",
            "target_noise",
            "target_noise_clip",
            "edit_penalty",
            "bc_weight",
            "weight_decay",
            "collect_noise",
            "normaliser_floor",
            "cost_weight",
            "cost_lr",
            "takeover_cost",
            "pre_intervention_steps",
        ):
            check(getattr(self, name) >= 0, name, getattr(self, name), "non-negative")
        if self.cost_budget is not None:
            check(self.cost_budget >= 0, "cost_budget", self.cost_budget, "non-negative")
        if self.v_range is not None:
            check(self.v_range[0] < self.v_range[1], "v_range", self.v_range, "low before high")
            check(
                self.takeover_cost <= 0 or self.v_range[0] <= -self.takeover_cost,
                "v_range",
                self.v_range,
                f"from {-self.takeover_cost} or lower: a take-over costs that much "
                "(takeover_cost), and what is worse than the lowest value can't be learned",
            )

    @property
    def needs_base(self) -> bool:
        """Whether the method can't act without a base policy."""
        return self.residual_on == "base" or self.select == "best" or self.collect_with == "base"

    @property
    def needs_critic_to_act(self) -> bool:
        """Whether the actor needs the critics' weights."""
        return self.select == "best"


@dataclass(frozen=True)
class BaseConfig:
    """Table [base]: the policy that proposes, trained on demonstrations and then frozen."""

    kind: Literal["bc", "none"] = "bc"
    chunk: int = 6  # [steps], predicted at once
    execute: int = 6  # [steps], taken from a chunk before the base is asked again
    hidden: tuple[int, ...] = (256, 256)  # [-], widths
    lr: float = 1e-3  # [-], Adam's step
    weight_decay: float = 1e-3  # [-], decoupled
    batch: int = 256  # [rows]
    ema: float = 0.999  # [-], share of the old average per step, bias-corrected
    validation: float = 0.15  # [-], share of the demonstrations, by episode, held out
    evaluate_every: int = 20  # [steps]
    patience: int = 50  # [evaluations] without a new validation minimum before training ends
    max_steps: int = 20_000  # [steps]
    # [-], > 1: train this many times the steps to the minimum, use the last
    train_multiple: float = 1.0
    ignore: tuple[str, ...] = ()  # named parts of the state that the base must not see

    def __post_init__(self) -> None:
        check(self.chunk >= 1, "chunk", self.chunk, "at least 1")
        check(1 <= self.execute <= self.chunk, "execute", self.execute, "within 1 .. chunk")
        check(0 < self.validation < 1, "validation", self.validation, "between 0 and 1")
        check(0 <= self.ema < 1, "ema", self.ema, "within 0 .. 1, 1 excluded")
        check(self.train_multiple >= 1, "train_multiple", self.train_multiple, "at least 1")
        for name in ("lr", "batch", "evaluate_every", "patience", "max_steps"):
            check(getattr(self, name) > 0, name, getattr(self, name), "positive")
        check(len(self.hidden) >= 1, "hidden", self.hidden, "one width or more")
