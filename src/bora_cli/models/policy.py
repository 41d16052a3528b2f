"""The policy that acts: frozen backbone, consistency expert, and (after online rounds) a residual.

It plans in normalised units and answers in physical ones; nothing normalised leaves this package.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bora_cli.errors import SchemaMismatch
from bora_cli.models.consistency import ConsistencyExpert
from bora_cli.models.diffusion import DiffusionExpert
from bora_cli.models.normalize import Normalizer
from bora_cli.models.residual import ResidualActor, compose
from bora_cli.models.vlm import Backbone
from bora_cli.types import F32, ActionSpec, Decision, Observation


@dataclass(frozen=True)
class PolicySpec:
    """What a policy was made for.

    dt: seconds per tick.  execute: ticks of a chunk that are executed before the next decision.
    steps: evaluations of the expert per decision, 1 to 3, or 10 of a diffusion head.  image_size: (height, width)
    of the images, px; 64 each where a checkpoint does not say.
    """

    action: ActionSpec
    state_names: tuple[str, ...]
    cameras: tuple[str, ...]
    dt: float
    horizon: int
    execute: int
    steps: int = 1
    image_size: tuple[int, int] = (64, 64)


class Actor(nn.Module):
    """The trainable part of a policy with its normalisers: tokens and state in, base chunk out."""

    expert: ConsistencyExpert | DiffusionExpert

    def __init__(
        self, expert: ConsistencyExpert | DiffusionExpert, state: Normalizer, action: Normalizer
    ) -> None:
        super().__init__()
        self.expert, self.state, self.action = expert, state, action

    @torch.no_grad()
    def base_chunk(self, z: Tensor, state: Tensor, noise: Tensor, steps: int = 1) -> Tensor:
        """Return base chunks float [B, H, A] in physical units.

        z: float [B, N, W].  state: float [B, S], physical.  noise: float [steps, B, H, A], standard normal.
        """
        chunk = self.expert.sample(z, self.state.normalize(state), noise, steps)
        return self.action.denormalize(chunk)


class VLAPolicy:
    """Plans chunks from observations; deterministic given the generator.

    lam: how much of the residual is added; 0 is the base policy, bit for bit.  own_lam: as it was trained.
    """

    def __init__(
        self,
        spec: PolicySpec,
        backbone: Backbone,
        actor: Actor,
        residual: ResidualActor | None = None,
        lam: float = 0.0,
    ) -> None:
        self.spec = spec
        self.backbone = backbone
        self.actor = actor.eval()
        self.residual = residual.eval() if residual is not None else None
        self.own_lam = self.lam = lam if residual is not None else 0.0
        self.base_hash = backbone.hash
        self._seen: tuple[bytes, str, Tensor] | None = None
        self._unit = torch.from_numpy(spec.action.half_range)

    @property
    def execute(self) -> int:
        return self.spec.execute

    def tokens(self, obs: Observation) -> Tensor:
        """Return float32 [1, N, W], rounded to the half precision in which they are recorded.

        Pictures and instruction that are those of the last call are not looked at again.
        """
        missing = [c for c in self.backbone.cameras if c not in obs.images]
        if missing:
            raise SchemaMismatch(
                f"The observation lacks camera {', '.join(missing)}; it has {', '.join(obs.images) or 'none'}.",
                "Use a profile with the cameras the policy was trained with.",
            )
        images = np.stack([obs.images[c] for c in self.backbone.cameras])[None]
        pixels = images.tobytes()
        if self._seen is None or self._seen[:2] != (pixels, obs.prompt):
            self._seen = (pixels, obs.prompt, self.backbone.encode(images, [obs.prompt]).half().float())
        return self._seen[2]

    @torch.no_grad()
    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        """Plan one chunk; the decision carries tokens, base, residual and final chunk in physical units."""
        z = self.tokens(obs)
        state = torch.from_numpy(np.asarray(obs.state, np.float32))[None]
        noise_seed = int(rng.integers(2**31))
        noise = chunk_noise(noise_seed, self.spec)
        base = self.actor.base_chunk(z, state, noise, self.spec.steps)
        residual = torch.zeros_like(base)
        if self.residual is not None:
            base_n, state_n = self.actor.action.normalize(base), self.actor.state.normalize(state)
            residual = self._unit * self.residual(z, state_n, base_n)
        final = compose(base, residual, self.lam)
        return Decision(
            t_start=0,
            noise_seed=noise_seed,
            base_hash=self.base_hash,
            lam=self.lam,
            planned=self.spec.execute,
            base=_row(base),
            residual=_row(residual),
            final=np.clip(_row(final), self.spec.action.low, self.spec.action.high),
            tokens=z[0].half().numpy(),
        )


def chunk_noise(seed: int, spec: PolicySpec) -> Tensor:
    """Return the noise of one decision, float32 [steps, 1, H, A], standard normal."""
    draws = np.random.default_rng(seed).standard_normal((spec.steps, 1, spec.horizon, spec.action.dim))
    return torch.from_numpy(draws.astype(np.float32))


def _row(batch: Tensor) -> F32:
    row: F32 = batch[0].numpy().astype(np.float32)
    return row
