"""Numbers that change during training: functions of the update counter, nothing else."""

from __future__ import annotations

import math


def linear(update: int, start: float, end: float, over: int) -> float:
    """Go from start to end in `over` updates, then stay."""
    if over <= 0:
        return end
    return start + (end - start) * min(max(update, 0) / over, 1.0)


def cosine(update: int, peak: float, total: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Rise linearly to `peak` in `warmup` updates, then fall along a cosine to `floor * peak` at `total`."""
    if update < warmup:
        return peak * (update + 1) / warmup
    done = min((update - warmup) / max(total - warmup, 1), 1.0)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
