"""Demonstrations of any quality: shares, strengths, and what is refused."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import ConfigError
from bora_cli.seeds import stream
from bora_cli.sim.mistakes import MISTAKES, UNSTEADY, draw_style, parse_mistakes, style_of_quality
from bora_cli.sim.operator import EXPERT, SimulatedOperator, mixed_style
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.styles import MIXTURES
from bora_cli.sim.tasks import TASKS

QUALITY = "early_release=0.3,wrong_height@1.5=0.2,jitter@2=0.1"


def test_expert_and_mixed_are_what_they_were() -> None:
    assert style_of_quality("expert", stream("style", 0), "pick_toy") == EXPERT
    for i in range(20):
        mixed = style_of_quality("mixed", stream("style", i), "open_box")
        assert mixed == mixed_style(stream("style", i), "open_box")


@pytest.mark.parametrize("task", TASKS)
def test_shares_are_reproduced(task: str) -> None:
    styles = [style_of_quality(QUALITY, stream("style", i), task) for i in range(600)]
    found = Counter("jitter" if s.noise == 2 * UNSTEADY else s.mistake for s in styles)
    for name, share in (("early", 0.3), ("high", 0.2), ("jitter", 0.1), (None, 0.4)):
        assert abs(found[name] / 600 - share) < 0.06


@given(st.sampled_from(["off_centre", "wrong_height", "hesitation"]), st.floats(0.0, 4.0))
def test_strength_is_a_factor_on_the_size(name: str, strength: float) -> None:
    mistakes = parse_mistakes(f"{name}@{strength!r}=1", "pick_toy")
    style = draw_style(mistakes, stream("style", 3), "pick_toy")
    low, high = MIXTURES["pick_toy"].sizes[MISTAKES[name] or ""]
    assert strength * low - 1e-9 <= style.mistake_size <= strength * high + 1e-9


def test_a_graver_early_release_comes_sooner() -> None:
    usual, grave = (
        style_of_quality(f"early_release{s}=1", stream("style", 0), "pick_toy").mistake_size
        for s in ("", "@2")
    )
    assert grave == pytest.approx(usual / 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("perfect", r"'perfect' is no quality of demonstrations of press_button"),
        ("early_closing=0.5", r"shares of off_centre, wrong_height, early_release, hesitation, jitter"),
        ("jitter", r"'' in 'jitter' is not a number from 0 to 1"),
        ("jitter=1.5", r"'1.5' in 'jitter=1.5' is not a number from 0 to 1"),
        ("jitter@nan=0.5", r"'nan' in 'jitter@nan=0.5' is not a number from 0 to 4"),
        ("jitter=0.5,jitter=0.1", r"'jitter' is given twice"),
        ("jitter=0.7,off_centre=0.7", r"add up to 1.4; expected at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_mistakes(text, "press_button")
    assert re.search(message, f"{error.value.message} {error.value.hint}")


def successes(quality: str) -> int:
    count = 0
    for seed in range(631_000, 631_008):
        sim = Simulation("press_button")
        sim.prepare(seed)
        style = style_of_quality(quality, stream("operator style", seed), "press_button")
        operator = SimulatedOperator(style, stream("operator", seed))
        operator.begin(sim)
        while True:
            action, stops = operator.act(sim)
            result = sim.step(action)
            if result.terminated or result.truncated or stops:
                break
        count += result.success
    return count


def test_more_mistakes_mean_fewer_successes() -> None:
    ordered = [successes(f"early_release={share}") for share in (0, 0.5, 1)]
    assert ordered[0] == 8
    assert ordered[0] > ordered[1] > ordered[2]
