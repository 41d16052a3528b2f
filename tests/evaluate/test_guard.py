"""A hardware profile is enforced: the default changes no bit, a tighter limit is kept, a wider one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bora_cli.control.loop import roll_out
from bora_cli.control.safety import GuardedRig
from bora_cli.errors import ConfigError
from bora_cli.evaluate.collect import collect, simulation
from bora_cli.evaluate.guard import guarded, sim_profile
from bora_cli.profiles import find_profile, load_profile
from bora_cli.sim.arm_hand import ARM_HIGH, ARM_LOW
from bora_cli.sim.operator import CORRECTOR, SimulatedOperator
from bora_cli.sim.simulation import Simulation
from bora_cli.types import F32, Decision, Episode, Observation

TASK, SCENE, TICKS = "press_button", 600_010, 30
EPS = 1e-6


class Restless:
    """A policy that asks for more than any limit allows, in a new direction every three ticks.

    turning: also of the rotation.  Then the arm lags behind so far that the simulator's own leash pulls the command
    back to the tool, which is more than any profile asks for.
    """

    execute = 3

    def __init__(self, turning: bool) -> None:
        self.turning = turning

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        chunk = np.repeat(rng.uniform(-3, 3, (1, 18)), 8, axis=0).astype(np.float32)
        chunk[:, 3:6] *= self.turning
        none = np.zeros((1, 1), np.float16)
        return Decision(0, 0, "", 0.0, 3, chunk, chunk, chunk, none)


class Says:
    engage, reason = True, "always"


class Eager:
    """A person who drives from the third tick on."""

    def begin(self, rig: Simulation) -> None:
        self.tick = 0

    def observe(self, rig: Simulation, human_driving: bool) -> Says:
        self.tick += 1
        says = Says()
        says.engage = self.tick > 3
        return says


class Pushing:
    """An operator who asks for everything at once."""

    def begin(self, rig: Simulation) -> None:
        """Do nothing."""

    def act(self, rig: Simulation) -> tuple[F32, bool]:
        spec = rig.action_spec
        return np.concatenate([spec.low[:3], spec.high[3:]]).astype(np.float32), False


class Blind:
    """A rig without pictures that notes where the tool was commanded to, [3] m, after every step."""

    def __init__(self, rig: Simulation | GuardedRig) -> None:
        self._rig = rig
        self.commanded: list[F32] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._rig, name)

    def observe(self, images: bool = True) -> Observation:
        return self._rig.observe(images=False)

    def step(self, action: F32) -> object:
        before = self._rig.privileged()
        result = self._rig.step(action)
        after = self._rig.privileged()
        self.commanded.append(np.concatenate([after.commanded_position, before.tool_position]))
        return result


def profile_with(folder: Path, old: str, new: str) -> str:
    """Return the path of a copy of the sim profile with one text replaced."""
    text = find_profile("sim").read_text()
    assert text.count(old) == 1, old
    folder.mkdir(exist_ok=True)
    (folder / "tight.toml").write_text(text.replace(old, new))
    return str(folder / "tight.toml")


def drive(profile: str | None, *, turning: bool = False, assisted: bool = False) -> tuple[Episode, F32]:
    """Return a restless episode under a profile, and [T, 6] m: where the tool was commanded to, where it was.

    profile: None is the bare simulation.
    """
    sim = Simulation(TASK, image_size=16)
    rig = Blind(sim if profile is None else guarded(sim, sim_profile(profile)))
    people = {"watcher": Eager(), "operator": Pushing()} if assisted else {}
    rng = np.random.default_rng(3)
    episode = roll_out(
        rig, Restless(turning), scene_seed=SCENE, rng=rng, meta={}, images=False, max_ticks=TICKS, **people
    )  # type: ignore[arg-type]
    return episode, np.stack(rig.commanded)


@pytest.fixture(scope="module")
def plain() -> dict[bool, tuple[Episode, F32]]:
    """The episodes of the bare simulation: without and with turning."""
    return {turning: drive(None, turning=turning) for turning in (False, True)}


@pytest.mark.parametrize("turning", [False, True])
def test_the_default_profile_changes_no_bit(plain: dict[bool, tuple[Episode, F32]], turning: bool) -> None:
    digest = load_profile("sim").hash
    assert isinstance(simulation(TASK, "standard", "none", 16, "sim", digest), Simulation)
    episode, commanded = drive("sim", turning=turning)
    before, expected = plain[turning]
    assert episode.action.tobytes() == before.action.tobytes()
    assert episode.state.tobytes() == before.state.tobytes()
    assert commanded.tobytes() == expected.tobytes()


def tool_speed(episode: Episode, at: F32) -> float:
    return float(np.linalg.norm(episode.action[:, :3], axis=1).max())


def axis_speed(episode: Episode, at: F32) -> float:
    return float(np.abs(episode.action[:, :3]).max())


def rotation(episode: Episode, at: F32) -> float:
    return float(np.linalg.norm(episode.action[:, 3:6], axis=1).max())


def axis_rotation(episode: Episode, at: F32) -> float:
    return float(np.abs(episode.action[:, 3:6]).max())


def hand_step(episode: Episode, at: F32) -> float:
    before = np.concatenate([episode.state[:1, -12:], episode.action[:-1, 6:]])
    return float(np.abs(episode.action[:, 6:] - before).max())


def height(episode: Episode, at: F32) -> float:
    return float(at[:, 2].max())


def lead(episode: Episode, at: F32) -> float:
    return float(np.linalg.norm(at[:, :3] - at[:, 3:], axis=1).max())


def index_angle(episode: Episode, at: F32) -> float:
    return float(episode.action[:, 10].max())


@pytest.mark.parametrize(
    ("old", "new", "measure", "limit"),
    [
        ('tcp_speed = "0.4331 m/s"', 'tcp_speed = "0.1 m/s"', tool_speed, 0.01),
        ('translation_per_tick = "25 mm"', 'translation_per_tick = "8 mm"', axis_speed, 0.008),
        ('rotation_speed = "2.0785 rad/s"', 'rotation_speed = "0.5 rad/s"', rotation, 0.05),
        ('rotation_per_tick = "0.12 rad"', 'rotation_per_tick = "0.03 rad"', axis_rotation, 0.03),
        ('hand_rate = "3 rad/s"', 'hand_rate = "1 rad/s"', hand_step, 0.1),
        ('"0.72 0.35 0.5 m"', '"0.72 0.35 0.3 m"', height, 0.3),
        ('leash = "50 mm"', 'leash = "20 mm"', lead, 0.02),
        (
            '"index_proximal", low = "-0.2 rad", high = "1.5 rad"',
            '"index_proximal", low = "-0.2 rad", high = "0.6 rad"',
            index_angle,
            0.6,
        ),
    ],
)
def test_a_tighter_limit_is_seen_in_what_is_executed(
    tmp_path: Path,
    plain: dict[bool, tuple[Episode, F32]],
    old: str,
    new: str,
    measure: Callable[[Episode, F32], float],
    limit: float,
) -> None:
    turning = "rotation" in old
    episode, at = drive(profile_with(tmp_path, old, new), turning=turning)
    assert measure(*plain[turning]) > 1.2 * limit
    assert measure(episode, at) <= limit + EPS
    assert measure(episode, at) > 0.5 * limit  # limited, not stopped


@pytest.mark.parametrize(
    ("old", "new", "columns", "limit"),
    [
        ('takeover_translation = "25 mm"', 'takeover_translation = "4 mm"', slice(0, 3), 0.004),
        ('takeover_rotation = "0.12 rad"', 'takeover_rotation = "0.02 rad"', slice(3, 6), 0.02),
        ('takeover_hand = "0.3 rad"', 'takeover_hand = "0.05 rad"', slice(6, 18), 0.05),
    ],
)
def test_a_tighter_takeover_is_seen_at_its_edge(
    tmp_path: Path, old: str, new: str, columns: slice, limit: float
) -> None:
    def jump(episode: Episode) -> float:
        at = episode.meta["control_changes"][0]["tick"]
        return float(np.abs(episode.action[at] - episode.action[at - 1])[columns].max())

    assert jump(drive("sim", assisted=True)[0]) > 1.5 * limit
    assert jump(drive(profile_with(tmp_path, old, new), assisted=True)[0]) <= limit + EPS


def test_a_collection_keeps_the_limits_of_its_profile(tmp_path: Path) -> None:
    profile = profile_with(tmp_path, 'tcp_speed = "0.4331 m/s"', 'tcp_speed = "0.05 m/s"')
    dataset = collect(task=TASK, episodes=1, out=tmp_path / "slow", profile=profile, image_size=16)
    episode = dataset.episode(0, images=False)
    assert episode.meta["profile_hash"] == load_profile(profile).hash != load_profile("sim").hash
    assert np.linalg.norm(episode.action[:, :3], axis=1).max() <= 0.005 + EPS
    assert np.linalg.norm(episode.human[:, :3], axis=1).max() > 0.01
    (tmp_path / "tight.toml").write_text(Path(profile).read_text().replace("0.05 m/s", "0.06 m/s"))
    with pytest.raises(ConfigError, match=r"holds another collection \(profile_hash"):
        collect(task=TASK, episodes=2, out=tmp_path / "slow", profile=profile, image_size=16)
    with pytest.raises(ConfigError, match=r"has changed: its hash is \w{12}, the job began with"):
        simulation(TASK, "standard", "none", 16, profile, episode.meta["profile_hash"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'tcp_speed = "0.4331 m/s"',
            'tcp_speed = "0.6 m/s"',
            "limits.tcp_speed 0.6, expected 0.4331 or less",
        ),
        ('leash = "50 mm"', 'leash = "60 mm"', "limits.leash 0.06, expected 0.05 or less"),
        ('"0.25 -0.35 0.012 m"', '"0.25 -0.35 0 m"', "workspace_low z 0, expected 0.012 or more"),
        (
            '"thumb_yaw", low = "0 rad"',
            '"thumb_yaw", low = "-0.1 rad"',
            "hand.joints thumb_yaw low -0.1, expected 0 or more",
        ),
    ],
)
def test_a_wider_limit_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    profile = profile_with(tmp_path, old, new)
    with pytest.raises(ConfigError, match=r"allows more than the simulated robot does") as refusal:
        collect(task=TASK, episodes=1, out=tmp_path / "out", profile=profile)
    assert said in str(refusal.value)
    assert "`bora profile show sim` has the simulator's" in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_another_robot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at 20 Hz; the simulated robot has thumb_yaw, .* at 10 Hz"):
        sim_profile(profile_with(tmp_path, 'control_rate = "10 Hz"', 'control_rate = "20 Hz"'))
    with pytest.raises(ConfigError, match="which this version does not have"):
        sim_profile("franka_dexhand021")


def test_an_operator_drives_behind_the_envelope(tmp_path: Path) -> None:
    """A scripted operator reads the rig as if the envelope were not there."""
    rig = guarded(
        Simulation(TASK),
        sim_profile(profile_with(tmp_path, 'hand_rate = "3 rad/s"', 'hand_rate = "2 rad/s"')),
    )
    assert isinstance(rig, GuardedRig)
    rig.prepare(SCENE)
    operator = SimulatedOperator(CORRECTOR, np.random.default_rng(0))
    operator.begin(rig)
    assert rig.step(operator.act(rig)[0]).applied.shape == (18,)
    assert rig.takeover_step.shape == (18,)


def test_the_ramp_of_a_profile_is_kept(tmp_path: Path) -> None:
    profile = sim_profile(profile_with(tmp_path, 'ramp = "0.2 s"', 'ramp = "0.5 s"'))
    rig = guarded(Simulation(TASK), profile)
    assert isinstance(rig, GuardedRig)
    assert rig.ramp_ticks == 5
    assert isinstance(guarded(Simulation(TASK), sim_profile("sim")), Simulation)


MOTION = """watchdog = "200 ms"
acceleration = "0.5 m/s^2"
jerk = "8 m/s^3"
rotation_acceleration = "3 rad/s^2"
soft_start = "0.5 s"
cone_axis = [0, 0, -1]
cone_angle = "120 deg"
"""


def test_limits_on_motion_act_where_a_profile_asks_for_them(tmp_path: Path) -> None:
    sim = Simulation(TASK)
    rig = guarded(sim, sim_profile(profile_with(tmp_path, 'watchdog = "200 ms"\n', MOTION)))
    rig.prepare(SCENE)
    rng, steps, rows = np.random.default_rng(0), [np.zeros(3)], []
    for _ in range(40):
        before = sim.privileged()
        wild = rng.uniform(-3, 3, 18).astype(np.float32)
        if rng.random() < 0.1:
            wild[3] = np.nan
        rows.append(rig.step(wild).applied)
        after = sim.privileged()
        steps.append(after.commanded_position - before.commanded_position)
    changes = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    assert changes.max() <= 0.5 * 0.01 + EPS
    assert np.linalg.norm(np.diff(np.array(rows)[:, 3:6], axis=0), axis=1).max() <= 3 * 0.01 + EPS
    assert np.linalg.norm(steps, axis=1).max() > 0.003
    still = sim.snapshot()
    rig.restore(still)
    assert np.linalg.norm(rig.step(sim.action_spec.high).applied[:3]) <= 0.2 * 0.0434
    assert rig.reset(SCENE).images


def test_limits_on_motion_live_with_a_gap(tmp_path: Path) -> None:
    """The bias moves the target under the envelope's feet; commands stay within their limits."""
    sim = Simulation(TASK, gap="bias")
    rig = guarded(sim, sim_profile(profile_with(tmp_path, 'watchdog = "200 ms"\n', MOTION)))
    rig.prepare(SCENE)
    action = np.concatenate([sim.action_spec.high[:2], np.zeros(4), sim.privileged().hand_command])
    rows = [rig.step(action.astype(np.float32)).applied for _ in range(15)]
    assert np.linalg.norm(np.diff(np.array(rows)[:, :3], axis=0), axis=1).max() <= 0.5 * 0.01 + EPS


def arm_joints(low: float = 0.1, rate: str = "3 rad/s") -> str:
    """Return joints of the simulated arm, each end of which is so many rad inside of its own."""
    rows = [
        f'  {{ name = "arm_{i}", low = "{a + low} rad", high = "{b - low} rad", rate = "{rate}" }},'
        for i, (a, b) in enumerate(zip(ARM_LOW, ARM_HIGH, strict=True), 1)
    ]
    return "\n".join(['rotation_per_tick = "0.12 rad"', "joints = [", *rows, "]", ""])


def turning(rig: Any, sim: Simulation, seed: int) -> tuple[float, float]:
    """Let a rig wander and turn; return the least room (rad) that a joint of the arm had, and the path (m)."""
    rig.prepare(SCENE)
    rng, room, path, row = np.random.default_rng(seed), np.inf, 0.0, np.zeros(18)
    for tick in range(120):
        if tick % 20 == 0:
            turn = rng.normal(size=3)
            row[:3], row[3:6] = rng.normal(0, 0.012, 3), 0.12 * turn / np.linalg.norm(turn)
        row[6:] = sim.privileged().hand_command
        path += float(np.linalg.norm(rig.step(row.astype(np.float32)).applied[:3]))
        at = sim.privileged().arm_command
        room = min(room, float(np.min([at - ARM_LOW, np.array(ARM_HIGH) - at])))
    return room, path


@pytest.mark.parametrize("seed", [0, 4])
def test_the_joints_of_the_arm_act_where_a_profile_limits_them(tmp_path: Path, seed: int) -> None:
    """Without limits the same commands bring a joint to its end, where the arm slips."""
    sim = Simulation(TASK)
    free = sim_profile("sim")
    assert turning(guarded(sim, free), sim, seed)[0] < 0.01
    limited = sim_profile(profile_with(tmp_path, 'rotation_per_tick = "0.12 rad"\n', arm_joints()))
    assert limited.hash != free.hash
    room, path = turning(guarded(sim, limited), sim, seed)
    assert room >= 0.1 - 1e-6
    assert path > 0.5


def test_joints_wider_than_those_of_the_simulated_arm_are_refused(tmp_path: Path) -> None:
    text = 'rotation_per_tick = "0.12 rad"\n'
    with pytest.raises(ConfigError, match=r"arm.joints arm_1 low -2.9973, expected -2.8973 or more"):
        sim_profile(profile_with(tmp_path, text, arm_joints(low=-0.1)))
    six = "\n".join(line for line in arm_joints().splitlines() if "arm_7" not in line)
    path = profile_with(tmp_path, text, six + "\n")
    Path(path).write_text(Path(path).read_text().replace("arm_dof = 7", "arm_dof = 6"))
    with pytest.raises(ConfigError, match="limits 6 joints of the arm; the simulated one has 7"):
        sim_profile(path)
