"""Why the policy of a run of rounds is still the one that it began with, in a sentence for whoever has to decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from bora_cli.algos.bora_online import OnlineConfig


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
