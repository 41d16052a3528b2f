"""Which difference is larger than noise, and what cannot be compared."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.analysis.compare import compare, grouped_counts, sentence, sign_test
from bora_cli.analysis.compare_figure import comparison
from bora_cli.analysis.compare_sources import Condition, Trial, load_run, together, unique_names
from bora_cli.analysis.style import png
from bora_cli.errors import DataError
from bora_cli.evaluate.evaluate import EvalJob, EvalResult
from bora_cli.evaluate.evaluate import Trial as Evaluated

HERE = Condition("pick_toy", "standard", "bias@1.0")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def trials(
    name: str, wins: str, *, first: int = 0, seed: int = 0, condition: Condition = HERE, human: int = 0
) -> list[Trial]:
    """One trial per letter of `wins`: + is a success after 20 ticks, - a failure after 40."""
    return [
        Trial(name, condition, seed, first + i, w == "+", 20 if w == "+" else 40, human, int(human > 0), name)
        for i, w in enumerate(wins)
    ]


def evaluation(
    path: Path, wins: str, *, checkpoint: str = "policy", first: int = 0, task: str = "pick_toy"
) -> Path:
    """Write what `bora eval --json` prints."""
    job = EvalJob(checkpoint, checkpoint, task, "standard", "bias@1.0", 64)
    ran = [Evaluated(first + i, w == "+", w == "+", 20) for i, w in enumerate(wins)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(EvalResult(job, ran).to_json()))
    return path


def test_the_sign_test_agrees_with_the_binomial():
    assert sign_test(0, 0) == 1
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(9, 1) == pytest.approx(2 * 11 / 1024)
    assert sign_test(3000, 2000) < 1e-40


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_does_not_know_who_is_who(won, lost):
    assert sign_test(won, lost) == sign_test(lost, won)
    assert 0 < sign_test(won, lost) <= 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_exchanging_the_two_turns_the_difference_around(outcomes):
    mine, other = ("".join("-+"[x] for x in side) for side in zip(*outcomes, strict=True))
    both = [*trials("a", mine), *trials("b", other)]
    one = compare(both, rng=rng(), against="b").pairs[0]
    two = compare(both, rng=rng(), against="a").pairs[0]
    assert one.success.value == pytest.approx(-two.success.value)
    assert (one.won, one.lost, one.p) == (two.lost, two.won, two.p)
    assert one.success.lo - 1e-9 <= one.success.value <= one.success.hi + 1e-9


def test_a_large_difference_is_told_from_noise():
    result = compare([*trials("a", "+" * 10 + "-" * 30), *trials("b", "+" * 35 + "-" * 5)], rng=rng())
    (pair,) = result.pairs
    assert (pair.n, pair.won, pair.lost, pair.larger) == (40, 25, 0, True)
    assert pair.success.value == pytest.approx(25 / 40)
    assert "25 scenes won and 0 lost of 40: larger than noise" in sentence(pair)


def test_four_scenes_of_a_hundred_are_noise_although_the_bootstrap_leaves_out_zero():
    result = compare([*trials("a", "+" * 50 + "-" * 50), *trials("b", "+" * 54 + "-" * 46)], rng=rng())
    (pair,) = result.pairs
    assert pair.success.lo > 0
    assert pair.p == pytest.approx(0.125)
    assert not pair.larger
    assert "not larger than noise" in sentence(pair)
    assert pair.needed is not None
    assert pair.needed > 100


def test_equal_outcomes_are_said_to_be_equal():
    (pair,) = compare([*trials("a", "++-"), *trials("b", "++-")], rng=rng()).pairs
    assert (pair.larger, pair.needed) == (False, None)
    assert sentence(pair).endswith("the same outcome on every scene.")


def test_human_shares_are_compared_where_a_person_helped():
    helped = Condition("pick_toy", assisted=True)
    both = [
        *trials("a", "+" * 20, condition=helped, human=10),
        *trials("b", "+" * 20, condition=helped, human=2),
    ]
    result = compare(both, rng=rng())
    assert [r.human_share.value for r in result.rows if r.human_share] == [0.5, 0.1]
    assert result.pairs[0].human_share.value == pytest.approx(-0.4)
    assert "Human share −40 points" in sentence(result.pairs[0])


def test_only_common_scenes_count_and_the_rest_is_mentioned():
    result = compare([*trials("a", "++++"), *trials("b", "--", first=2)], rng=rng())
    assert result.pairs[0].n == 2
    assert "b and a share 2 scenes; 2 others are left out" in result.warnings[0]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (trials("b", "++", first=50), "no scene in common .*scenes 50 to 51 and scenes 0 to 1"),
        (
            trials("b", "++", condition=Condition("open_box", "standard", "bias@1.0")),
            "different conditions: task open_box and pick_toy",
        ),
        (
            trials("b", "++", condition=Condition("pick_toy", "standard", "none")),
            "different conditions: gap none and bias@1.0",
        ),
        (trials("b", "++", seed=3), "no scene in common .*scenes 0 to 1 of training seed 3"),
    ],
)
def test_what_cannot_be_paired_is_refused(other, says):
    with pytest.raises(DataError, match=says):
        compare([*trials("a", "++"), *other], rng=rng())


def test_an_unknown_reference_and_a_scene_run_twice_are_refused():
    two = [*trials("a", "+"), *trials("b", "+")]
    with pytest.raises(DataError, match="no system 'c' among a, b"):
        compare(two, rng=rng(), against="c")
    with pytest.raises(DataError, match="a ran scene 0 twice"):
        compare([*two, *trials("a", "-")], rng=rng())


def test_runs_of_several_training_seeds_are_drawn_seed_by_seed():
    counts = grouped_counts(np.array([1, 1, 2, 2, 2]), 200, rng())
    assert set(np.unique(counts[:, :2].sum(1))) <= {0, 2, 4}
    assert counts.mean() == pytest.approx(1, abs=0.15)


def joined(*paths):
    return together([load_run(p) for p in paths], unique_names(paths))


def test_demo_runs_are_pooled_and_policies_of_one_name_are_not(tmp_path):
    for seed in (0, 1):
        root = tmp_path / f"run-{seed}"
        evaluation(root / "evaluations" / "cp_base-standard.json", "+--", first=1000 * seed)
        evaluation(root / "evaluations" / "bora_full-standard.json", "++-", first=1000 * seed)
        (root / "demo.json").write_text(json.dumps({"seed": seed}))
    pooled = compare(joined(tmp_path / "run-0", tmp_path / "run-1"), rng=rng())
    assert [(r.system, r.k, r.n) for r in pooled.rows] == [("CP Base", 2, 6), ("BORA-Full", 4, 6)]
    assert pooled.pairs[0].seeds == 2
    a = evaluation(tmp_path / "a.json", "+-", checkpoint="one/policy")
    b = evaluation(tmp_path / "b.json", "++", checkpoint="two/policy")
    assert {t.system for t in joined(a, b)} == {"a", "b"}
    with pytest.raises(DataError, match="one system to compare, policy"):
        joined(a)


def test_recorded_datasets_can_be_compared(toy_demos, tmp_path):
    found = load_run(toy_demos)
    assert len(found) == 8
    assert {t.system for t in found} == {"demos"}
    assert sum(t.success for t in found) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "not valid JSON"), ("[1]", "holds a list; expected an object"), ("{}", "not an evaluation")],
)
def test_files_that_are_no_evaluation_are_named(tmp_path, text, says):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(DataError, match=says):
        load_run(file)


def test_places_without_anything_are_named(tmp_path):
    with pytest.raises(DataError, match="There is nothing at"):
        load_run(tmp_path / "none")
    with pytest.raises(DataError, match="holds nothing to compare"):
        load_run(tmp_path)
    (tmp_path / "demo.json").write_text('{"seed": 0}')
    with pytest.raises(DataError, match="has evaluated nothing yet"):
        load_run(tmp_path)


def test_names_are_as_short_as_they_can_be(tmp_path):
    assert unique_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert unique_names([tmp_path / "x" / "a", tmp_path / "y" / "a"]) == ["x/a", "y/a"]
    assert unique_names([tmp_path, tmp_path])[0].endswith("(1)")


def test_the_result_is_json_and_a_figure():
    result = compare([*trials("a", "+-+-"), *trials("b", "++++")], rng=rng())
    document = json.loads(json.dumps(result.to_json()))
    assert document["pairs"][0]["system"] == "b"
    assert len(document["sentences"]) == 1
    assert png(comparison(result)).startswith(b"\x89PNG")
    assert asdict(result)["against"] == "a"
