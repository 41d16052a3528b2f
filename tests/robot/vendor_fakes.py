"""The call surfaces of three makers, as far as our examples use them: they record, move at once, and can fail.

Names, arguments and units are those of franky-control 2.0.0, of pyzlg_dexhand's dexhand_interface.py, and of pymodbus.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from bora_cli.robot.frames import quaternion_of
from robot_fakes import DOWN, MIDDLE, FakeClock


class ControlException(Exception):
    """franky.ControlException."""


@dataclass
class Affine:
    """franky.Affine(translation, quaternion)."""

    translation: Any
    quaternion: Any


@dataclass
class CartesianMotion:
    target: Affine
    return_when_finished: bool = True


@dataclass
class CartesianStopMotion:
    relative_dynamics_factor: float = 1.0


class Limit:
    """A dynamics limit, which cannot be set in motion."""

    def __init__(self, robot: FrankyRobot) -> None:
        self.robot = robot
        self.value: float | list[float] = math.inf

    def set(self, value: float | list[float]) -> None:
        if self.robot.is_in_control:
            raise RuntimeError("cannot write while in control")
        self.value = value


class FrankyRobot:
    """franky.Robot: goes at once where it is sent."""

    def __init__(self, tool_point: np.ndarray) -> None:
        self.pose = Affine(MIDDLE - DOWN @ tool_point, quaternion_of(DOWN))
        self.is_in_control = self.has_errors = self.recovers = False
        self.calls: list[Any] = []
        self.fails: Exception | None = None
        for kind in ("translation", "rotation"):
            for order in ("velocity", "acceleration", "jerk"):
                setattr(self, f"{kind}_{order}_limit", Limit(self))
        self.joint_velocity_limit = Limit(self)
        self.current_joint_positions = np.array(
            [[0.0], [-0.35], [0.0], [-2.35], [0.0], [2.0], [0.785]]
        )  # a column

    @property
    def current_pose(self) -> Any:
        column = np.asarray(self.pose.translation).reshape(3, 1)  # as the real one does
        return SimpleNamespace(
            end_effector_pose=SimpleNamespace(
                translation=column, quaternion=np.asarray(self.pose.quaternion).reshape(4, 1)
            )
        )

    def move(self, motion: Any, asynchronous: bool = False) -> None:
        assert asynchronous, "a motion that is waited for would stop the control loop"
        self.calls.append(motion)
        if self.fails is not None:
            raise self.fails
        self.is_in_control = isinstance(motion, CartesianMotion)
        if isinstance(motion, CartesianMotion):
            assert abs(np.linalg.norm(motion.target.quaternion) - 1) < 1e-9
            self.pose = motion.target

    def poll_motion(self) -> bool:
        if self.fails is not None:
            raise self.fails
        return bool(self.is_in_control)

    def recover_from_errors(self) -> bool:
        self.calls.append("recover")
        self.has_errors = not self.recovers
        return bool(self.recovers)

    def stop(self) -> None:
        self.calls.append("stop")
        self.is_in_control = False


FRANKY = SimpleNamespace(
    Affine=Affine,
    CartesianMotion=CartesianMotion,
    CartesianStopMotion=CartesianStopMotion,
    ControlException=ControlException,
)
BOARDS = (("th_dip", "th_mcp"), ("th_rot", "ff_spr"), *((f"{f}f_dip", f"{f}f_mcp") for f in "fmrl"))
DEX_JOINTS = [joint for board in BOARDS for joint in board]


@dataclass
class DexHand:
    """pyzlg_dexhand's hand: degrees, boards that report every 10 ms, failures only in its log."""

    clock: FakeClock
    angles: dict[str, float] = field(default_factory=lambda: dict.fromkeys(DEX_JOINTS, math.nan))
    calls: list[tuple[str, Any]] = field(default_factory=list)
    errors: dict[int, Any] = field(default_factory=dict)
    mute: set[int] = field(default_factory=set)
    opens: bool = True
    powered: bool = True
    board_states: dict[int, Any] = field(
        default_factory=lambda: {i: SimpleNamespace(feedback_timestamp=0) for i in range(6)}
    )

    def init(self, device_index: int = 0) -> bool:
        return self.opens

    def set_feedback_mode(self, mode: Any, period_ms: int, enable: bool) -> bool:
        self.calls.append(("feedback", (mode, period_ms, enable)))
        if self.powered:
            self.angles = dict.fromkeys(DEX_JOINTS, 0.0)
        return True

    def clear_errors(self, clear_all: bool = False) -> None:
        self.calls.append(("clear", clear_all))

    def move_joints(self, **degrees: float) -> None:
        assert set(degrees) <= set(DEX_JOINTS), "move_joints has no other arguments"
        self.calls.append(("move", degrees))
        self.angles |= degrees

    def get_feedback(self) -> Any:
        for board, state in self.board_states.items():
            if board not in self.mute:
                state.feedback_timestamp = round(self.clock.t * 1e6)
        return SimpleNamespace(joints={name: SimpleNamespace(angle=x) for name, x in self.angles.items()})

    def get_errors(self) -> dict[int, Any]:
        return {board: self.errors.get(board) for board in range(6)}

    def close(self) -> None:
        self.calls.append(("close", None))


@dataclass
class Modbus:
    """pymodbus' ModbusTcpClient with an Inspire hand behind it."""

    registers: dict[int, int] = field(
        default_factory=lambda: {1546 + i: 1000 for i in range(6)} | {1606 + i: 0 for i in range(3)}
    )
    calls: list[tuple[int, list[int]]] = field(default_factory=list)
    broken: bool = False
    refuses: bool = False
    closed: bool = False

    def write_registers(self, address: int, values: list[int]) -> Any:
        if self.broken:
            raise ConnectionError("gone")
        assert all(isinstance(value, int) and 0 <= value <= 0xFFFF for value in values)
        self.calls.append((address, values))
        self.registers |= {address + i: value for i, value in enumerate(values)}
        if address == 1486:
            self.registers |= {1546 + i: value for i, value in enumerate(values)}
        return SimpleNamespace(isError=lambda: self.refuses)

    def read_holding_registers(self, address: int, *, count: int) -> Any:
        if self.broken:
            raise ConnectionError("gone")
        values = [self.registers[address + i] for i in range(count)]
        return SimpleNamespace(isError=lambda: self.refuses, registers=values)

    def close(self) -> None:
        self.closed = True


# -------------------------------------------------------------------------------------------- pyrealsense2


class RealSenses:
    """The part of pyrealsense2 that is used: `frames` are images with their arrival (s since 1970) that wait."""

    stream = SimpleNamespace(color="color")
    format = SimpleNamespace(rgb8="rgb8")
    frame_metadata_value = SimpleNamespace(time_of_arrival="time of arrival")

    def __init__(self) -> None:
        self.frames: list[tuple[Any, float]] = []
        self.calls: list[Any] = []
        self.broken = False

    def config(self) -> Any:
        calls = self.calls
        return SimpleNamespace(
            enable_device=lambda serial: calls.append(("device", serial)),
            enable_stream=lambda *given: calls.append(("stream", *given)),
        )

    def pipeline(self) -> Any:
        return SimpleNamespace(
            start=lambda config: self._alive("start"),
            stop=lambda: self.calls.append("stop"),
            wait_for_frames=lambda timeout_ms: self._frames(),
            poll_for_frames=self._frames,
        )

    def _alive(self, what: str) -> None:
        self.calls.append(what)
        if self.broken:
            raise RuntimeError("No device connected")

    def _frames(self) -> Any:
        self._alive("poll")
        frame = _Frame(*self.frames.pop(0)) if self.frames else None
        return SimpleNamespace(get_color_frame=lambda: frame)


class _Frame:
    def __init__(self, image: Any, arrival: float) -> None:
        self._image, self._arrival = image, arrival

    def get_data(self) -> Any:
        return self._image

    def supports_frame_metadata(self, what: str) -> bool:
        return self._arrival > 0

    def get_frame_metadata(self, what: str) -> float:
        return 1e3 * self._arrival
