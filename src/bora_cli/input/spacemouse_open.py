"""Which SpaceMouse to open, and what to say if there is none.

pyspacemouse's own `open` prints to stdout, quietly takes another device where the one asked for is missing, and ends
in an AttributeError where hidapi is missing; so the search is here, and only its parser and its tables are used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bora_cli.errors import ConfigError, DeviceError, DevicePermission, MissingSystemLibrary, NoDevice
from bora_cli.input.mapping import Shaping
from bora_cli.input.spacemouse import STALE_S, SpaceMouse

RECEIVER, RECEIVER_INTERFACE = "UniversalReceiver", 1
"""This receiver shows several interfaces; the cap reports on one of them."""
UDEV = "Save what `bora profile udev` prints in /etc/udev/rules.d, then plug it in again."


@dataclass(frozen=True)
class Found:
    """A SpaceMouse that is connected: model as pyspacemouse names it, path of its node, whether it may be opened."""

    model: str
    path: str
    allowed: bool
    info: Any
    handle: Any


def find_spacemice() -> tuple[list[Found], list[str]]:
    """Return the SpaceMice that are connected, and the names of all other input devices that were seen.

    Raises ConfigError where pyspacemouse is not installed, MissingSystemLibrary where hidapi is not.
    """
    try:
        from easyhid import Enumeration
        from pyspacemouse import get_device_specs
    except ImportError as error:
        raise ConfigError(
            f"The package pyspacemouse cannot be imported ({error}).",
            "Run `pip install 'bora-cli[spacemouse]'`.",
        ) from error
    try:
        seen = Enumeration().device_list
    except (AttributeError, OSError) as error:
        raise MissingSystemLibrary(
            "The system library hidapi cannot be loaded, so no SpaceMouse can be read.",
            "Install libhidapi-hidraw0 (Debian, Ubuntu) or hidapi (Homebrew).",
        ) from error
    models = {(spec.vendor_id, spec.product_id): (name, spec) for name, spec in get_device_specs().items()}
    found, others = [], []
    for handle in seen:
        name, spec = models.get((handle.vendor_id, handle.product_id), ("", None))
        if spec is None:
            others.append(handle.product_string or f"{handle.vendor_id:04x}:{handle.product_id:04x}")
        else:
            node = Path(handle.path)
            allowed = not node.exists() or os.access(node, os.R_OK | os.W_OK)
            found.append(Found(name, handle.path, allowed, spec, handle))
    receivers = [f for f in found if f.model == RECEIVER]
    reporting = [f for f in receivers if f.handle.interface_number == RECEIVER_INTERFACE]
    if reporting:
        found = [f for f in found if f not in receivers or f in reporting]
    return found, sorted(set(others))


def choose_spacemouse(path: str, found: list[Found], others: list[str]) -> Found:
    """Return the device at a path (links are followed), or the only one.

    Raises NoDevice if it is not there or not the only one, DevicePermission if it may not be opened.
    """
    if path:
        wanted = Path(path).resolve()
        matching = [f for f in found if Path(f.path).resolve() == wanted]
        if not matching:
            there = ", ".join(f"{f.path} ({f.model})" for f in found) or "none"
            raise NoDevice(
                f"There is no SpaceMouse at {path}; connected are: {there}.", "Give one of these paths."
            )
        found = matching
    if not found:
        seen = f"other devices seen: {', '.join(others)}" if others else "no input device was seen at all"
        raise NoDevice(f"No SpaceMouse is connected; {seen}.", "Plug one in, or give --device keyboard.")
    if len(found) > 1:
        there = ", ".join(f"{f.path} ({f.model})" for f in found)
        raise NoDevice(
            f"{len(found)} SpaceMice are connected: {there}.",
            f"Say which: --device spacemouse:{found[0].path}",
        )
    if not found[0].allowed:
        raise DevicePermission(f"{found[0].path} ({found[0].model}) is there, but you may not open it.", UDEV)
    return found[0]


def open_spacemouse(
    path: str,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    shaping: Shaping | None = None,
    stale_s: float = STALE_S,
) -> SpaceMouse:
    """Open a SpaceMouse, learn its rest, and begin to read it.

    path: of its node, "" for the only one.  stale_s: as of `SpaceMouse`.
    Raises DeviceError, its kinds, and ConfigError with what to do.
    """
    found, others = find_spacemice()
    chosen = choose_spacemouse(path, found, others)
    try:
        mouse = SpaceMouse(
            chosen.info,
            chosen.handle,
            clock=clock,
            shaping=shaping,
            stale_s=stale_s,
            name=f"spacemouse {chosen.model}",
        )
    except RuntimeError as error:
        raise DeviceError(f"{chosen.path} ({chosen.model}) cannot be opened: {error}.", UDEV) from error
    try:
        mouse.settle(sleep)
    except DeviceError:
        mouse.close()
        raise
    mouse.start()
    return mouse
