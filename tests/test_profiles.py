"""Hardware profiles: what they accept, what they refuse, and how they say it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from bora_cli.errors import ConfigError
from bora_cli.profiles import CODE_LIMITS, check_profile, find_profile, list_profiles, load_profile
from bora_cli.profiles.units import UNITS, AngularSpeed, Metres, Point, Radians, Seconds, Speed

SIM = find_profile("sim").read_text()
KIND = {"m": Metres, "rad": Radians, "s": Seconds, "m/s": Speed, "rad/s": AngularSpeed}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rig.toml"
    path.write_text(text)
    return path


def edited(tmp_path: Path, old: str, new: str) -> Path:
    assert SIM.count(old) == 1, f"{old!r} must occur once in sim.toml"
    return write(tmp_path, SIM.replace(old, new))


def line_of(text: str, fragment: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if fragment in line)


class Holder(BaseModel):
    """A field of each kind of quantity."""

    m: Metres = 1.0
    rad: Radians = 1.0
    s: Seconds = 1.0
    ms: Speed = 1.0
    rs: AngularSpeed = 1.0
    point: Point = (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", list_profiles())
def test_profiles_that_come_with_bora_are_valid(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert not [f for f in check_profile(name) if f.level == "error"]
    assert profile.action_spec.dim == 18
    assert profile.takeover_step.shape == (18,)


def test_both_promised_profiles_are_there() -> None:
    assert {"sim", "franka_dexhand021"} <= set(list_profiles())


def test_sim_profile_has_a_driver_for_everything() -> None:
    findings = check_profile("sim")
    assert [f for f in findings if f.level == "warning"] == []
    assert all("looser than the code" in f.message for f in findings)


def test_real_profile_says_which_parts_have_no_driver() -> None:
    text = "\n".join(f.message for f in check_profile("franka_dexhand021"))
    for part in (
        "robot: no driver 'franka'",
        "hand: no driver 'dexhand021'",
    ):
        assert part in text
    assert "camera wrist: no driver" in text
    assert "nobody has measured the tool point" in text


def test_real_profile_only_tightens() -> None:
    limits = load_profile("franka_dexhand021").limits
    assert limits.acknowledged_by == ""
    assert all(0 < getattr(limits, key) <= allowed for key, allowed in CODE_LIMITS.items())


def test_dexhand_joints_are_the_vendors() -> None:
    names = load_profile("franka_dexhand021").action_spec.names[6:]
    vendor = "th_dip th_mcp th_rot ff_spr ff_dip ff_mcp mf_dip mf_mcp rf_dip rf_mcp lf_dip lf_mcp"
    assert names == tuple(vendor.split())


def test_action_spec_carries_units_and_limits() -> None:
    spec = load_profile("sim").action_spec
    assert spec.names[:6] == ("dx", "dy", "dz", "drx", "dry", "drz")
    assert spec.units == ("m/tick",) * 3 + ("rad/tick",) * 3 + ("rad",) * 12
    assert np.allclose(spec.high[:6], [0.025] * 3 + [0.12] * 3)
    assert spec.slice("hand") == slice(6, 18)
    assert load_profile("sim").ramp_ticks == 2


@given(st.floats(-1e3, 1e3), st.sampled_from(sorted(u for u in UNITS if UNITS[u][0] in ("m", "rad"))))
def test_quantities_convert_to_si(value: float, unit: str) -> None:
    si, factor = UNITS[unit]
    assert getattr(Holder.model_validate({si: f"{value!r} {unit}"}), si) == pytest.approx(value * factor)


@pytest.mark.parametrize(
    ("field", "written", "says"),
    [
        ("m", 0.25, "0.25 has no unit"),
        ("m", "0.25", "does not end in a unit of the right kind; expected one of: m, cm, mm"),
        ("m", "5 deg", "does not end in a unit of the right kind"),
        ("ms", "0.25 rad/s", "expected one of: m/s, mm/s"),
        ("rad", "ninety deg", "is not a number with a unit"),
        ("m", "nan m", "is not 1 finite number(s) with a unit"),
        ("point", "1 2 m", "is not 3 finite number(s) with a unit"),
        ("m", "1 2 m", "is not 1 finite number(s) with a unit"),
        ("s", "", "is not a quantity"),
    ],
)
def test_quantities_without_the_right_unit_are_refused(field: str, written: object, says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        Holder.model_validate({field: written})


def test_unknown_name_suggests_the_near_one() -> None:
    with pytest.raises(ConfigError) as caught:
        load_profile("smi")
    assert "Unknown hardware profile 'smi'" in caught.value.message
    assert "Did you mean 'sim'?" in caught.value.hint


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"No hardware profile at {tmp_path}/none.toml")):
        load_profile(tmp_path / "none.toml")


def test_unknown_key_names_file_line_and_near_key(tmp_path: Path) -> None:
    path = edited(tmp_path, 'tcp_speed = "0.4331 m/s"', 'tcp_sped = "0.4331 m/s"')
    findings = check_profile(path)
    line = line_of(path.read_text(), "tcp_sped")
    assert (f"{path}:{line}", True) in [(f.where, "did you mean 'tcp_speed'?" in f.message) for f in findings]
    with pytest.raises(
        ConfigError, match=re.escape(f"{path}:{line}: unknown key 'limits.tcp_sped'")
    ) as caught:
        load_profile(path)
    assert "bora profile check" in caught.value.hint


def test_unknown_key_in_a_list_names_its_own_line(tmp_path: Path) -> None:
    text = SIM.replace('name = "wrist"\n', 'name = "wrist"\nfps = 3\n')
    path = write(tmp_path, text)
    (finding,) = check_profile(path)
    assert finding.where == f"{path}:{line_of(text, 'fps = 3')}"
    assert "unknown key 'cameras.1.fps'" in finding.message


def test_unknown_table_names_its_line(tmp_path: Path) -> None:
    text = SIM + "\n[grippers]\nforce = 3\n"
    path = write(tmp_path, text)
    (finding,) = check_profile(path)
    assert finding.where == f"{path}:{line_of(text, '[grippers]')}"
    assert "unknown key 'grippers'" in finding.message


def test_missing_key_points_at_its_table(tmp_path: Path) -> None:
    path = edited(tmp_path, 'leash = "50 mm"\n', "")
    (finding,) = check_profile(path)
    assert finding.message == "key 'limits.leash' is missing"
    assert finding.where == f"{path}:{line_of(path.read_text(), '[limits]')}"


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, SIM.replace("arm_dof = 7", "arm_dof = = 7"))
    (finding,) = check_profile(path)
    assert finding.where == f"{path}:{line_of(path.read_text(), 'arm_dof')}"
    assert "not valid TOML" in finding.message


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('control_rate = "10 Hz"', "control_rate = 10", "robot.control_rate: 10 has no unit"),
        ('hand_rate = "3 rad/s"', 'hand_rate = "-3 rad/s"', "limits.hand_rate"),
        ('axis_convention = "ros"', 'axis_convention = "legacy"', "operator.axis_convention is 'legacy'"),
        ('name = "wrist"', 'name = "scene"', "expected distinct names"),
        ('{ name = "thumb_2", low = "0 rad"', '{ name = "thumb_2", low = "2 rad"', "expected low < high"),
        ('name = "thumb_2"', 'name = "thumb_1"', "hand joint thumb_1 is listed twice"),
        (
            'workspace_high = "0.72 0.35 0.5 m"',
            'workspace_high = "0.2 0.35 0.5 m"',
            "workspace in x runs from",
        ),
        ('open = "1.57 -0.32', 'open = "1.9 -0.32', "posture open puts thumb_yaw at 1.9 rad"),
        ('point = "0.60 0.50', 'point = "0.50', "posture point has 11 angles; expected 12"),
    ],
)
def test_inconsistent_profiles_are_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = edited(tmp_path, old, new)
    with pytest.raises(ConfigError, match=re.escape(says)):
        load_profile(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('leash = "50 mm"', 'leash = "90 mm"', "leash 0.09 above 0.05"),
        ('watchdog = "200 ms"', 'watchdog = "1 s"', "watchdog 1 above 0.2"),
        (
            'workspace_low = "0.25 -0.35 0.012 m"',
            'workspace_low = "0.25 -0.35 -0.1 m"',
            "workspace z -0.1..0.5 m",
        ),
    ],
)
def test_loosening_a_limit_needs_a_name(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = edited(tmp_path, old, new)
    assert any(says in f.message for f in check_profile(path) if f.level == "note")
    unsigned = re.sub(r'acknowledged_by = ".*"', 'acknowledged_by = " "', path.read_text())
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        load_profile(write(tmp_path, unsigned))
    assert "acknowledged_by" in caught.value.message


def test_hash_follows_the_numbers_and_not_the_text(tmp_path: Path) -> None:
    original = load_profile("sim").hash
    same = edited(tmp_path, 'leash = "50 mm"', '# a remark\nleash   =   "5 cm"')
    assert load_profile(same).hash == original
    other = edited(tmp_path, 'leash = "50 mm"', 'leash = "49 mm"')
    assert load_profile(other).hash != original


def test_profiles_cannot_be_changed_in_memory() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_profile("sim").limits.leash = 1.0


def test_sim_profile_equals_the_simulation() -> None:
    from bora_cli.sim import arm_hand, simulation

    profile = load_profile("sim")
    profile.action_spec.require_same(simulation.action_spec(), "sim.toml against the simulation")
    limits = profile.limits
    assert limits.workspace_low == simulation.WORKSPACE_LOW
    assert limits.workspace_high == simulation.WORKSPACE_HIGH
    assert limits.hand_rate == simulation.HAND_RATE
    assert limits.leash == simulation.LEASH
    assert limits.tcp_speed * profile.dt == pytest.approx(3**0.5 * simulation.TRANSLATION_LIMIT, rel=1e-3)
    assert limits.rotation_speed * profile.dt == pytest.approx(3**0.5 * simulation.ROTATION_LIMIT, rel=1e-3)
    assert profile.dt == simulation.Simulation.dt
    assert tuple(camera.name for camera in profile.cameras) == simulation.CAMERAS
    assert profile.postures == arm_hand.POSTURES
    assert profile.calibration.tool_point == arm_hand.TOOL_IN_HAND
