"""What came of rounds: how much a person did in them, and why the policy is still the one that they began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.evaluate.metrics import human_share, takeovers
from bora_cli.types import Episode


def human_part(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return how much a person did in these episodes."""
    controllers = [e.controller for e in episodes]
    return {
        "episodes": len(episodes),
        "ticks": sum(len(e) for e in episodes),
        "human_ticks": sum(int(e.intervened.sum()) for e in episodes),
        "takeovers": sum(takeovers(c) for c in controllers),
        "human_share": human_share(controllers),
        "successes": sum(e.success for e in episodes),
        "unaided_successes": sum(e.success and not e.intervened.any() for e in episodes),
    }


def unchanged_because(rounds: Sequence[Mapping[str, Any]], method: str, preset: str = "sim") -> str:
    """Say why the policy is still the one that a run began with, "" if a round has changed it.

    rounds: the finished ones, with `takeovers`, `release_n`, `base_k`, `residual_k` and `released`.
    """
    if not rounds or any(done["released"] for done in rounds):
        return ""
    last = rounds[-1]
    if last["release_n"]:
        return (
            f"nothing released: with the last correction {last['residual_k']} of {last['release_n']} episodes"
            f" succeeded, without it {last['base_k']}; the policy is unchanged"
        )
    chosen = OnlineConfig.preset(cast('Literal["sim", "paper"]', preset))
    needed = chosen.min_takeovers if method == "bora" else 1
    met = sum(done["takeovers"] for done in rounds)
    seen = f"{met} takeover{'' if met == 1 else 's'}"
    if met >= needed:
        return f"nothing learned from {seen}; the policy is unchanged"
    return (
        f"nothing learned: {seen}, {needed} {'is' if needed == 1 else 'are'} needed; the policy is unchanged"
    )
