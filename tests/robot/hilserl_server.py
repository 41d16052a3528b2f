"""An HTTP server that answers as HIL-SERL's franka_server.py does, with an arm that is at once where it is sent."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gantry import DOWN, START

from bora_cli.robot.frames import quaternion_of


class HilSerl:
    """The server; calls: verbs with their bodies.  broken: a verb that answers 500.  silent: answers nothing useful."""

    def __init__(self) -> None:
        self.pose = [*START.tolist(), *quaternion_of(DOWN).tolist()]
        self.gripper_pos = 1.0
        self.calls: list[tuple[str, Any]] = []
        self.broken = self.silent = ""
        lab = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code, answer = lab.answer(self.path, body)
                self.send_response(code)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, path: str, body: Any) -> tuple[int, bytes]:
        self.calls.append((path, body))
        if path == self.broken:
            return 500, b"Internal Server Error"
        if path == "/pose":
            self.pose = list(body["arr"])
            return 200, b"Moved"
        if path == "/move_gripper":
            self.gripper_pos = 1 - int(body["gripper_pos"]) / 255
            return 200, b"Moved Gripper"
        if path == "/clearerr":
            return 200, b"Clear"
        if path == "/getstate":
            zeros: dict[str, Any] = {
                "vel": [0.0] * 6,
                "force": [0.0] * 3,
                "torque": [0.0] * 3,
                "q": [0.0] * 7,
            }
            state = {**zeros, "dq": [0.0] * 7, "pose": self.pose, "gripper_pos": self.gripper_pos}
            return 200, b"<html>" if self.silent else json.dumps(state).encode()
        return 404, b"Not Found"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
