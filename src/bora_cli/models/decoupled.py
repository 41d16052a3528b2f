"""The decoupled critic: pixels of its own, one number per chunk, nothing of the vision-language model.

It stands for the critics of real-robot reinforcement learning that are trained beside the policy: an image encoder,
the robot's state and the whole chunk in, one value out.  It knows no instruction and no tick within the chunk.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from bora_cli.models.nn import MemberLinear
from bora_cli.models.tower import KeypointVisionConfig, KeypointVisionModel


class DecoupledConfig(BaseModel):
    """Sizes of the decoupled critic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cameras: int = Field(gt=0, description="images per observation C")
    state_dim: int = Field(gt=0, description="proprioception S")
    action_dim: int = Field(gt=0, description="action A")
    horizon: int = Field(gt=0, description="ticks H of a chunk")
    sees: Literal["action", "nothing"] = Field(
        default="action",
        description="action = Q(image, state, chunk) and V; nothing = V alone, blind to actions",
    )
    ensemble: int = Field(default=2, gt=0, description="independent Q networks K behind one encoder")
    width: int = Field(default=128, gt=0, description="hidden width, and width of an image's features")


class DecoupledCritic(nn.Module):
    """Q(image, state, chunk) [K, B] and V(image, state) [B].

    pixels: uint8 [B, C, h, w, 3].  s: float [B, S] and a: float [B, H, A], normalised.
    The encoder is the architecture of the tiny backbone's tower, shared by the cameras and trained from scratch by
    the critic's loss.  Where the critic sees nothing of the action, Q is V.
    """

    def __init__(self, config: DecoupledConfig) -> None:
        super().__init__()
        self.config = config
        width, seen = config.width, config.cameras * config.width + config.state_dim
        tower = KeypointVisionConfig(image_tokens=1, hidden_size=width, conv_strides=(2, 2, 2, 1))
        self.tower = KeypointVisionModel(tower)
        self.v_net = _Heads(1, seen, width)
        self.q_net: _Heads | None = None
        if config.sees == "action":
            self.q_net = _Heads(config.ensemble, seen + config.horizon * config.action_dim, width)

    def embed(self, pixels: Tensor, s: Tensor) -> Tensor:
        """Return what both heads see of an observation, float [B, C * width + S]."""
        x = pixels.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
        features = self.tower(x).last_hidden_state.view(len(pixels), -1)
        return torch.cat([nn.functional.layer_norm(features, features.shape[-1:]), s], dim=-1)

    def q_embedded(self, seen: Tensor, a: Tensor) -> Tensor:
        """Return the values of chunks, float [K, B]; seen = embed(pixels, s)."""
        if self.q_net is None:
            return self.v_embedded(seen)[None]
        values: Tensor = self.q_net(torch.cat([seen, a.flatten(1)], dim=-1))
        return values

    def v_embedded(self, seen: Tensor) -> Tensor:
        """Return the values of states, float [B]; seen = embed(pixels, s)."""
        values: Tensor = self.v_net(seen)
        return values[0]

    def q(self, pixels: Tensor, s: Tensor, a: Tensor) -> Tensor:
        """Return the values of chunks, float [K, B]."""
        return self.q_embedded(self.embed(pixels, s), a)

    def v(self, pixels: Tensor, s: Tensor) -> Tensor:
        """Return the values of states, float [B]."""
        return self.v_embedded(self.embed(pixels, s))


class _Heads(nn.Module):
    """K independent networks with two hidden layers: float [B, inputs] -> [K, B]."""

    def __init__(self, members: int, inputs: int, width: int) -> None:
        super().__init__()
        self.members = members
        self.first = MemberLinear(members, inputs, width)
        self.second = MemberLinear(members, width, width)
        self.last = MemberLinear(members, width, 1, gain=0.01)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.first(x.expand(self.members, -1, -1))).relu()
        out: Tensor = self.last(self.norm(self.second(hidden)).relu())
        return out.squeeze(-1)
