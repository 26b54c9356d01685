import numpy as np
import pandas as pd

from experiments.modelmap import near_copies


def test_ngrams_are_copies_by_steps_within_a_corpus():
    rows = [(c, n, o) for c in "ab" for n in (3000, 10_000, 30_000) for o in (1, 3, 5)]
    known = pd.DataFrame(rows, columns=["corpus", "n_bytes", "order"])
    masks = {rule: near_copies.of_ngrams(known, rule) for rule in near_copies.RULES}
    first = {rule: known[mask[0]] for rule, mask in masks.items()}
    assert all((part.corpus == "a").all() for part in first.values())
    one = first["same bytes and next order"]
    assert one[["n_bytes", "order"]].to_numpy().tolist() == [[3000, 3]]
    # Two others of the same size, and of two other sizes the same and the next order.
    assert len(first["same bytes or next order"]) == 2 + 4
    left = known[(known.corpus == "a") & ~masks["next bytes or next order"][0]].iloc[1:]
    assert list(zip(left.n_bytes, left.order, strict=True)) == [(30_000, 5)]
    for mask in masks.values():
        assert np.array_equal(mask, mask.T) and not mask.diagonal().any()


def test_rates_fall_as_copies_are_barred():
    rows = [(c, n, o) for c in "abcd" for n in (1, 2, 3) for o in (1, 2, 3)]
    known = pd.DataFrame(rows, columns=["corpus", "n_bytes", "order"])
    rng = np.random.default_rng(0)
    points = known[["n_bytes", "order"]].to_numpy() * 3.0 + rng.normal(size=(36, 2)) / 9
    points += np.repeat(rng.normal(size=(4, 2)), 9, axis=0)
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    table = near_copies.corpus_rates(apart, known, n_shuffles=20)
    assert len(table) == 5 and (table.low <= table.rate).all()
    few = known[known.order < 3].reset_index(drop=True)
    some = near_copies.corpus_rates(apart[np.ix_(known.order < 3, known.order < 3)], few)
    assert "next bytes or next order out" not in some.index


def test_neighbouring_checkpoints_and_fine_roundings_are_copies():
    models = pd.DataFrame(
        {
            "family": ["run"] * 3 + ["other"] + ["s"] * 4,
            "kind": ["training"] * 4 + ["as it is", "rounded", "rounded", "rounded"],
            "level": [2, 0, 1, 1, 0, 8, 6, 4],
        }
    )
    mask = near_copies.of_families(models)
    pairs = {(i, j) for i, j in np.argwhere(mask) if i < j}
    assert pairs == {(1, 2), (0, 2), (4, 5), (4, 6), (5, 6)}
    whole = near_copies.joined(list("xabcdefghy"), [(list("abcdefgh"), mask)])
    assert whole.sum() == mask.sum() and whole[2, 3] and not whole[0].any()
