"""Buffers: every window sees the tokens, the advantage and the reward of its own ticks."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bora_cli.control.loop import demonstrate
from bora_cli.data.dataset import Dataset
from bora_cli.data.schema import CLOCKS
from bora_cli.data.windows import RewardView
from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.models.normalize import Normalizer
from bora_cli.models.vlm import Backbone
from bora_cli.sim.limits import STATE_NAMES, action_spec
from bora_cli.train import tokens as token_cache
from bora_cli.train.buffer import Buffer, Sampler, load_buffer
from bora_cli.train.tokens import GAIN, SHIFT_PX, augment, dataset_tokens, draw_views, encode, show
from bora_cli.types import Episode
from toy_world import ToyOperator, ToyRig, toy_dataset, toy_demonstrations

HORIZON = 8


@pytest.fixture(scope="module")
def backbone(toy_backbone: Path) -> Backbone:
    return Backbone.load(toy_backbone)


@pytest.fixture(scope="module")
def buffer(toy_demos: Path, backbone: Backbone) -> Buffer:
    return load_buffer([toy_demos], backbone, horizon=HORIZON, gamma=0.97, copies=3)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two small datasets."""
    first = toy_dataset(tmp_path / "first", toy_demonstrations(2))
    second = toy_dataset(tmp_path / "second", toy_demonstrations(1, first=100_500))
    return [first.root, second.root]


def sampler_of(buffer: Buffer, per_tick: torch.Tensor | None = None) -> Sampler:
    spec = action_spec()
    state = Normalizer(torch.full((33,), 0.5), torch.full((33,), 2.0))
    action = Normalizer(torch.from_numpy(spec.center.copy()), torch.from_numpy(spec.half_range.copy()))
    return Sampler(buffer, state, action, per_tick)


def fresh_tokens(backbone: Backbone, episode: Episode) -> torch.Tensor:
    images = np.stack([episode.images[c] for c in backbone.cameras], axis=1)
    return torch.from_numpy(encode(backbone, images, [episode.prompt] * len(episode)))


def test_tokens_are_those_of_the_window_and_of_its_successor(
    buffer: Buffer, toy_demos: Path, backbone: Backbone
) -> None:
    batch = sampler_of(buffer).rows(np.arange(len(buffer)))
    w = buffer.windows
    for i, episode in enumerate(Dataset.open(toy_demos).episodes()):
        again = fresh_tokens(backbone, episode).float()
        mine = np.flatnonzero(w.episode == i)
        torch.testing.assert_close(batch.z[mine], again[w.t[mine]], atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(batch.z_next[mine], again[w.t_next[mine]], atol=2e-3, rtol=2e-3)
        np.testing.assert_allclose(batch.s[mine] * 2 + 0.5, episode.state[w.t[mine]], atol=1e-6)
        np.testing.assert_allclose(batch.s_next[mine] * 2 + 0.5, episode.state[w.t_next[mine]], atol=1e-6)


def test_actions_are_the_executed_ones_in_normalised_units(buffer: Buffer, toy_demos: Path) -> None:
    batch, w, spec = sampler_of(buffer).rows(np.arange(len(buffer))), buffer.windows, action_spec()
    physical = batch.a.numpy() * spec.half_range + spec.center
    for i, episode in enumerate(Dataset.open(toy_demos).episodes(images=False)):
        for row in np.flatnonzero(w.episode == i):
            n = int(w.e[row])
            np.testing.assert_allclose(physical[row, :n], episode.action[w.t[row] : w.t[row] + n], atol=1e-6)


def test_no_window_leaves_its_episode_and_endings_are_kept_apart(buffer: Buffer) -> None:
    w = buffer.windows
    for i, episode in enumerate(buffer.episodes):
        low, high = buffer.first[i], buffer.first[i + 1]
        mine = w.episode == i
        assert (buffer.start[mine] >= low).all()
        assert (buffer.following[mine] < high).all()
        last = len(episode) - 1
        covered = {int(t + k) for t, e in zip(w.t[mine], w.e[mine], strict=True) for k in range(e)}
        if episode.truncated[-1]:
            assert covered == set(range(last))  # nobody saw what came after the last tick
            assert w.has_next[mine].all()
            assert w.terminated[mine].sum() == 0
        else:
            assert covered == set(range(last + 1))
            ends = mine & (w.t + w.e == last + 1)
            assert not w.has_next[ends].any()
            assert (w.terminated[ends].sum(1) == 1).all()
    assert {bool(e.truncated[-1]) for e in buffer.episodes} == {True, False}


def test_an_advantage_belongs_to_its_tick(buffer: Buffer) -> None:
    ticks = torch.arange(len(buffer.state), dtype=torch.float32) + 1
    batch = sampler_of(buffer, ticks).rows(np.arange(len(buffer)))
    expected = (torch.from_numpy(buffer.start)[:, None] + 1 + torch.arange(HORIZON)) * batch.mask
    assert torch.equal(batch.need("adv"), expected)


def test_two_datasets_are_one_behind_the_other(two: list[Path], backbone: Backbone) -> None:
    both = load_buffer(two, backbone, horizon=HORIZON, gamma=0.97, copies=2)
    apart = [load_buffer([path], backbone, horizon=HORIZON, gamma=0.97, copies=2) for path in two]
    assert torch.equal(both.tokens, torch.cat([b.tokens for b in apart], dim=1))
    assert torch.equal(both.state, torch.cat([b.state for b in apart]))
    assert len(both) == len(apart[0]) + len(apart[1])
    tail = slice(len(apart[0]), None)
    assert np.array_equal(both.start[tail], apart[1].start + len(apart[0].state))
    assert np.array_equal(both.windows.episode[tail], apart[1].windows.episode + 2)


def test_relabelled_rewards_are_a_view(toy_demos: Path, backbone: Backbone) -> None:
    def double(episode: Episode) -> RewardView:
        return RewardView(2 * episode.reward, episode.terminated)

    raw = load_buffer([toy_demos], backbone, horizon=HORIZON, gamma=0.97, copies=3)
    seen = load_buffer([toy_demos], backbone, horizon=HORIZON, gamma=0.97, copies=3, relabel=double)
    assert np.array_equal(seen.windows.reward, 2 * raw.windows.reward)
    np.testing.assert_allclose(seen.windows.mc_return, 2 * raw.windows.mc_return, atol=1e-6)
    for a, b in zip(seen.episodes, raw.episodes, strict=True):
        assert np.array_equal(a.reward, b.reward)


def test_views_are_drawn_only_with_a_generator(buffer: Buffer) -> None:
    sampler, rows = sampler_of(buffer), np.zeros(200, np.int64)
    clean = sampler.rows(rows)
    assert torch.equal(clean.z, buffer.tokens[0, buffer.start[0]].float().expand_as(clean.z))
    drawn = sampler.rows(rows, np.random.default_rng(0))
    assert len(torch.unique(drawn.z.flatten(1), dim=0)) == 3
    assert torch.equal(drawn.z, sampler.rows(rows, np.random.default_rng(0)).z)
    assert torch.equal(drawn.s, clean.s)


def test_each_image_is_encoded_once(
    two: list[Path], backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset.open(two[0])
    first = dataset_tokens(dataset, backbone, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "encode", lambda *_, **__: pytest.fail("encoded a second time"))
        assert np.array_equal(dataset_tokens(dataset, backbone, 2), first)
    dataset.append(toy_demonstrations(3)[2])
    longer = dataset_tokens(dataset, backbone, 2)
    assert longer.shape[1] == dataset.ticks
    assert np.array_equal(longer[:, : first.shape[1]], first)


def test_tokens_of_another_backbone_are_not_reused(two: list[Path], backbone: Backbone) -> None:
    from bora_cli.models.vlm import build_tiny

    dataset, other = Dataset.open(two[1]), build_tiny(["press"], 1, width=32, layers=1)
    mine, theirs = dataset_tokens(dataset, backbone, 1), dataset_tokens(dataset, other, 1)
    assert mine.shape == theirs.shape
    assert not np.array_equal(mine, theirs)
    assert len(list((dataset.root / "cache").glob("tokens-*.npy"))) == 2


def test_tokens_of_a_replaced_episode_are_made_anew(two: list[Path], backbone: Backbone) -> None:
    """Whoever puts other files in the place of an episode gets the tokens of what is there."""
    root, other = two
    before = dataset_tokens(Dataset.open(root), backbone, 1)
    for folder in ("data", "meta/episodes"):
        file = Path(folder, "chunk-000/file-000.parquet")
        shutil.copy(other / file, root / file)
    after = dataset_tokens(Dataset.open(root), backbone, 1)
    assert not np.array_equal(before[0, :3], after[0, :3])
    assert len(list((root / "cache").glob("tokens-*.npy"))) == 2


def test_a_dataset_that_cannot_be_written_is_encoded_all_the_same(
    two: list[Path], backbone: Backbone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(token_cache, "write_bytes", refuse)
    with caplog.at_level(logging.WARNING):
        assert dataset_tokens(Dataset.open(two[1]), backbone, 1).shape[0] == 1
    assert "Tokens are not cached beside the dataset" in caplog.text


def test_augmented_images_are_shifted_and_lit_a_little() -> None:
    flat = np.full((20, 2, 16, 16, 3), 100, np.uint8)
    lit = augment(flat, np.random.default_rng(0)).astype(float)
    assert np.ptp(lit, axis=(2, 3)).max() == 0  # a plain image stays plain, its edges included
    assert lit.min() >= 100 * (1 - GAIN) * (1 - GAIN / 2) - 1
    assert lit.max() <= 100 * (1 + GAIN) * (1 + GAIN / 2)
    assert len(np.unique(lit[:, :, 0, 0, 0])) > 5
    dot = np.zeros((50, 2, 16, 16, 3), np.uint8)
    dot[:, :, 8, 8] = 200
    moved = augment(dot, np.random.default_rng(1))
    where = np.argwhere(moved[..., 0] > 100)
    assert len(where) == 100
    assert set(np.unique(where[:, 2:])) == set(range(8 - SHIFT_PX, 8 + SHIFT_PX + 1))
    per_camera = where[:, 2:].reshape(50, 2, 2)
    assert (per_camera[:, 0] != per_camera[:, 1]).any()
    assert np.array_equal(moved, augment(dot, np.random.default_rng(1)))


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_what_is_looked_up_is_what_multiplying_and_clipping_gives(shift: int) -> None:
    rng = np.random.default_rng(shift)
    images = rng.integers(0, 256, (5, 2, 7, 9, 3), dtype=np.uint8)
    views = draw_views(images.shape, rng, shift)
    padded = np.pad(images, ((0, 0), (0, 0), (shift,) * 2, (shift,) * 2, (0, 0)), mode="edge")
    for i, c in np.ndindex(5, 2):
        top, left = views.top[i, c], views.left[i, c]
        seen = padded[i, c, top : top + 7, left : left + 9].astype(np.float32)
        expected = np.clip(seen * views.gain[i, c], 0, 255).astype(np.uint8)
        assert np.array_equal(show(images, views)[i, c], expected)
    part = slice(1, 4)
    assert np.array_equal(show(images[part], views.of(part)), show(images, views)[part])


# --------------------------------------------------------------------------------------------- messages


def load(backbone: Backbone, *paths: Path) -> Buffer:
    return load_buffer(list(paths), backbone, horizon=HORIZON, gamma=0.97, copies=1)


def test_nothing_to_learn_from(tmp_path: Path, backbone: Backbone) -> None:
    empty = toy_dataset(tmp_path / "empty", [])
    with pytest.raises(DataError, match=r"No episodes in .*empty\. Collect some with `bora collect`"):
        load(backbone, empty.root)


def test_an_empty_dataset_beside_a_full_one_adds_nothing(
    tmp_path: Path, two: list[Path], backbone: Backbone
) -> None:
    empty = toy_dataset(tmp_path / "empty", [])
    assert len(load(backbone, two[1], empty.root)) == len(load(backbone, two[1]))


def test_episodes_without_a_single_window(tmp_path: Path, backbone: Backbone) -> None:
    """An episode that is cut off after one tick teaches nothing: what followed was not seen."""
    rig = ToyRig()
    short = demonstrate(rig, ToyOperator(), scene_seed=1, meta={})
    one = {
        name: getattr(short, name)[:1]
        for name in ("state", "action", "proposed", "human", "controller", "phase", "reward", *CLOCKS)
    }
    images = {c: v[:1] for c, v in short.images.items()}
    no, yes = np.zeros(1, np.bool_), np.ones(1, np.bool_)
    cut = replace(short, **one, images=images, terminated=no, truncated=yes, success=False)
    dataset = toy_dataset(tmp_path / "cut", [cut])
    with pytest.raises(DataError, match=r"No tick of .*cut can be learned from"):
        load(backbone, dataset.root)


def test_datasets_of_two_robots_do_not_mix(two: list[Path], tmp_path: Path, backbone: Backbone) -> None:
    spec = action_spec()
    wider = replace(spec, high=spec.high * 2)
    create = {"image_size": 64, "fps": 10, "robot_type": "other"}
    other = Dataset.create(tmp_path / "wider", wider, STATE_NAMES, ("scene", "wrist"), **create)  # type: ignore[arg-type]
    with pytest.raises(SchemaMismatch, match=r"first and .*wider: action specs differ .*high"):
        load(backbone, two[0], other.root)
    renamed = ("elbow", *STATE_NAMES[1:])
    other = Dataset.create(tmp_path / "renamed", spec, renamed, ("scene", "wrist"), **create)  # type: ignore[arg-type]
    with pytest.raises(SchemaMismatch, match=r"first and .*renamed: states differ in elbow, tool_x\."):
        load(backbone, two[0], other.root)


def test_a_copied_dataset_keeps_its_tokens(two: list[Path], tmp_path: Path, backbone: Backbone) -> None:
    load(backbone, two[0])
    copy = shutil.copytree(two[0], tmp_path / "copy")
    assert len(load(backbone, copy)) == len(load(backbone, two[0]))
