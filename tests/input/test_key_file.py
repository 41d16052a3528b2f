"""Keys that come from another process: from now on, those about the episode, and none that moves a robot."""

from __future__ import annotations

from pathlib import Path

from bora_cli.input.key_file import KeyFile, press


def test_keys_are_heard_once_and_none_from_before(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    press(path, "q")
    keys = KeyFile(path, clock=lambda: 5.0)
    keys.close()  # look by hand
    press(path, "y")
    press(path, "z")
    keys.look()
    assert [(key.key, key.t) for key in keys.poll()] == [("y", 5.0), ("z", 5.0)]
    keys.look()
    assert keys.poll() == []


def test_what_moves_a_robot_is_not_a_key_of_the_console(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    keys = KeyFile(path)
    keys.close()
    path.write_bytes(b"w\nspace\n\xff\xfe\nenter\nn")
    keys.look()
    assert [key.key for key in keys.poll()] == ["enter"]
    press(path, "")  # the end of the line
    keys.look()
    assert [key.key for key in keys.poll()] == ["n"]


def test_a_thread_looks(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    keys = KeyFile(path)
    press(path, "t")
    heard = []
    while not heard:
        heard = keys.poll()
    keys.close()
    assert heard[0].key == "t"
