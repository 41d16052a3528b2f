"""HG-DAgger: clone what a person did where he took over, together with what was cloned before.

A control for the online phase without residual and without critic: the expert itself is trained on, from the offline
policy, on the human segments of all rounds and on the successful demonstrations.  The person is the gate: he alone
decides which states are corrected.

    L = L_BC(h) + w_sample <|f(noise; z, s) - a|^2>          (h, a: half human windows, half earlier ones)

Source: Kelly et al. 2019 (HG-DAgger), algorithm 1; aggregated data, retrained after every round.  We differ: the novice
is fine-tuned rather than trained anew, human windows get a fixed share of every batch (in the union they would be one
in fifty), there is no doubt threshold of an ensemble, and the one-step sample, with which the policy acts, is regressed
beside the cloning loss, as our offline stage does.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bora_cli.algos.batch import Batch, draw
from bora_cli.algos.cp import CPConfig, bc_loss
from bora_cli.algos.targets import masked_mean
from bora_cli.models.consistency import ConsistencyExpert


class HGDaggerConfig(BaseModel):
    """Fine-tuning of the expert on corrections."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    updates: int = Field(default=400, ge=0, description="gradient steps per round")
    batch: int = Field(default=96, gt=0, description="windows per update")
    human_mass: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of human windows in every batch, the rest was cloned before",
    )
    lr: float = Field(default=3e-4, gt=0, description="peak learning rate, cosine decay to zero")
    w_sample: float = Field(default=1.0, ge=0, description="weight of the regression of the one-step sample")


def draw_aggregated(
    rng: np.random.Generator, n_earlier: int, n_human: int, config: HGDaggerConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions among the earlier and among the human windows, the human ones `human_mass` of the batch."""
    human = round(config.batch * config.human_mass)
    none = np.zeros(0, np.int64)
    earlier = draw(rng, n_earlier, config.batch - human) if config.batch > human else none
    return earlier, draw(rng, n_human, human) if human else none


def hg_dagger_loss(
    expert: ConsistencyExpert,
    teacher: ConsistencyExpert,
    batch: Batch,
    *,
    config: HGDaggerConfig,
    cp: CPConfig,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of one batch; gradient reaches the expert only.

    teacher: averaged copy of the expert, for the consistency term.
    """
    cloned, info = bc_loss(expert, teacher, batch, cp, generator=generator)
    if config.w_sample == 0:
        return cloned, info
    noise = torch.randn((1, *batch.a.shape), generator=generator, dtype=batch.a.dtype)
    sample = expert.sample(batch.z, batch.s, noise, 1)
    regressed = masked_mean(((sample - batch.a) ** 2).mean(-1), batch.mask)
    return cloned + config.w_sample * regressed, {**info, "sample": float(regressed.detach())}
