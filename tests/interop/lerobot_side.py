"""What LeRobot does in the comparison; runs in an interpreter of its own that knows nothing of bora.

lerobot_side.py read DATASET OUT.npz CHUNK      read every tick with delta_timestamps, write what came
lerobot_side.py write DATASET SPEC.npz CODEC    record the episodes of SPEC ("png" or a video codec)
"""

from __future__ import annotations

import inspect
import json
import sys

import lerobot
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CAMERAS = ("observation.images.scene", "observation.images.wrist")


def read(root: str, out: str, chunk: int) -> None:
    """Write columns over all ticks: states, action chunks, padding, images, tasks."""
    plain = LeRobotDataset("local/dataset", root=root, video_backend="pyav")
    times = [i / plain.fps for i in range(chunk)]
    found = LeRobotDataset(
        "local/dataset", root=root, video_backend="pyav", delta_timestamps={"action": times}
    )
    items = [found[i] for i in range(len(found))]
    columns = {
        name: np.stack([item[name].numpy() for item in items])
        for name in (
            "observation.state",
            "action",
            "action_is_pad",
            "action.human",
            "action.residual",
            "wall_ns",
            "monotonic_ns",
            "episode_index",
            *CAMERAS,
        )
    }
    columns["next.done"] = np.array([bool(item["next.done"]) for item in items])
    columns["intervention"] = np.array([bool(item["intervention"]) for item in items])
    columns["mean"] = np.asarray(found.meta.stats["action"]["mean"])
    tasks = np.array([item["task"] for item in items])
    np.savez(out, tasks=tasks, episodes=np.array(found.num_episodes), **columns)


def write(root: str, spec: str, codec: str) -> None:
    """Record the episodes in `spec`: arrays state-K, action-K, scene-K, wrist-K, task-K for K = 0 .."""
    made = dict(np.load(spec))
    episodes = sum(name.startswith("state-") for name in made)
    kind = "image" if codec == "png" else "video"
    features = {
        "observation.state": {"dtype": "float32", "shape": (made["state-0"].shape[1],), "names": None},
        "action": {"dtype": "float32", "shape": (made["action-0"].shape[1],), "names": None},
    }
    names = ["height", "width", "channels"]
    for camera in CAMERAS:
        shape = made["scene-0"].shape[1:]
        features[camera] = {"dtype": kind, "shape": shape, "names": names}
    dataset = LeRobotDataset.create(
        "local/dataset", fps=10, features=features, root=root, use_videos=codec != "png", **encoder(codec)
    )
    for k in range(episodes):
        for t in range(len(made[f"state-{k}"])):
            dataset.add_frame(
                {
                    "observation.state": made[f"state-{k}"][t],
                    "action": made[f"action-{k}"][t],
                    CAMERAS[0]: made[f"scene-{k}"][t],
                    CAMERAS[1]: made[f"wrist-{k}"][t],
                    "task": str(made[f"task-{k}"]),
                }
            )
        dataset.save_episode()
    dataset.finalize()


def encoder(codec: str) -> dict[str, object]:
    """Return the argument that chooses the codec, which differs between versions."""
    if codec == "png":
        return {}
    if "vcodec" in inspect.signature(LeRobotDataset.create).parameters:
        return {"vcodec": codec}
    from lerobot.configs.video import RGBEncoderConfig

    return {"rgb_encoder": RGBEncoderConfig(vcodec=codec)}


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "read":
        read(rest[0], rest[1], int(rest[2]))
    else:
        write(rest[0], rest[1], rest[2])
    print(json.dumps({"lerobot": lerobot.__version__}))
