"""The residual actor: a bounded correction of a frozen base, A_final = A_base + lambda * A_residual."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn

from bora_cli.errors import ConfigError
from bora_cli.models.nn import Context, Sizes, Trunk

Kind = Literal["mlp", "constant"]


class ResidualConfig(BaseModel):
    """Form and reach of the residual."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: Sizes
    kind: Kind = Field(
        default="mlp",
        description="constant = one learned vector per action dimension; mlp = that plus a chunk from tokens, state and"
        " base chunk (the paper)",
    )
    bound: tuple[float, ...] = Field(
        description="largest correction per action dimension, in command units (half the action range is 1)"
    )
    width: int = Field(default=256, gt=0, description="hidden width of mlp")
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="share of the hidden units of mlp that an update leaves out"
    )
    below: Below | None = Field(
        default=None, description="the residual of an earlier round that this one adds to"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_rank(cls, data: Any) -> Any:
        """Leave out what files of earlier versions say of a kind that is no more, where they have another one."""
        if isinstance(data, dict) and data.get("kind") != "low_rank":
            return {k: v for k, v in data.items() if k != "rank"}
        return data

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `below` out where there is none, as files of earlier versions do."""
        return {k: v for k, v in handler(self).items() if k != "below" or v is not None}


class Below(BaseModel):
    """The residual of an earlier round, frozen, in the base of a later one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: ResidualConfig
    share: float = Field(description="how much of it is added (lambda)")
    own: float = Field(description="how much of the later one is added on top")
    unit: tuple[float, ...] = Field(description="one command unit in normalised action units, per dimension")


class ResidualActor(nn.Module):
    """Correction of a base chunk in command units, zero at birth.

    One command unit is half the action range of a dimension.  The correction passes through bound * tanh(x /
    bound), so that |residual| < bound whatever the weights are.
    With `below` the correction is that of an earlier residual plus this one's, which sees the corrected chunk:
    share * R_below(A) + own * R(A + share * unit * R_below(A)).
    Paper: stacked rounds, and a network.  Ours: the constant vector, alone or under the network, so that what is wrong
    everywhere need not be learned state by state; tokens standardised as the expert sees them; units left out.
    """

    bound: Tensor
    unit: Tensor

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        sizes = config.sizes
        if len(config.bound) != sizes.action_dim or min(config.bound) <= 0:
            raise ConfigError(
                f"Residual bound has {len(config.bound)} values, smallest {min(config.bound, default=0)};"
                f" expected {sizes.action_dim} positive values.",
                "Give one bound per action dimension.",
            )
        self.config = config
        self.register_buffer("bound", torch.tensor(config.bound), persistent=False)
        self.offset = nn.Parameter(torch.zeros(sizes.action_dim))
        if config.kind == "mlp":
            chunk = sizes.horizon * sizes.action_dim
            self.context = Context(sizes)
            self.trunk = Trunk(self.context.width + chunk, config.width, 2, config.dropout)
            self.last = nn.Linear(config.width, chunk)
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)
        self.below: ResidualActor | None = None
        if config.below is not None:
            self.below = ResidualActor(config.below.config).requires_grad_(False)
            self.register_buffer("unit", torch.tensor(config.below.unit), persistent=False)

    def forward(self, z: Tensor, s: Tensor, a_base: Tensor, dropped: torch.Generator | None = None) -> Tensor:
        """Return the residual, float [B, H, A] in command units.

        z: float [B, N, W] tokens.  s: float [B, S] state.  a_base: float [B, H, A].  All normalised.  dropped: draws
        the units that an update leaves out; None where the residual is used.
        """
        under = self.config.below
        if self.below is None or under is None:
            return self.own(z, s, a_base, dropped)
        earlier = under.share * self.below(z, s, a_base)
        return earlier + under.own * self.own(z, s, a_base + self.unit * earlier, dropped)

    def own(self, z: Tensor, s: Tensor, a_base: Tensor, dropped: torch.Generator | None = None) -> Tensor:
        """Return what this residual itself adds to a chunk, without the one below it; shapes as in `forward`."""
        if self.config.kind == "constant":
            return self._bounded(self.offset).expand_as(a_base)
        seen = torch.cat([self.context(z, s), a_base.flatten(1)], dim=-1)
        return self._bounded(self.offset + self.last(self.trunk(seen, dropped)).view_as(a_base))

    def on(self, below: ResidualActor, share: float, own: float, unit: Tensor) -> Self:
        """Return a copy of this residual on top of an earlier one.

        share, own: how much of the earlier one, and of this one, is added.  unit: float [A], one command unit in
        normalised action units.
        """
        under = Below(config=below.config, share=share, own=own, unit=tuple(unit.tolist()))
        made = type(self)(self.config.model_copy(update={"below": under}))
        made.load_state_dict(
            {**self.state_dict(), **{f"below.{k}": v for k, v in below.state_dict().items()}}
        )
        return made.eval()

    def constant(self) -> Tensor:
        """Return what is added whatever the state is, float [A] in command units: all of a `constant` residual."""
        under, mine = self.config.below, self._bounded(self.offset)
        if self.below is None or under is None:
            return mine
        return under.share * self.below.constant() + under.own * mine

    def departure(
        self, z: Tensor, s: Tensor, a_base: Tensor, dropped: torch.Generator | None = None
    ) -> Tensor:
        """Return how far the residual is from its own constant part, float [B, H, A] in command units."""
        return self.own(z, s, a_base, dropped) - self._bounded(self.offset)

    def _bounded(self, raw: Tensor) -> Tensor:
        return self.bound * torch.tanh(raw / self.bound)


def compose(base: Tensor, residual: Tensor, lam: float, unit: Tensor | float = 1.0) -> Tensor:
    """Return A_final = A_base + lam * unit * A_residual; the base itself, bit for bit, for lam = 0.

    base: float [..., A] in any unit.  residual: float [..., A] in command units.  unit: size of one command
    unit in the base's unit, [A]: `ActionSpec.half_range` for physical units, half_range / action scale for
    normalised ones.
    """
    if lam == 0:
        return base
    return base + lam * unit * residual
