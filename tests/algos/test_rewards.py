"""Intervention rewards: a view with the penalty on the policy and the bonus on the rescue."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.algos.rewards import InterventionRewards, recovered, relabel, takeovers
from bora_cli.data.windows import build_windows
from bora_cli.errors import ConfigError, SchemaMismatch
from bora_cli.types import Controller, Episode

P, H, B = Controller.POLICY, Controller.HUMAN, Controller.BLENDED
DEFAULT = InterventionRewards()
STEP = -0.01


def episode(controller: list[int], success: bool = True) -> Episode:
    ticks = len(controller)
    reward = np.full(ticks, STEP, np.float32)
    reward[-1] += success
    last = np.arange(ticks) == ticks - 1
    zeros = np.zeros((ticks, 2), np.float32)
    return Episode(
        images={},
        state=zeros,
        action=zeros,
        proposed=zeros,
        human=zeros,
        controller=np.array(controller, np.uint8),
        phase=np.zeros(ticks, np.uint8),
        reward=reward,
        terminated=last & success,
        truncated=last & (not success),
        success=success,
        prompt="pick up the toy",
    )


def change(
    controller: list[int], success: bool = True, config: InterventionRewards = DEFAULT
) -> dict[int, float]:
    """Return what relabelling adds, by tick."""
    made = episode(controller, success)
    diff = config(made).reward - made.reward
    return {int(t): round(float(diff[t]), 6) for t in np.flatnonzero(np.abs(diff) > 1e-6)}


def test_the_twelve_tick_example() -> None:
    found = DEFAULT(episode([P] * 5 + [H] * 4 + [P] * 3)).reward
    expected = [STEP] * 4 + [-0.51] + [STEP] * 3 + [0.24] + [STEP] * 2 + [0.99]
    assert found == pytest.approx(expected, abs=1e-6)
    assert found.sum() == pytest.approx(0.63, abs=1e-6)


def test_a_takeover_at_the_first_tick_blames_nobody() -> None:
    assert change([H] * 3 + [P] * 9) == {2: 0.25}
    assert change([H] * 12) == {11: 0.25}
    assert change([H] * 12, success=False) == {}
    assert change([H] * 3 + [P] * 9, config=InterventionRewards(site="onset")) == {2: 0.25}


def test_a_second_takeover_soon_after_means_not_recovered() -> None:
    soon = [P] * 3 + [H] * 2 + [P] * 4 + [H] * 2 + [P] * 9
    assert change(soon) == {2: -0.5, 8: -0.5, 10: 0.25}


def test_two_takeovers_cost_two_penalties_and_may_both_recover() -> None:
    late = [P] * 3 + [H] * 2 + [P] * 8 + [H] * 2 + [P] * 8
    assert change(late, success=False) == {2: -0.5, 4: 0.25, 12: -0.5, 14: 0.25}


def test_success_soon_after_release_counts_as_recovered() -> None:
    assert change([P] * 3 + [H] * 2 + [P]) == {2: -0.5, 4: 0.25}
    assert change([P] * 3 + [H] * 2 + [P], success=False) == {2: -0.5}


def test_blended_ticks_belong_to_the_takeover() -> None:
    assert change([P] * 3 + [B, B, H, H, B] + [P] * 9) == {2: -0.5, 7: 0.25}


def test_the_listed_site_is_the_first_tick_of_the_takeover() -> None:
    assert change([P] * 3 + [B, H, H] + [P] * 9, config=InterventionRewards(site="onset")) == {
        3: -0.5,
        5: 0.25,
    }


def test_a_spread_penalty_keeps_its_sum_and_stops_at_the_last_takeover() -> None:
    spread = InterventionRewards(penalty=-0.7, spread=3, bonus=0.0)
    assert change([P] * 5 + [H] * 2 + [P] * 9, config=spread) == {2: -0.1, 3: -0.2, 4: -0.4}
    assert change([H, P, H] + [P] * 9, config=spread) == {1: -0.7}


flags = st.lists(st.booleans(), min_size=1, max_size=60).map(lambda x: np.array(x, np.bool_))
configs = st.builds(
    InterventionRewards,
    penalty=st.floats(-2, -0.5),
    bonus=st.floats(0, 0.4),
    site=st.sampled_from(["pre", "onset"]),
    spread=st.integers(1, 5),
    recovery_ticks=st.integers(1, 10),
)


@given(intervened=flags, success=st.booleans(), config=configs)
def test_the_sum_grows_by_penalties_and_bonuses(
    intervened: np.ndarray, success: bool, config: InterventionRewards
) -> None:
    raw = np.random.default_rng(0).normal(size=len(intervened)).astype(np.float32)
    starts, _ = takeovers(intervened)
    bonuses = int(recovered(intervened, success, config.recovery_ticks).sum())
    added = (relabel(raw, intervened, success, config) - raw).sum()
    expected = int((starts > 0).sum()) * config.penalty + bonuses * config.bonus
    assert added == pytest.approx(expected, abs=1e-4)


@given(intervened=flags, success=st.booleans(), config=configs)
def test_only_policy_ticks_are_punished_before_a_takeover(
    intervened: np.ndarray, success: bool, config: InterventionRewards
) -> None:
    raw = np.zeros(len(intervened), np.float32)
    found = relabel(raw, intervened, success, config)
    if config.site == "pre":
        assert (found[intervened] >= 0).all()
        assert (found[~intervened] <= 0).all()


@given(intervened=flags)
def test_takeovers_are_the_runs_of_intervened_ticks(intervened: np.ndarray) -> None:
    starts, ends = takeovers(intervened)
    rebuilt = np.zeros_like(intervened)
    for start, end in zip(starts, ends, strict=True):
        assert start <= end
        rebuilt[start : end + 1] = True
    assert (rebuilt == intervened).all()
    assert (starts[1:] > ends[:-1] + 1).all()


@given(delay=st.integers(0, 500), gamma=st.floats(0, 1))
def test_being_rescued_never_pays(delay: int, gamma: float) -> None:
    assert DEFAULT.penalty + gamma**delay * DEFAULT.bonus < 0


def test_a_config_in_which_rescue_pays_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"penalty -0\.2 and recovery bonus 0\.3 sum to 0\.1; expected"):
        InterventionRewards(penalty=-0.2, bonus=0.3)
    with pytest.raises(ConfigError, match="sum to 0; expected"):
        InterventionRewards(penalty=0.0, bonus=0.0)
    with pytest.raises(ConfigError, match=r"penalty 0\.1"):
        InterventionRewards(penalty=0.1, bonus=0.0)


def test_other_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="spread is 0 and recovery_ticks 8; expected at least 1"):
        InterventionRewards(spread=0)
    with pytest.raises(
        ConfigError, match="site 'before' and bootstrap 'continue'; expected site 'pre' or 'onset'"
    ):
        InterventionRewards(site="before")  # type: ignore[arg-type]


def test_the_recorded_episode_stays_as_it_was() -> None:
    made = episode([P] * 5 + [H] * 4 + [P] * 3)
    arrays = ("reward", "terminated", "controller", "action")
    before = [hashlib.sha256(getattr(made, name).tobytes()).hexdigest() for name in arrays]
    view = InterventionRewards(bootstrap="cut")(made)
    view.reward[:] = 7
    view.terminated[:] = True
    assert before == [hashlib.sha256(getattr(made, name).tobytes()).hexdigest() for name in arrays]


def test_cut_makes_the_tick_before_a_takeover_terminal() -> None:
    made = episode([P] * 5 + [H] * 4 + [P] * 3)
    windows = build_windows(
        [made], horizon=4, stride=4, relabel=InterventionRewards(bootstrap="cut"), gamma=1.0
    )
    assert windows.t.tolist() == [0, 4, 5, 9]
    assert windows.has_next.tolist() == [True, False, True, False]
    assert windows.mc_return[0] == pytest.approx([-0.55, -0.54, -0.53, -0.52], abs=1e-6)
    joined = build_windows([made], horizon=4, stride=4, relabel=DEFAULT, gamma=1.0)
    assert joined.has_next.tolist() == [True, True, True, False]
    assert joined.mc_return[0, 0] == pytest.approx(0.63, abs=1e-6)


def test_the_hash_follows_the_settings() -> None:
    assert DEFAULT.hash == InterventionRewards().hash
    assert DEFAULT.hash != InterventionRewards(penalty=-0.6).hash


def test_lengths_must_agree() -> None:
    with pytest.raises(SchemaMismatch, match="3 rewards for 4 intervention flags"):
        relabel(np.zeros(3, np.float32), np.zeros(4, np.bool_), True, DEFAULT)


def test_slow_help_need_not_look_bad() -> None:
    controller = [P] * 5 + [H] * 4 + [P] * 3
    free = InterventionRewards(free_help=True)
    assert change(controller, config=free) == {4: -0.5, 5: 0.01, 6: 0.01, 7: 0.01, 8: 0.26}
    rescued = episode([P] * 3 + [H] * 3)
    assert free(rescued).reward[-1] == pytest.approx(0.99 + 0.25)  # success is no cost
    assert InterventionRewards().hash == InterventionRewards(free_help=False).hash != free.hash
