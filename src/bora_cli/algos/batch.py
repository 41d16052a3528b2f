"""What every loss reads, a batch of windows as normalised tensors, and how batches are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bora_cli.errors import DataError


@dataclass(frozen=True)
class Batch:
    """B windows of H ticks; also used for a whole buffer, from which `rows` takes batches.

    z, z_next: float [B, N, W] tokens at the first tick and at the next decision.  s, s_next: float [B, S]
    states. a: float [B, H, A] executed actions, normalised, the last one repeated behind the executed ticks.
    mask: float [B, H], 1 on ticks that may be learned from; never a 1 after a 0.
    r: float [B, H] relabelled rewards.  d: float [B, H], 1 where the episode terminated (never where
    truncated). has_next: bool [B], False where no next decision was observed; z_next and s_next are then
    arbitrary. adv: float [B, H] precomputed advantages, not normalised.  mc_return: float [B, H] discounted
    return to go. a_base: float [B, H, A] the base policy's chunk, normalised.  controller: uint8 [B], see
    `types.Controller`. demo: bool [B] from a demonstration.  success: bool [B], the episode succeeded.
    unaided: bool [B], the episode succeeded and nobody helped.
    """

    z: Tensor
    s: Tensor
    a: Tensor
    mask: Tensor
    r: Tensor
    d: Tensor
    z_next: Tensor
    s_next: Tensor
    has_next: Tensor
    adv: Tensor | None = None
    mc_return: Tensor | None = None
    a_base: Tensor | None = None
    controller: Tensor | None = None
    demo: Tensor | None = None
    success: Tensor | None = None
    unaided: Tensor | None = None

    def __len__(self) -> int:
        return int(self.a.shape[0])

    def rows(self, index: Tensor | NDArray[np.int64]) -> Batch:
        """Return the windows at integer positions [b], in that order."""
        where = torch.as_tensor(index, dtype=torch.long, device=self.a.device)
        return self._map(lambda column: column[where])

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on a device."""
        return self._map(lambda column: column.to(device))

    def need(self, name: str) -> Tensor:
        """Return an optional column; raise DataError if this batch was made without it."""
        value: Tensor | None = self._columns()[name]
        if value is None:
            raise DataError(
                f"This batch has no '{name}'; the chosen loss needs it.", "Fill it when the batch is made."
            )
        return value

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        columns: dict[str, Any] = {k: None if v is None else change(v) for k, v in self._columns().items()}
        return Batch(**columns)

    def _columns(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def concat(first: Batch, second: Batch) -> Batch:
    """Join two batches; a column that one of them lacks is dropped."""
    theirs = second._columns()
    both: dict[str, Any] = {}
    for name, value in first._columns().items():
        other = theirs[name]
        both[name] = None if value is None or other is None else torch.cat([value, other])
    return Batch(**both)


def draw(rng: np.random.Generator, n: int, batch: int) -> NDArray[np.int64]:
    """Return `batch` positions among n windows, uniformly and with replacement."""
    if n < 1:
        raise DataError(
            "Cannot draw from an empty buffer; expected at least one window.", "Collect episodes first."
        )
    return rng.integers(0, n, batch)


def draw_mixed(
    rng: np.random.Generator, n_offline: int, n_online: int, batch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions in the offline and in the online buffer: exactly half each, the odd one online.

    The halves are fixed numbers, not coin flips, so that the mixing ratio of every update is the same (RLPD,
    Ball et al. 2023, "symmetric sampling").
    """
    half = batch // 2
    return draw(rng, n_offline, half), draw(rng, n_online, batch - half)


def elsewhere(episode: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return for every row the row to borrow a number from, a permutation int [n]; a control for advantages.

    episode: int [n], episode of each row, rows of one episode next to each other.  The episodes are put in
    random order and the whole sequence is turned by a random amount.  So neighbours keep their neighbours,
    and all sums over windows have the spread they had; what is lost is which action a number was about.
    """
    ids, start, length = np.unique(episode, return_index=True, return_counts=True)
    order = rng.permutation(len(ids))
    rows = np.concatenate([np.arange(start[i], start[i] + length[i]) for i in order])
    return np.roll(rows, int(rng.integers(len(rows)))).astype(np.int64)
