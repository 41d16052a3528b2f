"""A run of rounds says why a policy is still the one that the run began with."""

from __future__ import annotations

from typing import Any

import pytest

from bora_cli.train.outcome import unchanged_because


def done(takeovers: int, release_n: int = 0, released: bool = False) -> dict[str, Any]:
    return {
        "takeovers": takeovers,
        "base_k": 9,
        "residual_k": 7,
        "release_n": release_n,
        "released": released,
    }


@pytest.mark.parametrize(
    ("rounds", "method", "preset", "says"),
    [
        (
            [done(1), done(1)],
            "bora",
            "sim",
            "nothing learned: 2 takeovers, 4 are needed; the policy is unchanged",
        ),
        ([done(0)], "bora", "paper", "nothing learned: 0 takeovers, 1 is needed; the policy is unchanged"),
        ([done(0)], "hg_dagger", "sim", "nothing learned: 0 takeovers, 1 is needed; the policy is unchanged"),
        (
            [done(5, 20)],
            "bora",
            "sim",
            "nothing released: with the last correction 7 of 20 episodes succeeded, without it 9;"
            " the policy is unchanged",
        ),
        ([done(2), done(5, 20, True)], "bora", "sim", ""),
        ([done(5, 20, True), done(1, 20)], "bora", "sim", ""),
        ([done(1, released=True)], "bc_interventions", "sim", ""),
        ([], "bora", "sim", ""),
    ],
)
def test_an_unchanged_policy_is_explained(
    rounds: list[dict[str, Any]], method: str, preset: str, says: str
) -> None:
    assert unchanged_because(rounds, method, preset) == says
