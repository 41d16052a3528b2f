"""Devices by name, as `bora teleop --device` knows them: NAME, or NAME:WHERE."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from bora_cli.cli import options as o

DEVICES = ("keyboard", "spacemouse")


def known_device(values: list[str] | None) -> list[str] | None:
    """Accept names of devices, with where they are behind a colon."""
    for value in values or ():
        o.known("device", DEVICES)(value.partition(":")[0])
    return values


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


@contextmanager
def opened(names: Sequence[str], keyboard: Any, hardware: Any) -> Iterator[tuple[Any, ...]]:
    """Open devices and close them in the end.

    keyboard: `bora_cli.input.keyboard.Keyboard`.  hardware: the profile.
    """
    devices: list[Any] = []
    try:
        for name in names:
            devices.append(_open(name, keyboard, hardware))
        if keyboard not in devices:  # for the hand, postures and a pedal
            devices.append(keyboard)
        yield tuple(devices)
    finally:
        for device in devices:
            device.close()


def _open(value: str, keyboard: Any, hardware: Any) -> Any:
    name, _, where = value.partition(":")
    if name == "spacemouse":
        from bora_cli.input.mapping import Shaping
        from bora_cli.input.spacemouse_open import open_spacemouse

        shaping = Shaping.with_dead_band(hardware.operator.dead_band)
        return open_spacemouse(where, clock=time.monotonic, sleep=time.sleep, shaping=shaping)
    return keyboard
