"""Which recorded states a dear test looks at: of both outcomes, from as many episodes as possible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.intp]


def spread_states(
    found: Index, episode: NDArray[np.int32], success: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> Index:
    """Draw up to `count` of the windows `found`, half of them from successes where there are enough.

    episode, success: [windows] of all windows.  No episode gives a second state before all gave one.
    """
    found = rng.permutation(found)
    turn, seen = np.zeros(len(found), np.int64), dict[int, int]()
    for at, e in enumerate(episode[found]):
        turn[at] = seen.get(int(e), 0)
        seen[int(e)] = int(turn[at]) + 1
    spread = found[np.argsort(turn, kind="stable")]
    good, bad = spread[success[spread]], spread[~success[spread]]
    of_good = min(len(good), max(count - count // 2, count - len(bad)))
    return np.sort(np.concatenate([good[:of_good], bad[: max(0, count - of_good)]]))
