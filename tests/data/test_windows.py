"""Windows: one controller each, no bridged gap, and a mask that ends with the executed ticks."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from episode_factory import A, B, D, H, P, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.data.windows import RewardView, Windows, build_windows, discounted_returns
from bora_cli.errors import ConfigError, DataError
from bora_cli.types import Episode

STEP = -0.01
TWELVE = [P] * 5 + [H] * 4 + [P] * 3


def twelve() -> Episode:
    """Return the 12-tick example: a person drives ticks 5 to 8, success at tick 11."""
    return make_episode(TWELVE, reward=[STEP] * 11 + [STEP + 1])


def spans(windows: Windows) -> list[tuple[int, int, int]]:
    return list(zip(windows.t.tolist(), windows.e.tolist(), windows.controller.tolist(), strict=True))


runs = st.lists(st.tuples(st.sampled_from([P, H, B, A, D]), st.integers(1, 6)), min_size=1, max_size=6)


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    who = [c for c, n in draw(runs) for _ in range(n)]
    gaps = draw(st.lists(st.integers(1, len(who) - 1), max_size=2)) if len(who) > 1 else []
    rewards = draw(st.lists(st.floats(-1, 1), min_size=len(who), max_size=len(who)))
    return make_episode(who, reward=rewards, truncated=draw(st.booleans()), meta={"gaps": gaps})


def test_the_twelve_tick_example() -> None:
    windows = build_windows([twelve()], horizon=4, stride=4)
    assert spans(windows) == [(0, 4, P), (4, 1, P), (5, 4, H), (9, 3, P)]
    assert windows.t_next.tolist()[:3] == [4, 5, 9]
    assert windows.has_next.tolist() == [True, True, True, False]
    assert windows.mask.tolist() == [[1] * 4, [1, 0, 0, 0], [1] * 4, [1, 1, 1, 0]]
    assert windows.terminated.tolist() == [[0] * 4, [0] * 4, [0] * 4, [0, 0, 1, 0]]
    assert windows.reward[3] == pytest.approx([STEP, STEP, STEP + 1, 0])
    assert windows.success.all()
    assert not windows.demo.any()


def test_sliding_windows_start_at_every_tick_of_a_segment() -> None:
    windows = build_windows([make_episode([D] * 5)], horizon=3, stride=1)
    assert spans(windows) == [(0, 3, D), (1, 3, D), (2, 3, D), (3, 2, D), (4, 1, D)]
    assert windows.demo.all()
    assert windows.has_next.tolist() == [True, True, False, False, False]


def test_the_last_tick_of_a_truncated_episode_is_only_a_successor() -> None:
    windows = build_windows([make_episode(5, truncated=True)], horizon=3, stride=2)
    assert spans(windows) == [(0, 3, P), (2, 2, P)]
    assert windows.t_next.tolist() == [3, 4]
    assert windows.has_next.all()
    assert not windows.terminated.any()


def test_a_truncated_single_tick_gives_no_window() -> None:
    windows = build_windows([make_episode(1, truncated=True)], horizon=3)
    assert len(windows) == 0
    assert windows.action.shape == (0, 3, 3)


def test_blended_ticks_stay_alone() -> None:
    windows = build_windows([make_episode([P, P, B, B, H, H, H, B, P, P])], horizon=4, stride=4)
    assert spans(windows) == [(0, 2, P), (2, 2, B), (4, 3, H), (7, 1, B), (8, 2, P)]


def test_a_gap_is_not_bridged() -> None:
    windows = build_windows([make_episode(8, meta={"gaps": [3]})], horizon=8, stride=8)
    assert spans(windows) == [(0, 2, P), (3, 5, P)]
    assert windows.t_next[0] == 2, "the last tick before the gap is the successor, not the tick after it"
    with pytest.raises(DataError, match=r"meta\['gaps'\] is \[9\]; expected ticks from 1 to 7"):
        build_windows([make_episode(8, meta={"gaps": [9]})], horizon=8)


def test_padding_repeats_the_last_executed_action() -> None:
    episode = make_episode(3)
    windows = build_windows([episode], horizon=5, stride=5)
    assert windows.action[0].tolist() == episode.action[[0, 1, 2, 2, 2]].tolist()


def test_relabelled_rewards_and_terminals_replace_the_recorded_ones() -> None:
    episode = make_episode(6, reward=[0, 0, 0, 0, 0, 1])
    before = episode.reward.tobytes()

    def cut_after_two(e: Episode) -> RewardView:
        terminated = e.terminated.copy()
        terminated[2] = True
        return RewardView(e.reward - 1, terminated)

    windows = build_windows([episode], horizon=4, stride=2, relabel=cut_after_two, gamma=0.5)
    assert spans(windows) == [(0, 3, P), (2, 1, P), (4, 2, P)]
    assert windows.has_next.tolist() == [False, False, False]
    assert windows.reward[0].tolist() == [-1, -1, -1, 0]
    assert windows.mc_return[0].tolist() == [-1.75, -1.5, -1.0, 0]
    assert episode.reward.tobytes() == before


def test_returns_discount_per_tick() -> None:
    returns = discounted_returns(np.array([0, 0, 1], np.float32), np.array([False, False, True]), 0.9)
    assert returns == pytest.approx([0.81, 0.9, 1.0])


def test_several_episodes_keep_their_number() -> None:
    windows = build_windows([make_episode(2), make_episode(3, success=False)], horizon=4, stride=4)
    assert windows.episode.tolist() == [0, 1]
    assert windows.success.tolist() == [True, False]
    assert windows.take(windows.success).episode.tolist() == [0]
    assert windows.take(np.array([1, 0])).episode.tolist() == [1, 0]


@settings(max_examples=150, deadline=None)
@given(
    made=st.lists(episodes(), min_size=1, max_size=3),
    horizon=st.integers(1, 8),
    stride=st.integers(1, 5),
)
def test_laws_of_windows(made: list[Episode], horizon: int, stride: int) -> None:
    windows = build_windows(made, horizon=horizon, stride=stride, gamma=0.9)
    n = len(windows)
    for field in fields(Windows):
        assert len(getattr(windows, field.name)) == n
    assert windows.action.dtype == windows.mask.dtype == windows.reward.dtype == np.float32
    assert windows.t.dtype == windows.e.dtype == windows.t_next.dtype == windows.episode.dtype == np.int32
    for i in range(n):
        episode = made[windows.episode[i]]
        t, e = int(windows.t[i]), int(windows.e[i])
        assert 1 <= e <= horizon
        assert windows.mask[i].tolist() == [1] * e + [0] * (horizon - e)
        assert set(episode.controller[t : t + e]) == {windows.controller[i]}
        inside = set(range(t + 1, t + e + windows.has_next[i]))
        assert not inside & set(episode.meta["gaps"]), "a gap between the window's ticks and its successor"
        ended = bool(episode.terminated[t : t + e].any())
        assert windows.has_next[i] == (not ended)
        assert not episode.truncated[t : t + e].any()
        assert 0 <= windows.t_next[i] < len(episode)
        if windows.has_next[i]:
            assert windows.t_next[i] == t + e
        padded = [*range(t, t + e), *[t + e - 1] * (horizon - e)]
        assert windows.action[i].tobytes() == episode.action[padded].tobytes()
        assert windows.reward[i, :e].tobytes() == episode.reward[t : t + e].tobytes()
        assert not windows.reward[i, e:].any()
        returns = [sum(0.9**k * float(r) for k, r in enumerate(episode.reward[t + j :])) for j in range(e)]
        assert windows.mc_return[i, :e] == pytest.approx(returns, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(episode=episodes(), horizon=st.integers(1, 8), terminal=st.integers(0, 2**36 - 1))
def test_m4_masks_end_with_the_first_terminal_tick(episode: Episode, horizon: int, terminal: int) -> None:
    """Wherever terminals are: a mask is a prefix of ones, of the length that a loop over the ticks counts."""
    ended = np.array([terminal >> k & 1 for k in range(len(episode))], np.bool_)
    windows = build_windows(
        [episode], horizon=horizon, relabel=lambda e: RewardView(e.reward, e.terminated | ended)
    )
    lost = {g - 1 for g in episode.meta["gaps"]} | ({len(episode) - 1} if episode.truncated[-1] else set())
    for i, t in enumerate(windows.t.tolist()):
        seen = 0
        for k in range(t, min(t + horizon, len(episode))):
            if k in lost or episode.controller[k] != episode.controller[t]:
                break
            seen += 1
            if ended[k] or episode.terminated[k]:
                break
        assert windows.mask[i].tolist() == [1] * seen + [0] * (horizon - seen)
        assert windows.terminated[i].sum() == (not windows.has_next[i])


@settings(max_examples=60, deadline=None)
@given(episode=episodes(), horizon=st.integers(1, 8))
def test_sliding_windows_cover_every_tick_that_has_a_successor_or_ends(
    episode: Episode, horizon: int
) -> None:
    windows = build_windows([episode], horizon=horizon)
    lost = {g - 1 for g in episode.meta["gaps"]} | ({len(episode) - 1} if episode.truncated[-1] else set())
    assert sorted(windows.t.tolist()) == [t for t in range(len(episode)) if t not in lost]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="Horizon 0 and stride 1; expected both to be at least 1"):
        build_windows([make_episode()], horizon=0)
    with pytest.raises(ConfigError, match=r"gamma is 1\.5; expected 0 to 1"):
        build_windows([make_episode()], horizon=1, gamma=1.5)
    with pytest.raises(DataError, match="no episodes to cut windows from"):
        build_windows([], horizon=1)
