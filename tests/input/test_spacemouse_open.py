"""Which device is opened, and what is said where none can be."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import easyhid
import pytest
from hid import MODELS, FakeHid

from bora_cli.errors import ConfigError, DeviceError, DevicePermission, MissingSystemLibrary, NoDevice
from bora_cli.input.spacemouse_open import open_spacemouse


class Node(FakeHid):
    def __init__(self, model: str | None, path: str, interface: int = 0, product: str = "cap") -> None:
        super().__init__()
        spec = MODELS[model] if model else None
        self.vendor_id, self.product_id = (spec.vendor_id, spec.product_id) if spec else (1, 2)
        self.path, self.interface_number, self.product_string = path, interface, product


def plugged(monkeypatch: pytest.MonkeyPatch, *nodes: Any) -> None:
    monkeypatch.setattr(easyhid, "Enumeration", lambda: SimpleNamespace(device_list=list(nodes)))


def opened(path: str = "") -> Any:
    return open_spacemouse(path, clock=time.monotonic, sleep=lambda s: None)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bora_cli.input.spacemouse.SETTLE_S", 0.0)
    monkeypatch.setattr("bora_cli.input.spacemouse.SpaceMouse.settle", lambda self, sleep: None)


def test_the_only_one_is_taken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    node = Node("SpaceMouseCompact", "/dev/none0")
    plugged(monkeypatch, Node(None, "/dev/none1", product="a keyboard"), node)
    mouse = opened()
    assert (mouse.name, node.opened) == ("spacemouse SpaceMouseCompact", 1)
    mouse.close()
    assert capsys.readouterr().out == ""


def test_of_two_one_has_to_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    (tmp_path / "left").symlink_to(tmp_path / "b")
    second = Node("SpaceMousePro", str(tmp_path / "b"))
    plugged(monkeypatch, Node("SpaceMouseCompact", str(tmp_path / "a")), second)
    with pytest.raises(
        NoDevice, match=r"2 SpaceMice are connected: .*a \(SpaceMouseCompact\).*--device spacemouse:"
    ):
        opened()
    mouse = opened(str(tmp_path / "left"))
    assert (mouse.name, second.opened) == ("spacemouse SpaceMousePro", 1)
    mouse.close()
    with pytest.raises(NoDevice, match=r"no SpaceMouse at /dev/other; connected are: .*SpaceMousePro"):
        opened("/dev/other")


def test_of_a_receiver_the_interface_that_reports_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Node("UniversalReceiver", f"/dev/none{i}", i) for i in range(5)]
    plugged(monkeypatch, *nodes)
    mouse = opened()
    assert [node.opened for node in nodes] == [0, 1, 0, 0, 0]
    mouse.close()


def test_nothing_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    plugged(monkeypatch)
    with pytest.raises(
        NoDevice, match=r"no input device was seen at all\. Plug one in, or give --device keyboard"
    ):
        opened()
    plugged(monkeypatch, Node(None, "/dev/none1", product="a pen"), Node(None, "/dev/none2", product=""))
    with pytest.raises(NoDevice, match=r"other devices seen: 0001:0002, a pen"):
        opened()


def test_no_permission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "node").touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    plugged(monkeypatch, Node("SpaceMouseCompact", str(tmp_path / "node")))
    with pytest.raises(
        DevicePermission, match=r"SpaceMouseCompact\) is there, but you may not open it.*bora profile udev"
    ):
        opened()


def test_a_node_that_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node("SpaceMouseCompact", "/dev/none0")
    monkeypatch.setattr(node, "open", lambda: (_ for _ in ()).throw(easyhid.HIDException("no")))
    plugged(monkeypatch, node)
    with pytest.raises(DeviceError, match="cannot be opened: Failed to open device"):
        opened()


def test_without_hidapi(monkeypatch: pytest.MonkeyPatch) -> None:
    def enumeration() -> None:
        raise AttributeError("undefined symbol: hid_enumerate")

    monkeypatch.setattr(easyhid, "Enumeration", enumeration)
    with pytest.raises(MissingSystemLibrary, match=r"hidapi cannot be loaded.*libhidapi-hidraw0"):
        opened()


def test_without_pyspacemouse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspacemouse", None)
    with pytest.raises(ConfigError, match=r"cannot be imported.*pip install 'bora-cli\[spacemouse\]'"):
        opened()
