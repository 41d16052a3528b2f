"""HG-DAgger: what a person did is cloned where he did it, and what was cloned before stays."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from bora_cli.algos.batch import Batch, concat
from bora_cli.algos.cp import CPConfig, bc_loss
from bora_cli.algos.hg_dagger import HGDaggerConfig, draw_aggregated, hg_dagger_loss
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.nn import Sizes, polyak_update

SIZES = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=2, horizon=3)


def expert() -> ConsistencyExpert:
    torch.manual_seed(0)
    return ConsistencyExpert(ConsistencyConfig(sizes=SIZES, width=64))


def at(side: float, action: float, n: int, seed: int = 0) -> Batch:
    """Return windows of states on one side of the world, all with one action."""
    g = torch.Generator().manual_seed(seed)
    z, s = torch.randn(n, 1, 4, generator=g), torch.randn(n, 2, generator=g)
    s[:, 0] = side
    ones, zeros = torch.ones(n, 3), torch.zeros(n, 3)
    a = torch.full((n, 3, 2), action)
    return Batch(z, s, a, ones, zeros, zeros, z, s, torch.ones(n, dtype=torch.bool))


def test_human_windows_have_their_share_of_every_batch() -> None:
    rng = np.random.default_rng(0)
    for mass, human in ((0.5, 48), (0.0, 0), (1.0, 96), (0.3, 29)):
        old, new = draw_aggregated(rng, 1000, 7, HGDaggerConfig(human_mass=mass))
        assert (len(old), len(new)) == (96 - human, human)
        assert new.max(initial=0) < 7
    assert len(draw_aggregated(rng, 5, 0, HGDaggerConfig(human_mass=0.0))[0]) == 96  # nobody corrected


def test_corrections_are_learned_where_they_were_made_and_the_rest_stays() -> None:
    """Before, everything was -0.4; a person says 0.5 on the right.  The left stays."""
    config, cp = HGDaggerConfig(updates=300, lr=3e-3, batch=64), CPConfig(token_noise=0.0)
    student = expert()
    teacher = deepcopy(student)
    optimizer = torch.optim.AdamW(student.parameters(), config.lr, fused=True)
    g = torch.Generator().manual_seed(0)
    for update in range(config.updates):
        batch = concat(at(-1.0, -0.4, 32, 2 * update), at(1.0, 0.5, 32, 2 * update + 1))
        loss, info = hg_dagger_loss(student, teacher, batch, config=config, cp=cp, generator=g)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        polyak_update(teacher, student, 0.02)
    assert set(info) == {"dsm", "ct", "sample"}

    def acts(side: float) -> Tensor:
        batch = at(side, 0.0, 64, 9999)
        with torch.no_grad():
            return teacher.sample(batch.z, batch.s, torch.randn(1, 64, 3, 2, generator=g), 1).mean((0, 1))

    torch.testing.assert_close(acts(1.0), torch.full((2,), 0.5), atol=0.06, rtol=0)
    torch.testing.assert_close(acts(-1.0), torch.full((2,), -0.4), atol=0.06, rtol=0)


def test_without_its_own_term_it_is_cloning() -> None:
    batch, config = at(1.0, 0.5, 8), HGDaggerConfig(w_sample=0.0)
    student = expert()
    pair = [torch.Generator().manual_seed(1) for _ in range(2)]
    loss, _ = hg_dagger_loss(student, student, batch, config=config, cp=CPConfig(), generator=pair[0])
    plain, _ = bc_loss(student, student, batch, CPConfig(), generator=pair[1])
    assert torch.equal(loss, plain)


def test_ticks_that_do_not_count_change_nothing() -> None:
    student, config = expert(), HGDaggerConfig()
    batch = at(1.0, 0.5, 8)
    batch.mask[:, 2] = 0.0
    losses = []
    for beyond in (0.5, 50.0):
        batch.a[:, 2] = beyond
        g = torch.Generator().manual_seed(3)
        _, info = hg_dagger_loss(student, student, batch, config=config, cp=CPConfig(w_ct=0.0), generator=g)
        losses.append(info["sample"])
    assert losses[0] == losses[1]
