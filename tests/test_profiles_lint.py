"""Profiles before motion: what is suspicious is said with its line, and what is missing keeps a robot still."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bora_cli.cli.app import build
from bora_cli.errors import ConfigError
from bora_cli.input import keyboard, spacemouse, udp
from bora_cli.profiles import (
    UDEV_RULES,
    check_profile,
    load_profile,
    new_profile,
    require_fit,
)
from bora_cli.profiles.schema import DEVICE_TRUST_S
from robot_fakes import completed_profile as fit


def write(folder: Path, text: str, name: str = "rig.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def edited(folder: Path, *changes: tuple[str | None, str]) -> Path:
    """Return a profile in which texts were replaced by others; None stands for the arm's joints."""
    text = fit()
    arm = re.findall(r"joints = \[.*?\n\]\n", text, re.DOTALL)[0]
    for given, new in changes:
        old = arm if given is None else given
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return write(folder, text)


def said(path: Path, level: str) -> list[str]:
    return [finding.message for finding in check_profile(path) if finding.level == level]


def test_a_completed_profile_is_fit(tmp_path: Path) -> None:
    path = edited(tmp_path)
    assert said(path, "error") == said(path, "unfit") == []
    assert require_fit(path).name == "franka_dexhand021"
    assert require_fit("sim").name == "sim"


def test_the_shipped_starting_point_is_not() -> None:
    with pytest.raises(ConfigError) as refusal:
        require_fit("franka_dexhand021")
    assert "Nothing moves with profile 'franka_dexhand021': " in str(refusal.value)
    assert "have no sign: does the vendor's angle grow (1) or shrink (-1) as they bend? (1 more)" in str(
        refusal.value
    )


SEVENTH = '"joint7", low = "-2.79 rad", high = "2.79 rad", rate = "'
WRONG = {
    "degrees": (
        [('"th_dip", sign = 1, low = "0 deg", high = "60 deg"', '"th_dip", sign = 1, low = "0 rad", high = "60 rad"')],
        "error",
        "joint th_dip may go from 0 to 60 rad, more than a turn; were degrees written as rad?",
    ),
    "millimetres": (
        [('tool_point = "0.05 0.0 0.16 m"', 'tool_point = "50 0 160 m"')],
        "error",
        "the tool point is 167.631 m from the hand's flange; were millimetres written as m?",
    ),
    "a joint is missing": (
        [
            ('  { name = "ff_spr", sign = 1, low = "0 deg", high = "20 deg" },\n', ""),
            ('open = "0 0 60 10 0', 'open = "0 0 60 0'),
            ('close = "30 30 60 0 40', 'close = "30 30 60 40'),
            ('point = "40 40 30 0 0', 'point = "40 40 30 0'),
        ],
        "error",
        "; here missing: ff_spr",
    ),
    "a joint is unknown": ([('name = "lf_mcp"', 'name = "lf_pip"')], "error", "here missing: lf_mcp; unknown: lf_pip"),
    "a joint is elsewhere": (
        [('name = "lf_dip"', 'name = "x"'), ('name = "lf_mcp"', 'name = "lf_dip"'), ('name = "x"', 'name = "lf_mcp"')],
        "error",
        "here another order: th_dip, th_mcp",
    ),
    "out of reach": (
        [('reach = "855 mm"', 'reach = "250 mm"')],
        "error",
        "no point of the workspace can be reached: the nearest is 0.30 m from the base, the arm reaches 0.25 m",
    ),
    "a corner out of reach": (
        [('workspace_high = "0.65 0.30 0.45 m"', 'workspace_high = "0.72 0.35 0.5 m"')],
        "warning",
        "a corner of the workspace is 0.94 m from the base, the arm reaches 0.855 m",
    ),
    "no room for fingers": (
        [('fingertip_high = "0.75 0.40 0.60 m"', 'fingertip_high = "0.75 0.40 0.10 m"')],
        "error",
        "no place in the workspace keeps the fingertips in their box in z: the tool would have to be above 0.050 m",
    ),
    "fingers upside down": (
        [('cone_axis = [0, 0, -1]', 'cone_axis = [0, 0, 1]'),
         *[(f'"{x} {y} -0.10 m"', f'"{x} {y} 0.10 m"') for x in (0.06, -0.06) for y in (0.06, -0.06)]],
        "warning",
        "no fingertip point is below the tool point",
    ),
    "hasty watchdog": (
        [('watchdog = "200 ms"\nacknowledged', 'watchdog = "100 ms"\nacknowledged')],
        "warning",
        "every late tick will hold",
    ),
    "camera watchdog": (
        [('watchdog_cameras = "300 ms"', 'watchdog_cameras = "30 ms"')],
        "error",
        "limits.watchdog_cameras 0.03 s is shorter than a period of camera scene (0.0333333 s)",
    ),
    "hasty watch on the device": (
        [('watchdog_robot', 'watchdog_operator = "100 ms"\nwatchdog_robot')],
        "error",
        "limits.watchdog_operator 0.1 s is not more than a tick (0.1 s): keys and buttons would be forgotten before",
    ),
    "slow joint that is fast": (
        [('"th_dip", sign = 1,', '"th_dip", sign = 1, rate = "9 rad/s",')],
        "warning",
        "joint th_dip has a rate of 9 rad/s, above limits.hand_rate 1.5 rad/s",
    ),
    "degrees of the arm": (
        [('"joint1", low = "-2.79 rad", high = "2.79 rad"', '"joint1", low = "-160 rad", high = "160 rad"')],
        "error",
        "arm joint joint1 may go from -160 to 160 rad, more than a turn to a side; were degrees written as rad?",
    ),
    "degrees per second of the arm": (
        [(f"{SEVENTH}1.3", f"{SEVENTH}150")],
        "error",
        "arm joint joint7 has 5.58 rad of room, less than it may go in two ticks (30 rad)",
    ),
    "a fast arm": (
        [(f"{SEVENTH}1.3", f"{SEVENTH}13")],
        "warning",
        "arm joint joint7 has a rate of 13 rad/s, 745 deg/s; were degrees written as rad?",
    ),
    "mirror": (
        [('ramp = "0.3 s"', 'ramp = "0.3 s"\naxis_signs = [-1, 1, 1, -1, 1, 1]')],
        "error",
        "operator.axis_signs [-1, 1, 1] for x, y, z mirror the person's hand",
    ),
    "turns another way": (
        [('ramp = "0.3 s"', 'ramp = "0.3 s"\naxis_signs = [-1, -1, 1, 1, 1, 1]')],
        "error",
        "operator.axis_signs turn [1, 1, 1] where they move [-1, -1, 1]",
    ),
    "close opens": (
        [('close = "30 30 60 0 40', 'xclose = "30 30 60 0 40'), ('open = "0 0 60 10 0 0 0 0 0 0 0 0 deg"',
          'open = "40 40 60 0 40 40 40 40 40 40 40 40 deg"\nclose = "0 0 60 10 0 0 0 0 0 0 0 0 deg"')],
        "warning",
        "posture close bends the joints less than posture open",
    ),
    "no jerk": ([('jerk = "8 m/s^3"\nrotation', 'rotation')], "unfit", "limits.jerk is not given, so it is not"),
    "no arm joints": ([(None, "")], "warning", "arm.joints is not given: near the end of one the arm stops by itself"),
    "no reach": ([('reach = "855 mm"\n', "")], "warning", "robot.reach is not given"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_it_is_said(name: str, tmp_path: Path) -> None:
    changes, level, says = WRONG[name]
    path = edited(tmp_path, *changes)
    assert any(says in message for message in said(path, level)), check_profile(path)
    if level != "warning":
        with pytest.raises(ConfigError, match="Nothing moves with profile"):
            require_fit(path)


def test_findings_name_the_line(tmp_path: Path) -> None:
    path = edited(tmp_path, ('reach = "855 mm"', 'reach = "250 mm"'))
    line = path.read_text().splitlines().index('workspace_low = "0.30 -0.30 0.05 m"') + 1
    assert f"{path}:{line}" in [finding.where for finding in check_profile(path)]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('cone_angle = "60 deg"\n', "", "cone_angle missing; cone_axis, cone_angle belong together"),
        (
            "cone_axis = [0, 0, -1]",
            "cone_axis = [0, 0, 0]",
            "has no direction; expected three numbers, not all zero",
        ),
        ('fingertip_low = "0.20 -0.40 0.01 m"\n', "", "fingertip_low missing; fingertips, fingertip_low"),
        ("0.20 -0.40 0.01 m", "0.20 -0.40 0.70 m", "fingertips in z from 0.7 to 0.6 m; expected low < high"),
        ('jerk = "8 m/s^3"\nr', 'jerk = "8 m/s^2"\nr', "expected one of: m/s^3"),
        ("arm_dof = 7", "arm_dof = 6", "arm.joints lists 7 joints; expected 6, robot.arm_dof"),
        ('"joint2", low', '"joint1", low', "arm joint joint1 is listed twice; expected distinct names"),
        (
            'high = "-0.17 rad"',
            'high = "-3 rad"',
            "joint joint4 has low -2.97 rad and high -3 rad; expected low < high",
        ),
        (
            '"joint3", low',
            '"joint3", speed = 1, low',
            "unknown key 'arm.joints.2.speed' (known here: name, low, high, rate)",
        ),
        ('acceleration = "0.8 m/s^2"\nj', 'acceleration = "3 m/s^2"\nj', "acceleration 3 above 2"),
    ],
)
def test_contradictions_are_refused(old: str, new: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_profile(edited(tmp_path, (old, new)))
    assert says in str(refusal.value)


# ------------------------------------------------------------------------------------------------- tightening

WATCHED = 'watchdog_operator = "200 ms"\nwatchdog_robot'
LOOSER = {
    "speed": ('tcp_speed = "0.15 m/s"', 'tcp_speed = "0.2 m/s"', "limits.tcp_speed 0.2 against 0.15"),
    "box": ('"0.30 -0.30 0.05 m"', '"0.30 -0.30 0.04 m"', "limits.workspace_low z 0.04 against 0.05 m"),
    "not limited": ('jerk = "8 m/s^3"\nrotation', "rotation", "limits.jerk not given against 8"),
    "hasty": ('soft_start = "1 s"', 'soft_start = "0.5 s"', "limits.soft_start 0.5 against 1 s"),
    "joint": ('"th_dip", sign = 1, low = "0 deg", high = "60', '"th_dip", sign = 1, low = "0 deg", high = "70',
              "joint th_dip 0..1.22173 against 0..1.0472 rad"),
    "fingertip": ('  "0.06 0.06 0.04 m",\n', "", "limits.fingertips without some of the 8 points"),
    "axis": ("cone_axis = [0, 0, -1]", "cone_axis = [0, 1, -1]", "limits.cone_axis (0.0, 1.0, -1.0) against"),
    "tick": ('translation_per_tick = "12 mm"', 'translation_per_tick = "13 mm"', "arm.translation_per_tick 0.013"),
    "hand": ('name = "lf_mcp"', 'name = "lf_pip"', "of another hand"),
    "no arm joints": (None, "", "arm.joints not given"),
    "arm": ('name = "joint3"', 'name = "elbow"', "arm.joints joint1, joint2, elbow, joint4"),
    "arm range": ('high = "-0.17 rad"', 'high = "-0.1 rad"', "arm joint joint4 -2.97..-0.1 against -2.97..-0.17 rad"),
    "arm rate": ('high = "-0.17 rad", rate = "1.08', 'high = "-0.17 rad", rate = "1.1',
                 "arm joint joint4 rate 1.1 against 1.08 rad/s"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOSER)
def test_a_profile_that_tightens_another_may_not_be_looser(name: str, tmp_path: Path) -> None:
    old, new, says = LOOSER[name]
    write(tmp_path, fit(), "base.toml")
    path = edited(tmp_path, (old, new))
    path.write_text('tightens = "base.toml"\n' + path.read_text())
    with pytest.raises(ConfigError) as refusal:
        load_profile(path)
    assert f"{path}:1: looser than 'base.toml': " in str(refusal.value)
    assert any(says in finding.message for finding in check_profile(path))


@pytest.mark.parametrize(("mine", "says"), [("watchdog_robot", "not given"), (WATCHED, "0.2")])
def test_the_watch_on_the_device_is_only_tightened(mine: str, says: str, tmp_path: Path) -> None:
    tight = WATCHED.replace("200", "150")
    write(tmp_path, fit().replace("watchdog_robot", tight), "base.toml")
    path = edited(tmp_path, ("watchdog_robot", mine))
    path.write_text('tightens = "base.toml"\n' + path.read_text())
    with pytest.raises(ConfigError, match=f"limits.watchdog_operator {says} against 0.15"):
        load_profile(path)
    path.write_text(path.read_text().replace(mine, tight))
    assert load_profile(path).limits.watchdog_operator == 0.15


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("1 s", "watchdog_operator 1 s; expected at most 0.25 s, as no device is believed for longer"),
        ("0 s", "limits.watchdog_operator is '0 s': input should be greater than 0"),
        ("0.2", "does not end in a unit"),
    ],
)
def test_nobodys_name_makes_a_device_believed_for_longer(given: str, says: str, tmp_path: Path) -> None:
    text = fit().replace('acknowledged_by = ""', 'acknowledged_by = "me, today"')
    path = write(tmp_path, text.replace("watchdog_robot", f'watchdog_operator = "{given}"\nwatchdog_robot'))
    with pytest.raises(ConfigError) as refusal:
        load_profile(path)
    assert says in str(refusal.value)


def test_the_longest_watch_is_that_of_the_devices() -> None:
    assert max(keyboard.MAX_AGE_S, udp.MAX_AGE_S, spacemouse.STALE_S) == DEVICE_TRUST_S


def test_a_tighter_profile_is_a_profile(tmp_path: Path) -> None:
    path = edited(
        tmp_path,
        ('tcp_speed = "0.15 m/s"', 'tcp_speed = "0.1 m/s"'),
        ('soft_start = "1 s"', 'soft_start = "2 s"'),
    )
    path.write_text('tightens = "franka_dexhand021"\n' + path.read_text())
    assert load_profile(path).limits.tcp_speed == 0.1


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("rig.toml", "tightens itself; expected another profile"),
        ("nobody", "Unknown hardware profile 'nobody'"),
    ],
)
def test_what_is_tightened_has_to_exist(base: str, says: str, tmp_path: Path) -> None:
    path = edited(tmp_path)
    path.write_text(f'tightens = "{base}"\n' + path.read_text())
    with pytest.raises(ConfigError, match=re.escape(says)):
        load_profile(path)


# ------------------------------------------------------------------------------------------------- new and udev


def test_a_new_profile_is_unsigned(tmp_path: Path) -> None:
    base = write(tmp_path, fit())
    path = new_profile("left_arm", str(base), tmp_path / "deep" / "left_arm.toml")
    profile = load_profile(path)
    assert (profile.name, profile.calibration.verified_by) == ("left_arm", "")
    assert "# VERIFY" in path.read_text()
    assert [m for m in said(path, "unfit") if "nobody has measured the tool point" in m]


@pytest.mark.parametrize(
    ("name", "out", "says"),
    [
        ("Left Arm", "x.toml", "something else than small letters"),
        ("left", "rig.toml", "rig.toml exists. Choose another"),
    ],
)
def test_a_new_profile_is_refused(name: str, out: str, says: str, tmp_path: Path) -> None:
    write(tmp_path, fit())
    with pytest.raises(ConfigError, match=re.escape(says)):
        new_profile(name, "franka_dexhand021", tmp_path / out)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    made = runner.invoke(build(), ["profile", "new", "left_arm"])
    assert made.exit_code == 0
    assert made.stdout == "left_arm.toml\n"
    assert "2 points keep a robot from moving with it: bora profile check left_arm.toml" in made.stderr
    checked = runner.invoke(build(), ["profile", "check", "left_arm.toml"])
    assert checked.exit_code == 3
    assert "unfit: left_arm.toml:" in checked.stdout
    rules = runner.invoke(build(), ["profile", "udev"])
    assert rules.stdout == UDEV_RULES


def test_the_hash_of_the_simulator_is_the_one_of_all_measurements() -> None:
    """New keys that a profile does not use must not make its datasets look like those of another rig."""
    assert load_profile("sim").hash == "a3dbbcbb4de9"


def test_the_watch_on_the_device_is_pinned(tmp_path: Path) -> None:
    """The hash goes into every dataset and checkpoint."""
    before = load_profile(edited(tmp_path)).hash
    assert load_profile(edited(tmp_path, ("watchdog_robot", WATCHED))).hash != before
