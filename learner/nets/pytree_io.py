"""Nested weights <-> flat dicts of named arrays, for the wire and for files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from handrail.errors import CheckpointError

T = TypeVar("T")


def flatten(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    """Return copies of a tree's leaves, named `prefix/part/...`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(prefix, path): np.array(leaf) for path, leaf in leaves}


def unflatten(like: T, arrays: Mapping[str, np.ndarray], prefix: str) -> T:
    """Return a tree of the same structure as `like`, with leaves from a flat dict.

    Args:
        like: Tree of arrays or of `jax.ShapeDtypeStruct`.
        arrays: Flat dict; other names are passed over.
        prefix: As given to `flatten`.

    Raises:
        CheckpointError: A leaf is missing or has another shape or dtype.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    found = []
    for path, leaf in leaves:
        name = _name(prefix, path)
        if name not in arrays:
            raise CheckpointError(f"weights lack {name!r}; they are of another method or size")
        array = arrays[name]
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise CheckpointError(
                f"weights {name!r} must be {leaf.dtype} {leaf.shape}, "
                f"got {array.dtype} {array.shape}; they are of another method or size"
            )
        found.append(np.array(array))
    return jax.tree_util.tree_unflatten(structure, found)


def _name(prefix: str, path: tuple[Any, ...]) -> str:
    parts = [str(getattr(p, "name", getattr(p, "key", getattr(p, "idx", p)))) for p in path]
    return "/".join([prefix, *parts])
