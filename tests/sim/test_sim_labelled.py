"""Labelled scenes: nothing held out is ever shown, labels are true, and the instruction decides."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from bora_cli.seeds import stream
from bora_cli.sim.arm_hand import ArmKinematics
from bora_cli.sim.labelled_language import COLOUR_NAMES, FREE, NOUNS, VOCABULARY, say, side_of
from bora_cli.sim.labelled_objects import INVENTED, allowed_interval
from bora_cli.sim.labelled_scenes import ANSWERS, LABEL_NAMES, LabelledScenes, compose, labelled_scenes
from bora_cli.sim.labelled_states import Composition, LabelledScene
from bora_cli.sim.labels import FAR_M, ORIGIN, image_point, label
from bora_cli.sim.render import Renderer
from bora_cli.sim.scene import draw_layout
from bora_cli.sim.tasks import TASKS
from bora_cli.sim.variation import HELD_OUT_COLOURS, HUES, TABLE, name_colour

SAMPLES = 500
UPRIGHT = (1.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def data() -> LabelledScenes:
    with Renderer("rays") as renderer:
        return labelled_scenes(800_000, 100, 3, renderer)


@pytest.fixture(scope="module")
def compositions() -> list[Composition]:
    return [compose(stream("labelled", 899_999, i)) for i in range(SAMPLES)]


def inside(value: float, intervals: tuple[tuple[float, float], ...]) -> bool:
    return any(low <= value <= high for low, high in intervals)


def test_nothing_held_out_is_ever_shown(compositions: list[Composition]) -> None:
    kinds = set()
    for composition in compositions:
        for task, item in composition.objects:
            kinds.add((task, item.kind))
            assert item.kind in (*TABLE[task].kinds["standard"], INVENTED)
            for name, ranges in TABLE[task].sizes.items():
                size = item.half_width / 0.026 if name == "scale" else getattr(item, name)
                assert not inside(size, ranges["unseen"])
            for rgb in (item.palette.main, item.palette.second, item.palette.light):
                hue, saturation, _ = colorsys.rgb_to_hsv(*rgb)
                assert saturation < 0.06 or not inside(hue, HUES["held_out"])
        look = composition.appearance
        for rgb in (look.table, look.wall, look.floor):
            assert not inside(colorsys.rgb_to_hsv(*rgb)[0], HUES["held_out"])
    expected = {(task, k) for task in TASKS for k in (*TABLE[task].kinds["standard"], INVENTED)}
    assert kinds == expected


def test_invented_objects_keep_the_plan_of_what_is_not_held_out(compositions: list[Composition]) -> None:
    """No long body or raised head (dachshund, duck), no long ears (rabbit), two posts, no round housing, no
    egg, prism, corner or bowl, no high box and no round or slanted slot."""
    for composition in compositions:
        for task, item in composition.objects:
            if item.kind != INVENTED:
                continue
            if task == "pick_toy":
                trunk, head, *_ = item.parts
                assert trunk.size[1] < 1.6 * item.half_width
                assert head.pos[2] < 0.5 * item.half_width
                tops = [p.pos[2] + p.size[-1] for p in item.parts if p.fromto is None]
                assert max(tops) < 2.1 * item.half_width
            elif task == "open_box":
                assert sum(part.shape == "capsule" and part.role == "dark" for part in item.handle) >= 2
            elif task == "press_button":
                assert {part.shape for part in item.housing} == {"box"}
                assert all(part.quat == UPRIGHT for part in item.housing)
            elif task == "pick_place":
                solid = [part for part in item.parts if part.solid]
                assert len(solid) <= 2
                assert all(part.shape in ("box", "cylinder") and part.pos[:2] == (0, 0) for part in solid)
                assert all(part.quat == UPRIGHT for part in solid)
            else:
                assert item.height < 2 * min(item.half_length, item.half_width)
                assert item.slant == 0
                slot = next(part for part in item.parts if part.role == "dark")
                assert slot.shape == "ellipsoid"


@pytest.mark.parametrize(("task", "name"), [(t, n) for t in TASKS for n in TABLE[t].sizes])
def test_invented_sizes_widen_the_standard_ones_but_stop_before_held_out_ones(task: str, name: str) -> None:
    low, high = allowed_interval(task, name)
    ranges = TABLE[task].sizes[name]
    assert all(low < a and b < high for a, b in ranges["standard"])
    assert all(b < low or a > high for a, b in ranges["unseen"])


def test_objects_of_one_kind_differ_in_the_name_of_their_colour(compositions: list[Composition]) -> None:
    crowds = 0
    for composition in compositions:
        for task in TASKS:
            names = [name_colour(i.palette.main) for t, i in composition.objects if t == task]
            crowds += len(names) > 1
            assert len(set(names)) == len(names)
    assert crowds > SAMPLES // 20


def test_shapes_types_and_scales(data: LabelledScenes) -> None:
    n = 300
    assert {k: (v.shape, v.dtype) for k, v in data.images.items()} == {
        c: ((n, 64, 64, 3), np.dtype(np.uint8)) for c in ("scene", "wrist")
    }
    assert data.state.shape == (n, 33)
    assert data.labels.shape == data.label_mask.shape == (n, len(LABEL_NAMES))
    assert data.labels.dtype == data.state.dtype == np.float32
    assert len(data.prompt) == len(data.question) == len(data.answer) == n
    assert np.isfinite(data.labels).all()
    assert np.abs(data.labels).max() < 6.0
    assert (data.labels[~data.label_mask] == 0.0).all()
    varied = [np.ptp(data.labels[data.label_mask[:, i], i]) for i in range(len(LABEL_NAMES))]
    assert min(varied) > 0.5


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(data: LabelledScenes) -> None:
    with Renderer("rays") as renderer:
        again = labelled_scenes(800_000, 2, 3, renderer)
        other = labelled_scenes(800_001, 2, 3, renderer)
    assert again.prompt == data.prompt[:6]
    assert again.answer == data.answer[:6]
    for camera, images in again.images.items():
        assert np.array_equal(images, data.images[camera][:6])
    assert np.array_equal(again.labels, data.labels[:6])
    assert not np.array_equal(other.labels, again.labels)


def test_every_word_is_in_the_vocabulary_and_every_answer_in_the_list(data: LabelledScenes) -> None:
    spoken = {word for text in (*data.prompt, *data.question, *data.answer) for word in text.split()}
    assert spoken <= set(VOCABULARY)
    assert set(data.answer) <= set(ANSWERS)
    for setting in ("standard", "unseen"):
        for task in TASKS:
            for seed in range(610_300, 610_315):
                item = draw_layout(task, setting, seed).item
                for text in TASKS[task].instructions(item):
                    assert set(text.split()) <= set(VOCABULARY)
    assert not spoken & {*HELD_OUT_COLOURS, "prism", "egg", "corner", "bowl"}
    assert {"yes", "no", "left", "right"} <= set(data.answer)
    assert len(set(data.question)) > 20


def test_labels_agree_with_proprioception(data: LabelledScenes) -> None:
    columns = {name: i for i, name in enumerate(LABEL_NAMES)}
    for i, axis in enumerate("xyz"):
        target = data.labels[:, columns[f"target_{axis}"]] * FAR_M + ORIGIN[i]
        relative = data.labels[:, columns[f"relative_{axis}"]] * FAR_M
        assert np.allclose(target - relative, data.state[:, i], atol=1e-5)
    first, second = data.state[:, 3:6], data.state[:, 6:9]
    assert np.allclose(np.linalg.norm(first, axis=1), 1.0, atol=1e-5)
    assert np.allclose((first * second).sum(axis=1), 0.0, atol=1e-5)
    flags = data.labels[:, [columns[f"is_{noun}"] for noun in NOUNS.values()]]
    assert (flags.sum(axis=1) == 1.0).all()


def test_the_instruction_decides_what_the_labels_are_about() -> None:
    """The same picture twice: only the named object changes, and with it colour and position."""
    found = 0
    for i in range(200):
        composition = compose(stream("labelled", 800_002, i))
        tasks = [task for task, _ in composition.objects]
        if len(tasks) < 2 or len(set(tasks)) > 1:
            continue
        found += 1
        for target in range(2):
            rng = stream("test", i)
            scene = LabelledScene(composition, ArmKinematics())
            scene.draw(rng)
            scene.target = target
            item = composition.objects[target][1]
            values = label(scene.situation())
            assert np.allclose(
                [values[c] for c in ("red", "green", "blue")], 2 * np.array(item.palette.main) - 1
            )
            seen = scene.seen()
            words = say(rng, seen, target).split()
            side, noun = side_of(seen, target), seen[target].noun
            colours = [w for w in words if w in COLOUR_NAMES]
            assert colours in ([], [name_colour(item.palette.main)])
            by_noun = noun in words and sum(o.noun == noun for o in seen) == 1
            assert colours or side in words or by_noun
        if found == 12:
            break
    assert found == 12


def test_the_image_point_shows_the_object() -> None:
    """Where the labels say that the cap is, the scene image has the cap's hue."""
    right = total = 0
    with Renderer("rays") as renderer:
        for i in range(240):
            composition = compose(stream("labelled", 800_003, i))
            if [task for task, _ in composition.objects] != ["press_button"]:
                continue
            scene = LabelledScene(composition, ArmKinematics())
            scene.draw(stream("test", i))
            now = scene.situation()
            if np.linalg.norm(now.target - now.tool) < 0.15:
                continue
            image = renderer.images(scene.model, scene.data, ("scene",), 64)["scene"]
            point = image_point(now.views["scene"], now.target)
            assert point is not None
            row, column = int((1 - point[1]) * 32), int((1 + point[0]) * 32)
            total += 1
            r, g, b = (float(c) for c in image[row, column] / 255.0)
            right += name_colour((r, g, b)) == name_colour(now.item.palette.main)
    assert total >= 8
    assert right >= 0.7 * total  # the hand may be in between


def test_what_the_hand_is_busy_with_does_not_tell_what_is_meant() -> None:
    """Where two stand on the table, the nearer one to the hand is the named one in half of the states."""
    nearer = total = 0
    for i in range(60):
        composition = compose(stream("labelled", 800_005, i))
        if len(composition.objects) != 2:
            continue
        scene = LabelledScene(composition, ArmKinematics())
        for k in range(6):
            scene.draw(stream("test", i, k))
            distances = [
                float(np.linalg.norm(np.subtract(o.position, scene.tool_position()))) for o in scene.seen()
            ]
            nearer += int(np.argmin(distances)) == scene.target
            total += 1
    assert total >= 60
    assert 0.35 < nearer / total < 0.65


def test_a_held_object_is_in_the_hand_and_a_far_one_is_not() -> None:
    answers = set()
    for i in range(30):
        composition = compose(stream("labelled", 800_004, i))
        if composition.objects[0][0] not in FREE:
            continue
        scene = LabelledScene(composition, ArmKinematics())
        for k in range(6):
            scene.draw(stream("test", i, k))
            scene.target = 0
            now = scene.situation()
            distance = np.linalg.norm(now.target - now.tool)
            if now.in_hand:
                assert distance < 0.04
            elif now.in_hand is None:
                assert distance <= 0.04
            answers.add(now.in_hand)
    assert answers >= {True, False}


def test_what_lies_in_the_bin_and_which_side_is_meant_are_labelled_truly(data: LabelledScenes) -> None:
    columns = {name: i for i, name in enumerate(LABEL_NAMES)}

    def column(name: str) -> tuple[np.ndarray, np.ndarray]:
        return data.labels[:, columns[name]], data.label_mask[:, columns[name]]

    binned, known = column("in_bin")
    away = np.hypot(*((column(f"bin_{a}")[0] - column(f"target_{a}")[0]) * FAR_M + 0.0 for a in "xy"))
    assert (away[known & (binned == 1)] < 0.1).all()
    assert (away[known & (binned == 0)] > 0.06).all()
    out, tissue = column("out_of_box")
    lifted = column("lifted")[0] * FAR_M
    assert (lifted[tissue & (out == 0)] < 0.02).all()
    left, paired = column("is_left")
    for i in np.flatnonzero(paired):
        words = data.prompt[i].split()
        assert ("right" if left[i] else "left") not in words
