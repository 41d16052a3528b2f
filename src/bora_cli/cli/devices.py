"""Devices by name, as `bora teleop --device` knows them: NAME, NAME:WHERE, or fingers=NAME:WHERE."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bora_cli.cli import options as o
from bora_cli.errors import ConfigError

DEVICES = ("keyboard", "spacemouse", "gamepad", "udp", "replay")
FINGERS = "fingers="
"""Before the name of a device whose axes move the fingers, while another one moves the arm."""


def known_device(values: list[str] | None) -> list[str] | None:
    """Accept names of devices, with where they are behind a colon."""
    for value in values or ():
        o.known("device", DEVICES)(value.removeprefix(FINGERS).partition(":")[0])
    return values


def fingers_by(names: Sequence[str]) -> int | None:
    """Return the number of the device whose axes move the fingers, None if the axes of all move the arm."""
    marked = [number for number, name in enumerate(names) if name.startswith(FINGERS)]
    if len(marked) > 1 or (marked and len(names) == 1):
        raise ConfigError(
            f"{'Both' if len(marked) == 2 else 'All'} devices move the fingers ({', '.join(names)});"
            " expected one for the arm and one for them.",
            "As in --device spacemouse:/dev/hidraw3 --device fingers=spacemouse:/dev/hidraw4.",
        )
    return marked[0] if marked else None


Names = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="NAME[:WHERE]",
        help=f"{o.choice(DEVICES)}.",
        callback=known_device,
        show_default=False,
    ),
]

GRIPS, TAKES_OVER = "grip", "takeover"


def pedals(values: Sequence[str] | None, *, beside_policy: bool) -> dict[str, str]:
    """Return what the keys of pedals ask for, from KEY, grip=KEY or takeover=KEY.

    beside_policy: whether there is a policy that can be taken over from.  Raises ConfigError for what is no key, for a
    key that means something else, and for a take-over from nobody.
    """
    from bora_cli.evaluate.teleoperate import SESSION_KEYS
    from bora_cli.input.device import GRIP, TAKE_OVER

    taken = {**SESSION_KEYS, "-": "smaller steps", "=": "larger steps"}
    found: dict[str, str] = {}
    for value in values or ():
        what, equals, key = value.rpartition("=") if len(value) > 1 else (GRIPS, "=", value)
        if what not in (GRIPS, TAKES_OVER) or not equals or len(key) != 1:
            raise ConfigError(
                f"--pedal '{value}' is not one key.",
                "Name the key that the pedal sends, such as b, or takeover=b.",
            )
        if key in taken or (key == "t" and what == GRIPS):
            raise ConfigError(
                f"--pedal {value}: the key '{key}' means '{taken.get(key, TAKE_OVER)}' already.",
                "Let the pedal send another one.",
            )
        if key in found:
            raise ConfigError(f"--pedal {value}: the key '{key}' is given twice.", "One pedal, one key.")
        if what == TAKES_OVER and not beside_policy:
            raise ConfigError(
                f"--pedal {value}: nobody takes over here.",
                "Leave it out, or help a policy: with `bora online` and --device, or `bora robot online`.",
            )
        found[key] = TAKE_OVER if what == TAKES_OVER else GRIP
    return found


Pedals = Annotated[
    list[str] | None,
    typer.Option("--pedal", metavar="KEY", help="Pedal that grips; or takeover=KEY.", show_default=False),
]

Token = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Secret shared with a udp sender.", show_default=False),
]


@contextmanager
def opened(
    names: Sequence[str],
    keyboard: Any,
    hardware: Any,
    token: Path | None = None,
    *,
    beside_policy: bool = False,
) -> Iterator[tuple[Any, ...]]:
    """Open devices and close them in the end.

    keyboard: `bora_cli.input.keyboard.Keyboard`.  hardware: the profile.  beside_policy: whether a recording is to
    take over and hand back, rather than to drive all the time.
    """
    devices: list[Any] = []
    try:
        for name in names:
            devices.append(_open(name.removeprefix(FINGERS), keyboard, hardware, token, beside_policy))
        if keyboard not in devices:  # for the hand, postures and a pedal
            devices.append(keyboard)
        yield tuple(devices)
    finally:
        for device in devices:
            device.close()


def _open(value: str, keyboard: Any, hardware: Any, token: Path | None, beside_policy: bool) -> Any:
    name, _, where = value.partition(":")
    if name == "spacemouse":
        from bora_cli.input.mapping import Shaping
        from bora_cli.input.spacemouse_open import open_spacemouse

        return open_spacemouse(
            where,
            clock=time.monotonic,
            sleep=time.sleep,
            shaping=Shaping.with_dead_band(hardware.operator.dead_band),
            stale_s=hardware.limits.device_trust,
        )
    if name == "gamepad":
        from bora_cli.input.gamepad import open_gamepad

        if where and not where.isdecimal():
            raise ConfigError(f"--device gamepad:{where} is not a number.", "Write gamepad, or gamepad:0.")
        return open_gamepad(int(where) if where else None)
    if name == "udp":
        return _udp(where, len(hardware.hand.joints), token)
    if name == "replay":
        return _replay(where, beside_policy)
    return keyboard


def _udp(where: str, joints: int, token: Path | None) -> Any:
    from bora_cli.input.udp import LOOPBACK, PORT, UdpReceiver

    host, _, port = where.rpartition(":")
    if port and not port.isdecimal():
        raise ConfigError(f"--device udp:{where} has no port.", "Write udp, udp:PORT or udp:HOST:PORT.")
    try:
        secret = token.read_bytes().strip() if token is not None else b""
    except OSError as error:
        raise ConfigError(
            f"--token-file {token} cannot be read: {error.strerror}.", "Name a file that exists."
        ) from error
    return UdpReceiver(
        host.strip("[]") or LOOPBACK, int(port or PORT), token=secret, joints=joints, clock=time.monotonic
    )


def _replay(where: str, takes_over: bool) -> Any:
    from bora_cli.data.dataset import Dataset
    from bora_cli.input.replay import Replay

    path, _, number = where.rpartition("#")
    if not path or not number.isdecimal():
        raise ConfigError(
            f"--device replay:{where} names no episode.", "Write replay:DIR#N, such as replay:mine#0."
        )
    o.require_datasets([Path(path)])
    dataset = Dataset.open(path)
    human = dataset.episode(int(number), images=False).human
    return Replay(human, dataset.spec, name=f"replay {where}", takes_over=takes_over)
