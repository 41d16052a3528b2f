"""Windows of online episodes as training sees them: what was logged at every decision, and what came of it.

Everything the policy saw when it decided is in the decision log (tokens, base chunk), and while a person drives the
policy decides at every tick in shadow, so that each correction has its base chunk beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bora_cli.algos.batch import Batch
from bora_cli.algos.rewards import takeovers
from bora_cli.checkpoint import Trained
from bora_cli.data.windows import Relabel, build_windows
from bora_cli.errors import CheckpointError, DataError
from bora_cli.types import Controller, Decision, Episode


@dataclass(frozen=True)
class OnlineBuffer:
    """Windows of online episodes that start at a decision.

    batch: all n windows with base chunks, whole chunks for the critic.  executable: float32 [n, H], the mask cut to
    the ticks that are executed before the next decision, which is what a residual can change.
    """

    batch: Batch
    executable: torch.Tensor
    takeovers: int

    @property
    def for_actor(self) -> Batch:
        return replace(self.batch, mask=self.executable)


def online_buffer(
    episodes: Sequence[Episode], base: Trained, rewards: Relabel, gamma: float, horizon: int | None = None
) -> OnlineBuffer:
    """Return the windows of online episodes that start, and whose successor lies, at a logged decision.

    horizon: longest window, ticks; the policy's by default.  Base chunks are cut to it.
    Raises CheckpointError if the decisions were made by another backbone, DataError if there are none.
    """
    horizon, execute = horizon or base.spec.horizon, base.spec.execute
    logged: list[dict[int, Decision]] = [{d.t_start: d for d in e.decisions} for e in episodes]
    strange = {d.base_hash for e in logged for d in e.values()} - {base.backbone_hash}
    if strange:
        raise CheckpointError(
            f"The episodes were recorded with backbone {', '.join(strange)}; the policy has {base.backbone_hash}.",
            "Use episodes of this policy.",
        )
    w = build_windows(episodes, horizon=horizon, gamma=gamma, relabel=rewards)
    known = np.array([t in logged[e] for e, t in zip(w.episode, w.t, strict=True)], bool)
    known &= [not n or t in logged[e] for e, t, n in zip(w.episode, w.t_next, w.has_next, strict=True)]
    w = w.take(known & (w.controller != Controller.BLENDED))  # half of a ramp is not a correction
    if not len(w):
        raise DataError(
            "The online episodes hold no decision to learn from.", "Collect them with `bora online`."
        )
    alone = np.array([e.success and not e.intervened.any() for e in episodes], bool)
    now = [logged[e][t] for e, t in zip(w.episode, w.t, strict=True)]
    following = [logged[e].get(t, d) for e, t, d in zip(w.episode, w.t_next, now, strict=True)]
    actor = base.actor
    normal = actor.action.normalize
    mask = torch.from_numpy(w.mask)
    executable = mask.clone()
    executable[:, execute:] = 0.0
    batch = Batch(
        z=stack_rows([d.tokens for d in now]),
        s=actor.state.normalize(
            stack_rows([episodes[e].state[t] for e, t in zip(w.episode, w.t, strict=True)])
        ),
        a=normal(torch.from_numpy(w.action)),
        mask=mask,
        r=torch.from_numpy(w.reward),
        d=torch.from_numpy(w.terminated),
        z_next=stack_rows([d.tokens for d in following]),
        s_next=actor.state.normalize(
            stack_rows([episodes[e].state[t] for e, t in zip(w.episode, w.t_next, strict=True)])
        ),
        has_next=torch.from_numpy(w.has_next),
        a_base=normal(stack_rows([d.base[:horizon] for d in now])),
        controller=torch.from_numpy(w.controller),
        demo=torch.from_numpy(w.demo),
        success=torch.from_numpy(w.success),
        unaided=torch.from_numpy(alone[w.episode]),
    )
    return OnlineBuffer(batch, executable, sum(len(takeovers(e.intervened)[0]) for e in episodes))


def stack_rows(rows: Sequence[NDArray[Any]]) -> torch.Tensor:
    """Return rows of equal shape as one float32 tensor."""
    return torch.from_numpy(np.stack(rows).astype(np.float32))
