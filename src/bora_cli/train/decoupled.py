"""Training of the decoupled critic: images instead of tokens, everything else as in `phases`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bora_cli.algos.batch import draw
from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.decoupled import PixelBatch, decoupled_advantages, decoupled_loss
from bora_cli.algos.schedules import cosine
from bora_cli.data.dataset import Dataset
from bora_cli.models.decoupled import DecoupledConfig, DecoupledCritic
from bora_cli.models.nn import polyak_update
from bora_cli.train.buffer import Sampler
from bora_cli.train.run import Phase, Run
from bora_cli.train.steps import adamw, set_rate
from bora_cli.train.tokens import augment
from bora_cli.types import U8

JUDGED_AT_ONCE = 256


def load_pixels(paths: Sequence[Path], cameras: Sequence[str]) -> U8:
    """Return the images of all ticks of some datasets, uint8 [M, C, h, w, 3]; 24 kB a tick for two of 64 px."""
    episodes = (e for p in paths for e in Dataset.open(p).episodes())
    return np.concatenate([np.stack([e.images[c] for c in cameras], axis=1) for e in episodes])


class PixelSampler:
    """Draws the windows that a `Sampler` draws, with images in the place of tokens."""

    def __init__(self, sampler: Sampler, pixels: U8) -> None:
        self.sampler, self.pixels = sampler, pixels

    def rows(self, index: NDArray[np.int64], rng: np.random.Generator | None = None) -> PixelBatch:
        """Return the windows at `index` [b]; with `rng`, images are shifted and re-lit as those of tokens are."""
        at, source = torch.from_numpy(index), self.sampler
        start, following = source.start[at], source.following[at]
        columns: dict[str, Any] = {k: source.columns[k][at] for k in ("mask", "r", "d", "has_next")}
        return PixelBatch(
            pixels=self._images(start, rng),
            s=source.state[start],
            a=source.action[at],
            pixels_next=self._images(following, rng),
            s_next=source.state[following],
            **columns,
        )

    def _images(self, rows: Tensor, rng: np.random.Generator | None) -> Tensor:
        images = self.pixels[rows.numpy()]
        return torch.from_numpy(images if rng is None else augment(images, rng))


def fit_decoupled(
    run: Run, pixels: U8, sees: Literal["action", "nothing"], config: OfflineConfig
) -> tuple[DecoupledCritic, Tensor]:
    """Return the critic with its averaged weights, and the advantages of every window, float [n, H].

    pixels: uint8 [M, C, h, w, 3].  Optimiser and number of updates are those of BORA's critic.  The critic judges the
    episodes it was fitted to, as the published baseline does; BORA's default advantages are cross-fitted.
    """
    sizes = run.sizes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        critic = DecoupledCritic(
            DecoupledConfig(
                cameras=pixels.shape[1],
                state_dim=sizes.state_dim,
                action_dim=sizes.action_dim,
                horizon=sizes.horizon,
                sees=sees,
            )
        )
    target = deepcopy(critic)
    sampler = PixelSampler(run.sampler, pixels)
    optimizer = adamw(critic, config.critic_lr, 1e-4)
    rng, n = run.rng("decoupled critic"), len(run.sampler)
    modules = {"critic": critic, "target": target}
    phase = Phase(run, "decoupled critic", config.critic_updates, modules, optimizer, rng)
    for update in phase:
        set_rate(optimizer, cosine(update, config.critic_lr, config.critic_updates, floor=0.1))
        with phase.loading():
            batch = sampler.rows(draw(rng, n, config.critic_batch), rng)
        loss, info = decoupled_loss(critic, target, batch, config)
        phase.step(loss, critic, 1.0)
        polyak_update(target, critic, config.polyak)
        phase.report(info)
    target.eval()
    parts = np.split(np.arange(n), range(JUDGED_AT_ONCE, n, JUDGED_AT_ONCE))
    return target, torch.cat([decoupled_advantages(target, sampler.rows(p), config.gamma) for p in parts])
