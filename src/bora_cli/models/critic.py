"""Critics: the per-tick chunk critic q, v of BORA and the state value used for advantages."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from bora_cli.models.nn import Context, MemberLinear, Sizes, Trunk


class CriticConfig(BaseModel):
    """Sizes of the chunk critic and what it may see of the chunk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: Sizes
    context: Literal["step", "prefix", "full"] = Field(
        default="prefix",
        description="what q_i sees of the chunk: step = a_i (the paper), prefix = a_0..a_i, full = all of it",
    )
    ensemble: int = Field(default=4, gt=0, description="independent q networks K")
    width: int = Field(default=128, gt=0, description="hidden width")


class ChunkCritic(nn.Module):
    """Per-tick action values q [K, B, H] and state values v [B, H] of a chunk.

    q_i: value of executing a_i at tick i of the chunk, whose tokens were seen at tick 0.  v_i: the same
    before a_i is chosen.  Paper: the `step` context.  Its q_i does not know a_0 .. a_{i-1} and so averages
    over them; `prefix` and `full` are ours.  `full` shows q_i later actions too, which multi-step targets
    need; its v sees no action. All inputs are normalised: z float [B, N, W], s float [B, S], a float [B, H,
    A].
    """

    sees_q: Tensor
    sees_v: Tensor

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.config = config
        h = config.sizes.horizon
        ones = torch.ones(h, h)
        visible = {
            "step": (torch.eye(h), torch.zeros(h, h)),
            "prefix": (ones.tril(), ones.tril(-1)),
            "full": (ones, torch.zeros(h, h)),
        }
        sees_q, sees_v = visible[config.context]
        self.register_buffer("sees_q", sees_q, persistent=False)
        self.register_buffer("sees_v", sees_v, persistent=False)
        self.q_net = _TickNet(config.sizes, config.ensemble, config.width)
        self.v_net = _TickNet(config.sizes, 1, config.width)

    def q(self, z: Tensor, s: Tensor, a: Tensor) -> Tensor:
        """Return action values of every member and tick, float [K, B, H]."""
        out: Tensor = self.q_net(z, s, a, self.sees_q)
        return out

    def v(self, z: Tensor, s: Tensor, a: Tensor | None = None) -> Tensor:
        """Return state values of every tick, float [B, H].

        a: the chunk, needed by the `prefix` context only, where v_i sees a_0 .. a_{i-1}.  Without it only
        v_0 is meaningful there, which is all that a bootstrap at the next decision needs.
        """
        sizes = self.config.sizes
        if a is None:
            a = z.new_zeros(z.shape[0], sizes.horizon, sizes.action_dim)
        out: Tensor = self.v_net(z, s, a, self.sees_v)
        return out[0]


class _TickNet(nn.Module):
    """K independent networks from (tokens, state, visible actions, tick) to one number per tick."""

    def __init__(self, sizes: Sizes, members: int, width: int) -> None:
        super().__init__()
        self.members = members
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.context = Context(sizes)
        self.observe = MemberLinear(members, self.context.width, width)
        self.act = MemberLinear(sizes.horizon, sizes.action_dim, members * width)
        self.tick = nn.Parameter(0.1 * torch.randn(members, 1, sizes.horizon, width))
        self.hidden = MemberLinear(members, width, width)
        self.head = MemberLinear(members, width, 1, gain=0.01)

    def forward(self, z: Tensor, s: Tensor, a: Tensor, sees: Tensor) -> Tensor:
        """Return float [K, B, H]; sees [H, H] is 1 where the row's tick sees the column's action."""
        context = self.context(z, s).expand(self.members, -1, -1)
        seen = self.norm(self.observe(context)).relu()
        # one linear layer per tick's action; their sum over visible ticks is a linear layer of what is visible
        each = self.act(a.transpose(0, 1)).unflatten(-1, (self.members, -1))
        acted = torch.einsum("ij,jbkw->kbiw", sees, each)
        x = self.norm(seen[:, :, None] + acted + self.tick).relu()
        x = self.norm(self.hidden(x)).relu()
        out: Tensor = self.head(x)
        return out.squeeze(-1)


class ValueConfig(BaseModel):
    """Sizes of the state value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: Sizes
    width: int = Field(default=128, gt=0, description="hidden width")
    layers: int = Field(default=2, gt=0, description="hidden layers")
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="share of hidden units that a step of training leaves out"
    )


class StateValue(nn.Module):
    """Expected discounted return of a state, one number per sample: z [B, N, W], s [B, S] -> [B]."""

    def __init__(self, config: ValueConfig) -> None:
        super().__init__()
        self.config = config
        self.context = Context(config.sizes)
        self.trunk = Trunk(self.context.width, config.width, config.layers, config.dropout)
        self.head = nn.Linear(config.width, 1)

    def forward(self, z: Tensor, s: Tensor, dropped: torch.Generator | None = None) -> Tensor:
        """Return V, float [B]; with a generator hidden units are left out at random, as in training only."""
        out: Tensor = self.head(self.trunk(self.context(z, s), dropped))
        return out.squeeze(-1)
