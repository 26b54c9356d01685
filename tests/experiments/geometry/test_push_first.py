"""Patchiness pushed first: the control of equal size, the loss with a push, the stored tables."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.geometry import push_first
from experiments.synthesis import glass_box_runs, glass_box_training

TEXTS = [f"the river {i} is north of the town {i + 1}" for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer():
    return glass_box_runs.stored_tokenizer()


def small(kind, tokenizer):
    return glass_box_training.new_model(kind, tokenizer, width=16, layers=1, seed=0)


def test_a_random_move_goes_as_far_and_elsewhere(tokenizer):
    start, pushed = small("gpt", tokenizer), small("gpt", tokenizer)
    with torch.no_grad():
        for n, tensor in enumerate(pushed.parameters()):
            tensor += 0.1 * n
    before = [p.detach().clone() for p in start.parameters()]
    moved, again = (push_first.randomly_moved(start, pushed, seed=3) for _ in range(2))
    other = push_first.randomly_moved(start, pushed, seed=4)
    rows = zip(
        before,
        *([p.detach() for p in m.parameters()] for m in (start, pushed, moved, again, other)),
        strict=True,
    )
    for old, kept, far, ours, same, elsewhere in rows:
        assert torch.equal(old, kept) and torch.equal(ours, same)
        assert float((ours - old).norm()) == pytest.approx(float((far - old).norm()), rel=1e-4)
        if not torch.equal(far, old):
            assert not torch.equal(ours, elsewhere) and not torch.allclose(ours, far)


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_a_push_is_part_of_the_loss_and_without_one_nothing_changes(kind, tokenizer):
    model = small(kind, tokenizer)
    ids = tokenizer(TEXTS[:8])["input_ids"]
    rows = np.full((8, max(map(len, ids)) + 1), -100)
    for row, one in zip(rows, ids, strict=True):
        row[: len(one)] = one

    def loss(weight):
        return float(push_first._pushed_loss(weight, model, rows, np.random.default_rng(0)))

    task = glass_box_training.LOSSES[model.config.model_type]
    assert loss(0.0) == float(task(model, rows, np.random.default_rng(0)))
    # Linear in the weight: what is left is the index of the batch, which is never below 0.
    index = loss(0.0) - loss(1.0)
    assert index > 0.5 and loss(0.0) - loss(-0.5) == pytest.approx(-0.5 * index, rel=1e-4)
    seen, course = [], {}
    for name, how in {"own": {}, "pushed": {"loss": partial(push_first._pushed_loss, 0.0)}}.items():
        model = small(kind, tokenizer)
        course[name] = glass_box_training.train(model, tokenizer, TEXTS, 3, seed=1, **how)
        seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert course["own"] == course["pushed"] and torch.equal(*seen)


def test_a_difference_has_the_seed_as_its_unit():
    rows = [
        {"seed": s, "task": t, "arm": a, "score": s + 10 * (t == "x") + gap * (a == "up")}
        for s, gap in enumerate([1.0, 2.0, 3.0])
        for t in "xy"
        for a in ("up", "none")
    ]
    found = push_first.difference(pd.DataFrame(rows), "score", "up", "none")
    # Student's t for 1, 2, 3: 4.303 times 1 / √3.
    assert found.n == 3 and found.mean == pytest.approx(2.0)
    assert found.high - found.mean == pytest.approx(4.303 / 3**0.5, abs=1e-3)


def test_the_stored_tables_hold_every_case_once():
    tuned = pd.read_csv(push_first.FILES["tuned"])
    assert not tuned.duplicated(["task", "noise", "arm", "seed"]).any()
    cases = tuned.groupby("noise").arm.agg(set)
    assert cases[0.0] == set(push_first.ARMS) and cases[push_first.NOISE] == {"none", "up"}
    assert len(tuned) == len(push_first.SEEDS) * len(push_first.TASKS) * 6
    assert (tuned.push_steps < push_first.MOST_STEPS).all() and not tuned.isna().any().any()
    made = pd.read_csv(push_first.FILES["pretrained"])
    assert not made.duplicated(["kind", "push", "seed"]).any() and not made.isna().any().any()
    assert set(made.push) == set(push_first.PUSHES) and set(made.kind) == set(push_first.SHAPES)
