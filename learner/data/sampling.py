"""Which rows a batch is made of, where it isn't every row alike."""

from __future__ import annotations

import numpy as np

from learner.data.index_set import IndexSet

ROUNDS = 30  # of drawing again; what is flagged after so many stays


def draw_thinned(
    view: IndexSet,
    flagged: np.ndarray,
    weight: float,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> np.ndarray:
    """Return slots of a view, of which a flagged one is drawn `weight` times as often as another.

    Args:
        view: To draw from.
        flagged: Of every slot of the ring, bool.
        weight: In [0, 1]; at 1 chance is used as by `IndexSet.draw`.
        rng: Source of chance.
        shape: Of the slots.
    """
    slots = view.draw(rng, shape)
    if weight >= 1:
        return slots
    again = flagged[slots] & (rng.random(shape) >= weight)
    for _ in range(ROUNDS):
        count = int(again.sum())
        if count == 0:
            break
        slots[again] = view.draw(rng, (count,))
        again &= flagged[slots] & (rng.random(shape) >= weight)
    return slots


def draw_prior_data(
    demonstrations: IndexSet,
    interventions: IndexSet,
    share: float,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> np.ndarray:
    """Return slots of which a share is interventions, in each row of the shape; demos come first.

    While one of the views is empty, the other fills in.

    Args:
        demonstrations: Prior data that nobody intervened in.
        interventions: The others.
        share: Of the interventions, in [0, 1].
        rng: Source of chance.
        shape: (batches, rows).

    Source:
        A. Mandlekar et al., "Human-in-the-Loop Imitation Learning using Remote Teleoperation",
        2020: interventions and the rest are drawn equally often, however many there are.
    """
    batches, rows = shape
    count = round(share * rows)
    if len(interventions) == 0:
        count = 0
    elif len(demonstrations) == 0:
        count = rows
    slots = np.empty(shape, np.int64)
    if count < rows:
        slots[:, : rows - count] = demonstrations.draw(rng, (batches, rows - count))
    if count > 0:
        slots[:, rows - count :] = interventions.draw(rng, (batches, count))
    return slots
