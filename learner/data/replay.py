"""Rows in a ring, linked to their successors; returns are built when they are sampled.

Each frame is stored once: the next observation of a row is the observation of the row it is linked
to. A link exists only between row t and row t + 1 of one episode of one actor, so a window that
follows links can't cross an episode's end, a lost row, or the ring's wrap.
"""

from __future__ import annotations

import numpy as np

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import Error
from handrail.spec import EnvSpec
from handrail.transition import Source, Transition
from learner.algo.batch import Rows, Slots
from learner.bases.protocol import BaseContext
from learner.config import AtTakeover, LearnerConfig
from learner.data.image_buffer import ImageBatch, ImageBuffer
from learner.data.nstep import NStepWindows, nstep_windows
from learner.data.views import TrainingViews
from learner.episode_log import LoggedRow

# Plain integers: numpy compares its own with members of an enumeration ten times slower.
_DEMO, _ONLINE = int(Source.DEMO), int(Source.ONLINE)


class Replay:
    """A ring of rows with two views by index: online, and demonstrations with interventions."""

    def __init__(self, config: LearnerConfig, spec: EnvSpec, frames: bool = False) -> None:
        """Make an empty ring.

        Args:
            config: Says how many rows it holds.
            spec: What rows fit.
            frames: Whether camera frames are kept too; only for a learner that looks at them.
        """
        self.config = config
        self.spec = spec
        size, self._s, self._a = config.capacity, spec.state, spec.action
        self._base = self._s + self._a
        self.columns = self._base + self._a + 3
        self.rows = np.zeros((size, self.columns), np.float32)
        self.frames = ImageBuffer(size, spec) if frames else None
        self.changed = np.zeros(size, bool)  # rows written since whoever mirrors them cleared this
        self.reward = np.zeros(size, np.float32)
        self.cost = np.zeros(size, np.float32)
        self.cost_multiplier = config.cost_weight  # [reward/cost], see `learner.algo.lagrangian`
        self.mc_return = np.full(size, np.nan, np.float32)
        self.terminated = np.zeros(size, bool)
        self.truncated = np.zeros(size, bool)
        self.success = np.zeros(size, bool)
        self.intervened = np.zeros(size, bool)
        self.end = np.zeros(size, bool)
        self.held_out = np.zeros(size, bool)
        self.pre_intervention = np.zeros(size, bool)  # steps that led to a take-over
        self.aborted = np.zeros(size, bool)  # steps of episodes that a label took out of training
        self.source = np.full(size, -1, np.int8)
        self.next_index = np.full(size, -1, np.int64)
        self.actor = np.full(size, -1, np.int64)
        self.episode = np.full(size, -1, np.int64)
        self.t = np.full(size, -1, np.int64)
        self.views = TrainingViews(size)
        self.largest_return = 0.0  # [reward], of a finished episode from any of its steps, absolute
        self.protected = 0
        self._cursor = 0
        self._open: dict[int, list[int]] = {}  # linked slots that an actor's next row may go on
        self._labels: dict[
            tuple[int, int], EpisodeLabel
        ] = {}  # newest, by number of actor and episode

    def __len__(self) -> int:
        """Number of rows held."""
        return int((self.source >= 0).sum())

    def add(self, row: Transition, actor: int = 0, held_out: bool = False) -> int:
        """Store a row and return its slot.

        Rows of one actor come in order; those of several may be interleaved.

        Args:
            row: To store.
            actor: Number of the actor that it is from.
            held_out: Whether its episode is held out of training.

        Raises:
            Error: Demonstrations fill the ring, so nothing could be learned from online rows.
        """
        slot = self._free_slot()
        a, base = self._s, self._base
        packed = self.rows[slot]
        self.changed[slot] = True
        packed[:a] = row.state
        packed[a:base] = row.action
        packed[base : base + self._a] = row.base_action
        packed[-3] = row.base_pos
        packed[-2] = row.base_valid
        packed[-1] = row.source == Source.DEMO or row.intervened
        self.reward[slot] = row.reward
        self.cost[slot] = row.cost
        self.mc_return[slot] = np.nan
        self.terminated[slot] = row.terminated
        self.truncated[slot] = row.truncated
        self.success[slot] = row.success
        self.intervened[slot] = row.intervened
        self.end[slot] = row.end
        self.held_out[slot], self.pre_intervention[slot] = held_out, False
        label = self._labels.get((actor, row.episode))
        self.aborted[slot] = label is not None and label.outcome == Outcome.ABORT
        self.source[slot] = row.source
        self.next_index[slot] = -1
        self.actor[slot], self.episode[slot], self.t[slot] = actor, row.episode, row.t
        if self.frames is not None:
            self.frames.put(slot, row.images)
        self.protected += row.source == Source.DEMO
        self._link(slot, actor)
        return slot

    def label(self, label: EpisodeLabel, actor: int = 0) -> bool:
        """Apply what is said of an episode after the fact, now or once its last row is there.

        A late success ends the backup at the last step; a withdrawn one lets it go on. No window
        starts in an aborted episode until another label says otherwise.

        Returns:
            Whether rows of the episode are held.
        """
        self._labels[actor, label.episode] = label
        return self._apply(actor, label.episode)

    def on_row(self, logged: LoggedRow) -> None:
        """Store a row of the run's log; evaluations are not learned from."""
        if logged.row.source != Source.EVAL:
            self.add(logged.row, logged.actor, logged.episode.held_out)

    def on_label(self, label: EpisodeLabel, actor: int) -> None:
        """Apply what the log is told of an episode."""
        self.label(label, actor)

    def _apply(self, actor: int, episode: int) -> bool:
        label = self._labels.get((actor, episode))
        if label is None:
            return False
        slots = np.flatnonzero((self.actor == actor) & (self.episode == episode))
        slots = slots[np.argsort(self.t[slots], kind="stable")]
        steps = slots[~self.end[slots]]
        if len(steps) == 0:
            return False
        abort = label.outcome == Outcome.ABORT
        self.aborted[slots] = abort
        if abort:
            for slot in slots:
                self.views.remove(int(slot))
            return True
        last = int(steps[-1])
        newest = (self._open.get(actor) or [-1])[-1]
        in_progress = newest == last and not self.terminal(np.asarray(last))
        success = label.outcome == Outcome.SUCCESS
        if not in_progress and success != self.success[last]:
            self.reward[last] += label.success_reward if success else -label.success_reward
            self.success[last] = self.terminated[last] = success
            self._write_returns(self._episode_chain(last))
        for slot in steps:
            self.views.remove(int(slot))
            if self.can_start(slot):
                self._add_to_views(int(slot))
        if not in_progress:
            self._promote_success(self._episode_chain(last))
        return True

    def _episode_chain(self, last: int) -> list[int]:
        """Return the slots of the linked steps of an episode that lead to its last one."""
        same = (self.actor == self.actor[last]) & (self.episode == self.episode[last])
        before = {int(self.next_index[slot]): int(slot) for slot in np.flatnonzero(same)}
        slots = [last]
        while slots[-1] in before:
            slots.append(before[slots[-1]])
        return slots[::-1]

    def set_context(self, slots: np.ndarray, context: BaseContext) -> None:
        """Overwrite the base's context of rows at some slots (N,)."""
        self.changed[slots] = True
        self.rows[slots, self._base : self._base + self._a] = context.action
        self.rows[slots, -3] = context.position
        self.rows[slots, -2] = context.valid

    def states(self, slots: np.ndarray) -> np.ndarray:
        """Return the observations (N, S) at some slots."""
        return self.rows[slots, : self._s]

    def actions(self, slots: np.ndarray) -> np.ndarray:
        """Return the executed actions (N, A) at some slots."""
        return self.rows[slots, self._s : self._base]

    def context(self, slots: np.ndarray) -> BaseContext:
        """Return the base's context at some slots (N,)."""
        rows = self.rows[slots]
        return BaseContext(rows[:, self._base : self._base + self._a], rows[:, -3], rows[:, -2])

    def episodes(self, source: Source) -> list[np.ndarray]:
        """Return the slots of each stretch of linked rows from one source, in order of arrival."""
        slots = np.flatnonzero((self.source == source) & ~self.aborted)
        has_previous = np.zeros(len(self.source), bool)
        has_previous[self.next_index[slots][self.next_index[slots] >= 0]] = True
        stretches = []
        for first in slots[~has_previous[slots]]:
            stretch = [int(first)]
            while (nxt := int(self.next_index[stretch[-1]])) >= 0:
                stretch.append(nxt)
            stretches.append(np.asarray(stretch))
        return stretches

    def recent(self, rows: int) -> np.ndarray:
        """Return the slots of training steps among the newest `rows` written, newest first."""
        size = len(self.source)
        slots = (self._cursor - 1 - np.arange(min(rows, size))) % size
        return slots[self.views.online.has(slots)]

    def windows(
        self, start: np.ndarray, n_step: int | None = None, at_takeover: AtTakeover | None = None
    ) -> NStepWindows:
        """Return the n-step windows that start at slots (N,), see `nstep_windows`.

        Args:
            start: Slots.
            n_step: The config's if None.
            at_takeover: The config's if None.
        """
        config = self.config
        return nstep_windows(
            self, start, n_step or config.n_step, at_takeover or config.at_takeover
        )

    def sample(
        self, count: int, rng: np.random.Generator, batches: int = 1, out: Rows | None = None
    ) -> Rows:
        """Return packed minibatches for `batch.unpack`: now, next, (return, discount).

        Each of the `batches` minibatches has its share of demonstrations and interventions first.
        While one view is empty, the other fills in.

        Args:
            count: B, rows of a minibatch.
            rng: Source of chance.
            batches: U.
            out: Arrays to write them into, from `empty_rows`; new ones if None.

        Raises:
            Error: There is nothing to sample from.
        """
        start = self.draw(count, rng, batches)
        out = self.empty_rows(count, batches) if out is None else out
        self._gather(start, self.windows(start), out)
        return out

    def sample_frames(
        self,
        count: int,
        rng: np.random.Generator,
        batches: int = 1,
        out: tuple[Rows, ImageBatch] | None = None,
    ) -> tuple[Rows, ImageBatch]:
        """Return the same minibatches with what the cameras saw; arguments as of `sample`.

        Raises:
            Error: There is nothing to sample from, or the replay keeps no frames.
        """
        if self.frames is None:
            raise Error("this replay keeps no frames; make it with frames=True")
        start = self.draw(count, rng, batches)
        windows = self.windows(start)
        if out is None:
            out = self.empty_rows(count, batches), self.frames.empty(count, batches)
        self._gather(start, windows, out[0])
        self.frames.gather(start, windows.bootstrap, out[1])
        return out

    def _gather(self, start: np.ndarray, windows: NStepWindows, out: Rows) -> None:
        for slots, rows in ((start, out.now), (windows.bootstrap, out.nxt)):
            # checking the slots, as mode "raise" does, would gather into a buffer first
            np.take(self.rows, slots, axis=0, out=rows.reshape(-1, self.columns), mode="clip")
        _fill(out.extra, windows.reward, windows.discount)

    def sample_slots(
        self, count: int, rng: np.random.Generator, batches: int, out: Slots | None = None
    ) -> Slots:
        """Return the same minibatches by the numbers of their rows; arguments as of `sample`."""
        start = self.draw(count, rng, batches)
        windows = self.windows(start)
        out = self.empty_slots(count, batches) if out is None else out
        _fill(out.slots, start, windows.bootstrap)
        _fill(out.extra, windows.reward, windows.discount)
        return out

    def empty_rows(self, count: int, batches: int) -> Rows:
        """Return arrays for `sample` to write into."""
        now, nxt = (np.empty((batches, count, self.columns), np.float32) for _ in range(2))
        return Rows(now, nxt, np.empty((batches, count, 2), np.float32))

    def empty_slots(self, count: int, batches: int) -> Slots:
        """Return arrays for `sample_slots` to write into."""
        shape = (batches, count, 2)
        return Slots(np.empty(shape, np.int32), np.empty(shape, np.float32))

    def draw(self, count: int, rng: np.random.Generator, batches: int = 1) -> np.ndarray:
        """Return the slots (batches * count,) where windows start, as of `TrainingViews.draw`."""
        return self.views.draw(self.config, self.pre_intervention, count, rng, batches)

    def _link(self, slot: int, actor: int) -> None:
        slots = self._open.setdefault(actor, [])
        last = slots[-1] if slots else -1
        if last >= 0 and not (
            self.episode[last] == self.episode[slot]
            and self.t[last] + 1 == self.t[slot]
            and self.source[last] == self.source[slot]
            and not self.end[last]
        ):
            slots.clear()
            if not self.end[last]:  # it was cut: no more rows of it will come
                self._apply(actor, int(self.episode[last]))
            last = -1
        if last >= 0:
            self.next_index[last] = slot
            self._add_to_views(last)
            if (
                self.intervened[slot]
                and not self.intervened[last]
                and self.config.pre_intervention_steps > 0
            ):
                before = np.asarray(slots[-self.config.pre_intervention_steps :])
                self.pre_intervention[before] = ~self.intervened[before]
        slots.append(slot)
        if self.end[slot]:
            self._apply(actor, int(self.episode[slot]))
            return
        if self.terminal(np.asarray(slot)):
            self._add_to_views(slot)
            self._finish_episode(slots)
        elif self.truncated[slot]:
            self._finish_episode(slots)

    def _finish_episode(self, slots: list[int]) -> None:
        self._write_returns(slots)
        self._promote_success(slots)

    def _write_returns(self, slots: list[int]) -> None:
        """Write the Monte-Carlo returns of a finished episode's steps."""
        driven = self.intervened[slots]
        taken = np.append(driven[1:] & ~driven[:-1], False)
        total = np.float32(0)
        for slot, reward in zip(
            slots[::-1], self.shaped_reward(np.asarray(slots), taken)[::-1], strict=True
        ):
            total = reward + np.float32(self.config.discount) * total
            self.mc_return[slot] = total
            self.largest_return = max(self.largest_return, abs(float(total)))

    def _promote_success(self, slots: list[int]) -> None:
        """Make an episode prior data if it is a success of its own and the config asks so."""
        own = (
            self.config.successes_as_demos
            and self.success[slots[-1]]
            and not self.held_out[slots[-1]]
        )
        if own and not self.intervened[slots].any() and not self.aborted[slots[-1]]:
            for slot in slots:
                self.views.promote(slot)

    def _add_to_views(self, slot: int) -> None:
        if self.aborted[slot]:
            return
        demo, online = self.source[slot] == _DEMO, self.source[slot] == _ONLINE
        self.views.add(slot, demo, online, bool(self.intervened[slot]), bool(self.held_out[slot]))

    def shaped_reward(self, slots: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Return the reward (N,) of steps at slots; `taken`: a person took over after it."""
        config = self.config
        own = self.reward[slots] if config.reward == "task" else np.float32(0)
        own = own - np.float32(self.cost_multiplier) * self.cost[slots]
        return own - np.float32(config.takeover_cost) * taken

    def terminal(self, slots: np.ndarray) -> np.ndarray:
        """Return at which slots (N,) nothing follows that a backup could count, as bool."""
        terminal = self.terminated[slots]
        if self.config.success_is_terminal:
            terminal = terminal | self.success[slots]
        if self.config.timeout_is_failure:
            terminal = terminal | self.truncated[slots]
        return terminal

    def can_start(self, slots: np.ndarray) -> np.ndarray:
        """Return at which slots (N,) a window can start, as bool."""
        return ~self.end[slots] & ((self.next_index[slots] >= 0) | self.terminal(slots))

    def _free_slot(self) -> int:
        size = len(self.source)
        if self.protected >= size - 1:
            raise Error(
                f"demonstrations fill the replay ring ({size} rows); raise learner.capacity"
            )
        while self.source[self._cursor] == _DEMO:
            self._cursor = (self._cursor + 1) % size
        slot = self._cursor
        self._cursor = (slot + 1) % size
        if self.source[slot] >= 0:
            self.views.remove(slot)
            slots = self._open.get(int(self.actor[slot]))
            if slots and slots[0] == slot:
                slots.pop(0)
        return slot


def _fill(pairs: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    pairs.reshape(-1, 2)[:, 0] = first
    pairs.reshape(-1, 2)[:, 1] = second
