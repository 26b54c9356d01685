"""Soft patchiness against hard counts, finite differences and known values; penalties; refusals."""

import faiss
import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances_argmin

from helpers.geometry import penalties, quantization, quantizers, spread


def cloud(n=400, d=6, clusters=5, seed=0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=3, size=(clusters, d))
    points = centres[rng.integers(clusters, size=n)] + rng.normal(size=(n, d))
    return torch.tensor(points, dtype=dtype)


def cells(k=8, d=6, seed=1):
    return torch.tensor(np.random.default_rng(seed).normal(scale=3, size=(k, d)))


def naive_counts(points, centroids, temperature):
    """Share out each point by the letter of the definition."""
    points, centroids = points.numpy(), centroids.numpy()
    pairs = [
        ((a - b) ** 2).sum()
        for i, a in enumerate(centroids)
        for j, b in enumerate(centroids)
        if i != j
    ]
    counts = np.zeros(len(centroids))
    for point in points:
        nearness = -((point - centroids) ** 2).sum(axis=1) / (temperature * np.mean(pairs))
        share = np.exp(nearness - nearness.max())
        counts += share / share.sum()
    return counts


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 30.0])
def test_counts_and_index_agree_with_a_plain_loop(temperature):
    points, centroids = cloud(60), cells()
    counts = naive_counts(points, centroids, temperature)
    found = penalties._soft_counts(points, centroids, temperature)
    np.testing.assert_allclose(found.numpy(), counts, rtol=1e-9, atol=1e-12)
    assert float(found.sum()) == pytest.approx(60)
    index = penalties.soft_lloyd_index(points, centroids, temperature=temperature)
    assert float(index) == pytest.approx(quantization.lloyd_index(counts), rel=1e-9)


def test_near_zero_it_is_the_index_of_the_nearest_centroids():
    points, centroids = cloud(), cells()
    index = faiss.IndexFlatL2(6)
    index.add(centroids.float().numpy())
    codes = index.search(points.float().numpy(), 1)[1][:, 0]
    np.testing.assert_array_equal(
        codes, pairwise_distances_argmin(points.numpy(), centroids.numpy())
    )
    hard = quantization.cell_counts(codes, 8)[0]
    assert penalties._soft_counts(points, centroids, 1e-7).numpy() == pytest.approx(hard, abs=1e-6)
    soft = penalties.soft_lloyd_index(points, centroids, temperature=1e-7)
    assert float(soft) == pytest.approx(quantization.lloyd_index(hard), rel=1e-9)
    assert float(soft) > 1.1


def test_at_a_high_temperature_all_counts_are_equal():
    points, centroids = cloud(), cells()
    soft = penalties.soft_lloyd_index(points, centroids, temperature=1e7)
    assert float(soft) == pytest.approx(1 - 8 / 400, rel=1e-6)


def test_all_points_on_one_centroid_give_the_largest_index():
    centroids = cells()
    points = centroids[3].repeat(80, 1)
    soft = penalties.soft_lloyd_index(points, centroids, temperature=1e-4)
    assert float(soft) == pytest.approx(8 - 1 / 10, rel=1e-9)
    assert float(soft) == pytest.approx(quantization.lloyd_index([0, 0, 0, 80, 0, 0, 0, 0]))


def test_softness_only_blurs():
    points, centroids = cloud(), cells()
    found = [
        float(penalties.soft_lloyd_index(points, centroids, temperature=t))
        for t in (1e-6, 0.03, 0.1, 0.3, 1, 10)
    ]
    assert found == sorted(found, reverse=True) and len(set(found)) == len(found)


@pytest.mark.parametrize("measure", ["patchiness", "isoscore", "isoscore of few"])
def test_gradients_agree_with_finite_differences(measure):
    if measure == "patchiness":
        inputs = (cloud(12, 3), cells(4, 3))
        for temperature in (0.05, 0.5):
            assert torch.autograd.gradcheck(
                lambda x, c, t=temperature: penalties.soft_lloyd_index(x, c, temperature=t),
                [part.clone().requires_grad_() for part in inputs],
            )
    else:
        points = cloud(4 if "few" in measure else 12, 5)
        assert torch.autograd.gradcheck(penalties._batch_isoscore, points.requires_grad_())
        # Where all eigenvalues are equal, the gradient is still there.
        equal = torch.cat([torch.eye(3), -torch.eye(3)]).double().requires_grad_()
        penalties._batch_isoscore(equal).backward()
        assert equal.grad.abs().max() < 1e-12


@pytest.mark.parametrize("factor", [1e-6, 3.0, 1e6])
def test_a_common_factor_or_shift_changes_nothing(factor):
    points, centroids = cloud(), cells()
    usual = penalties.soft_lloyd_index(points, centroids, temperature=0.1)
    scaled = penalties.soft_lloyd_index(factor * points, factor * centroids, temperature=0.1)
    torch.testing.assert_close(scaled, usual, rtol=1e-10, atol=0)
    shifted = penalties.soft_lloyd_index(points + 50, centroids + 50, temperature=0.1)
    torch.testing.assert_close(shifted, usual, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        penalties._batch_isoscore(factor * points + 50 * factor), penalties._batch_isoscore(points)
    )


def test_counts_of_points_scattered_at_random_have_the_mean_and_deviation_named():
    # 64 equal cells: signs on six axes, which six random coordinates fall into alike.
    corners = torch.tensor(np.array(np.meshgrid(*[[-1.0, 1.0]] * 6)).reshape(6, -1).T)
    rng = np.random.default_rng(5)
    found = [
        float(
            penalties.soft_lloyd_index(
                torch.tensor(rng.uniform(-2, 2, size=(500, 6))), corners, temperature=1e-6
            )
        )
        for _ in range(400)
    ]
    deviation = np.sqrt(2 / 64) / (500 / 64)
    assert np.mean(found) == pytest.approx(1, abs=5 * deviation / 20 + 1 / 500)
    assert np.std(found) == pytest.approx(deviation, rel=0.2)
    assert deviation == pytest.approx(0.02, abs=0.005)


def test_the_scale_is_that_of_the_codebook_alone():
    centroids = cells()
    points = cloud(50)
    both = penalties._soft_counts(torch.cat([points, 1e3 * cloud(50, seed=2)]), centroids, 0.1)
    far = penalties._soft_counts(1e3 * cloud(50, seed=2), centroids, 0.1)
    torch.testing.assert_close(both - far, penalties._soft_counts(points, centroids, 0.1))


@pytest.mark.parametrize("n", [5, 200])
def test_isoscore_is_that_of_the_spread_module(n):
    points = cloud(n, 12)
    expected = spread.isoscore(spread.eigenvalues(points.numpy()))
    assert float(penalties._batch_isoscore(points)) == pytest.approx(expected, rel=1e-9)


def test_isoscore_ends():
    line = torch.outer(torch.arange(9.0), torch.ones(4))
    assert float(penalties._batch_isoscore(line)) == pytest.approx(0, abs=1e-6)
    assert float(penalties._batch_isoscore(torch.cat([torch.eye(4), -torch.eye(4)]))) == (
        pytest.approx(1)
    )


@pytest.fixture
def batch():
    """States (3, 20, 6) with the mask of sentences of 20, 11 and 4 tokens."""
    mask = (torch.arange(20) < torch.tensor([20, 11, 4])[:, None]).long()
    return cloud(60).reshape(3, 20, 6).float(), mask


@pytest.mark.parametrize("target", [None, 1.5])
def test_penalties_take_the_tokens_that_the_mask_keeps(batch, target):
    states, mask = batch
    kept = states[mask.bool()]
    assert len(kept) == 35
    patchy = penalties.patchiness_penalty(cells().numpy(), temperature=0.1, target=target)
    wide = penalties.covariance_penalty(target=target)
    for penalty, value in [
        (patchy, penalties.soft_lloyd_index(kept, cells(), temperature=0.1)),
        (wide, penalties._batch_isoscore(kept)),
    ]:
        expected = value if target is None else (value - target) ** 2
        torch.testing.assert_close(penalty(states, mask), expected)
        assert penalty(states, mask).shape == ()
        padded = torch.where(mask[:, :, None].bool(), states, 1e9)
        torch.testing.assert_close(penalty(padded, mask), expected)
        leaf = states.clone().requires_grad_()
        penalty(leaf, mask).backward()
        touched = leaf.grad.abs().sum(dim=2) > 0
        assert not touched[mask == 0].any() and touched[mask == 1].any()


@pytest.mark.parametrize("kind", ["patchiness", "covariance"])
@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_the_sign_of_the_weight_pushes_the_measure_down_or_up(batch, kind, weight):
    states, mask = batch
    penalty = (
        penalties.patchiness_penalty(cells(), temperature=0.1)
        if kind == "patchiness"
        else penalties.covariance_penalty()
    )
    leaf = states.clone().requires_grad_()
    rule = torch.optim.Adam([leaf], lr=0.05)
    for _ in range(30):
        rule.zero_grad()
        (weight * penalty(leaf, mask)).backward()
        rule.step()
    change = float(penalty(leaf.detach(), mask) - penalty(states, mask))
    assert change * weight < -0.05


def test_a_target_is_approached_from_both_sides(batch):
    states, mask = batch
    plain = penalties.patchiness_penalty(cells(), temperature=0.1)
    start = float(plain(states, mask))
    for target in (start - 0.2, start + 0.2):
        aimed = penalties.patchiness_penalty(cells(), temperature=0.1, target=target)
        leaf = states.clone().requires_grad_()
        rule = torch.optim.Adam([leaf], lr=0.02)
        for _ in range(150):
            rule.zero_grad()
            aimed(leaf, mask).backward()
            rule.step()
        assert float(plain(leaf.detach(), mask)) == pytest.approx(target, abs=0.05)


def test_half_precision_and_autocast_are_raised(batch):
    states, mask = batch
    for penalty in (
        penalties.patchiness_penalty(cells(), temperature=0.1),
        penalties.covariance_penalty(),
    ):
        exact = penalty(states.bfloat16().float(), mask)
        assert exact.dtype == torch.float32
        torch.testing.assert_close(penalty(states.bfloat16(), mask), exact)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(penalty(states, mask), penalty(states.clone(), mask))
            inside = penalty(states, mask)
        assert torch.equal(inside, penalty(states, mask))


def test_codebook_gives_the_cells_that_quantize_counts():
    points = cloud(600, dtype=torch.float32).numpy()
    found = penalties.codebook(points, bits=4, seed=3)
    assert found.shape == (16, 6) and found.dtype == np.float32
    np.testing.assert_array_equal(found, penalties.codebook(points.astype(float), bits=4, seed=3))
    assert not np.array_equal(found, penalties.codebook(points, bits=4, seed=4))
    codes, error = quantizers.quantize(points, quantizer="kmeans", bits=4, seed=3)
    np.testing.assert_array_equal(codes[:, 0], pairwise_distances_argmin(points, found))
    residual = ((points - found[codes[:, 0]]) ** 2).sum() / (points**2).sum()
    assert error == pytest.approx(residual, rel=1e-4)
    soft = penalties.soft_lloyd_index(torch.tensor(points), torch.tensor(found), temperature=1e-7)
    assert float(soft) == pytest.approx(
        quantization.lloyd_index(quantization.cell_counts(codes, 16)), rel=1e-4
    )


def test_codebook_is_quiet_and_takes_few_points(capfd):
    points = cloud(20).numpy()
    found = penalties.codebook(points, bits=4)
    assert np.isfinite(found).all() and capfd.readouterr() == ("", "")


def test_refuses_bad_points_and_centroids():
    points, centroids = cloud(10), cells()
    for temperature in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature is .*above 0"):
            penalties.soft_lloyd_index(points, centroids, temperature=temperature)
        with pytest.raises(ValueError, match="temperature is"):
            penalties.patchiness_penalty(centroids, temperature=temperature)
    with pytest.raises(ValueError, match="centroids are all equal"):
        penalties.patchiness_penalty(np.ones((4, 6)), temperature=0.1)
    with pytest.raises(ValueError, match="centroids has NaN"):
        penalties.patchiness_penalty(np.full((4, 6), np.nan), temperature=0.1)
    with pytest.raises(ValueError, match="points are all equal"):
        penalties._batch_isoscore(torch.ones(5, 3))


def test_penalties_refuse_batches(batch):
    states, mask = batch
    penalty = penalties.patchiness_penalty(cells(), temperature=0.1)
    with pytest.raises(ValueError, match=r"attention_mask \(3, 19\)"):
        penalty(states, mask[:, 1:])
    with pytest.raises(ValueError, match="last_hidden_state has shape"):
        penalty(states[0], mask[0])
    with pytest.raises(ValueError, match="keeps no token"):
        penalty(states, 0 * mask)


def test_codebook_refuses():
    with pytest.raises(ValueError, match="points has NaN"):
        penalties.codebook(np.full((80, 2), np.nan))
    for scale, message in ((1e40, "range of float32"), (1e20, "above 1e15"), (1e-20, "below")):
        with pytest.raises(ValueError, match=f"points has values.*{message}.*rescale the cloud"):
            penalties.codebook(cloud(80).numpy().astype(float) * scale)
