import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats as scipy_stats

from experiments.retrieval import audit_tables
from helpers.retrieval import binned_fits, smi


@pytest.fixture
def raw():
    rng = np.random.default_rng(3)
    n, s, o = 10_000, rng.integers(5, 900, 300), rng.integers(5, 900, 300)
    both = np.minimum(rng.geometric(0.02, 300), np.minimum(s, o))
    both[:7] = 0
    return pd.DataFrame(
        {
            "subject": [f"name {i}" for i in range(300)],
            "object": ["name" if i % 10 == 0 else f"other {i % 40}" for i in range(300)],
            "n_documents": n,
            "n_subject": s,
            "n_object": o,
            "n_both": both,
            "accuracy": np.rint(400 * np.clip(0.08 * np.log2(both + 1) * rng.random(300), 0, 1))
            / 400,
        }
    )


@pytest.fixture
def facts(raw):
    one = audit_tables.kept(raw).assign(model="one", parameters=2e9)
    other = audit_tables.kept(raw.assign(accuracy=raw.accuracy**2))
    return pd.concat([one, other.assign(model="two", parameters=5e8)], ignore_index=True)


def test_kept_facts_carry_their_information_and_shares(raw):
    ours = audit_tables.kept(raw)
    for row in ours.sample(20, random_state=0).itertuples():
        old = raw.loc[row.fact]
        p = old.n_both / 10_000
        direct = p * np.log2(p / (old.n_subject / 10_000 * old.n_object / 10_000))
        assert row.information == pytest.approx(direct) and direct > 0
        assert row.both == pytest.approx(np.log2(p)) and row.leak == (row.fact % 10 == 0)
    assert not ours.fact.isin(range(7)).any() and len(ours) < 300


@pytest.mark.parametrize("generation", list(smi.GENERATIONS))
def test_the_axes_of_facts_are_those_of_bins(raw, generation):
    rows = audit_tables.kept(raw)
    axes = audit_tables.axes_of(rows, 2e9, generation)
    for method, values in (("CO-OCCUR", rows.n_both), ("SMI", rows.information)):
        statistics = smi.bin_statistics(smi.log_bins(values), rows.accuracy)
        x = smi.positions(statistics, 2e9, generation, method)
        ours = binned_fits.bin_means(axes[method], rows.accuracy)
        for weighted in (False, True):
            expected = smi.fit_bins(statistics, x, weighted=weighted).R2
            found = binned_fits.r2_of_means(ours, weighted=weighted)
            assert found == pytest.approx([expected], abs=1e-12)


def test_facts_below_the_fixed_scale_lie_at_0(raw):
    rows = audit_tables.kept(raw).assign(information=2.0**-35)
    rows.loc[0, "information"] = 2.0**-10
    axes = audit_tables.axes_of(rows, 1e9, "v2-v4")
    assert (axes.SMI[1:] == 0).all() and axes.SMI[0] == pytest.approx((2 / 3) ** 2)


def test_every_model_comes_whole_and_clean(facts):
    seen = list(audit_tables._versions(facts))
    assert [tuple(name.values()) for name, _, _ in seen] == [
        (m, w) for m in ("one", "two") for w in ("all facts", "clean")
    ]
    assert [size for _, size, _ in seen] == [2e9, 2e9, 5e8, 5e8]
    assert seen[0][2].leak.any() and not seen[1][2].leak.any()
    assert len(seen[0][2]) == len(seen[1][2]) + seen[0][2].leak.sum()


def test_leads_are_the_differences_of_the_published_fit(facts):
    ours = audit_tables.leads(facts, 30, seed=1).set_index(["model", "facts"])
    for name, size, rest in audit_tables._versions(facts):
        count, mi = (
            smi.bin_statistics(smi.log_bins(v), rest.accuracy)
            for v in (rest.n_both, rest.information)
        )
        r2 = smi.fit_metrics(count, mi, size, "v5-v7").R2
        row = ours.loc[tuple(name.values())]
        assert row.gain == pytest.approx(r2["SMI"] - r2["CO-OCCUR"], abs=1e-12)
        assert row.low < row.high
    again = audit_tables.leads(facts, 30, seed=1).set_index(["model", "facts"])
    pd.testing.assert_frame_equal(ours, again)
    by_object = audit_tables.leads(facts, 30, groups="object", seed=1).set_index(["model", "facts"])
    assert by_object.gain.equals(ours.gain) and not by_object.low.equals(ours.low)


def test_rank_gains_are_scipys(facts):
    ours = audit_tables.rank_gains(facts, 20)
    for row, (_, size, rest) in zip(ours.itertuples(), audit_tables._versions(facts), strict=True):
        co = scipy_stats.spearmanr(rest.n_both, rest.accuracy).statistic
        mi = scipy_stats.spearmanr(rest.information, rest.accuracy).statistic
        assert [row.MI, row.gain] == pytest.approx([mi, mi - co])
        line = scipy_stats.linregress(audit_tables.axes_of(rest, size).SMI, rest.accuracy)
        assert ours.loc[row.Index, "R²"] == pytest.approx(line.rvalue**2)
        count = scipy_stats.linregress(audit_tables.axes_of(rest, size)["CO-OCCUR"], rest.accuracy)
        lead = line.rvalue**2 - count.rvalue**2
        assert ours.loc[row.Index, "R² lead"] == pytest.approx(lead)
    by_object = audit_tables.rank_gains(facts, 20, groups="object")
    assert by_object.gain.equals(ours.gain) and not by_object.low.equals(ours.low)
    ahead = audit_tables.leaders(facts, ours, 20)
    clean = ours.facts == "clean"
    assert list(ahead.index) == ["all facts", "clean"]
    assert ahead.loc["clean"].tolist() == [
        (ours.gain < 0)[clean].sum(),
        (by_object.high < 0)[clean].sum(),
        (ours["R² lead"] > 0)[clean].sum(),
    ]


def test_the_bound_without_the_top_is_that_of_the_shorter_table(facts):
    ours = audit_tables.bounds(facts, drop=(0, 3)).set_index(["model", "facts"])
    part = facts[facts.model == "one"].sort_values("information", ascending=False, kind="stable")
    for what, rest in {"without the top 3": part[3:], "clean": part[~part.leak]}.items():
        statistics = smi.bin_statistics(smi.log_bins(rest.information), rest.accuracy)
        x = smi.positions(statistics, 2e9, "v5-v7", "SMI")
        row, fit = ours.loc[("one", what)], sm.OLS(statistics["mean"], sm.add_constant(x)).fit()
        assert row.bound == pytest.approx(smi.fit_bins(statistics, x)["upper bound"])
        low, high = fit.get_prediction([[1, 1]]).conf_int()[0]
        assert [row.low, row.high] == pytest.approx([low, high])
        assert row.top.startswith(rest.subject.iloc[0])


def test_the_coefficients_are_those_of_least_squares_with_clustered_errors(facts):
    ours = audit_tables.coefficients(facts).set_index(["model", "facts", "term"])
    rest = facts[(facts.model == "two") & ~facts.leak]
    X = sm.add_constant(rest[["both", "subject share", "object share"]].to_numpy())
    y, codes = rest.accuracy.to_numpy(), pd.factorize(rest.object)[0]
    b = np.linalg.lstsq(X, y, rcond=None)[0]
    residual, inverse = y - X @ b, np.linalg.inv(X.T @ X)
    meat = sum(np.outer(v, v) for v in (X[codes == g].T @ residual[codes == g] for g in set(codes)))
    n_groups, n = len(set(codes)), len(y)
    scale = n_groups / (n_groups - 1) * (n - 1) / (n - 4)
    error = np.sqrt(np.diag(scale * inverse @ meat @ inverse))
    for i, term in enumerate(audit_tables.TERMS.values(), start=1):
        row = ours.loc[("two", "clean", term)]
        ends = [b[i] - 1.959964 * error[i], b[i] + 1.959964 * error[i]]
        assert [row.estimate, row.low, row.high] == pytest.approx([b[i], *ends], rel=1e-5)
    given = np.log2(rest.n_both / rest.n_subject)
    assert row["R² given s"] == pytest.approx(np.corrcoef(given, y)[0, 1] ** 2)


def test_the_exponents_are_those_of_the_search_over_bins(facts):
    ours = audit_tables.exponents(facts, 15)
    rest = facts[(facts.model == "one") & ~facts.leak]
    statistics = smi.bin_statistics(smi.log_bins(rest.information), rest.accuracy)
    r2 = [smi.r2_of_power(statistics, e, None) for e in binned_fits.EXPONENTS]
    row = ours[(ours.model == "one") & (ours.facts == "clean")].iloc[0]
    assert row.best == binned_fits.EXPONENTS[np.argmax(r2)]
    assert 0.25 <= row.low <= row.best <= row.high <= 16 and row.low < row.high


def test_the_curvature_is_numpys_and_its_sign_is_right():
    x = pd.Series(np.linspace(20, 30, 12))
    y = -0.01 * x**2 + 0.6 * x + 0.01 * np.random.default_rng(0).standard_normal(12)
    found = audit_tables.curvature(x, y)
    assert found[0] == pytest.approx(np.polyfit(x, y, 2)[0], rel=1e-6)
    assert found[1] < found[0] < found[2] < 0
    assert audit_tables.curvature(x, y, x > 22)[0] == pytest.approx(
        np.polyfit(x[x > 22], y[x > 22], 2)[0], rel=1e-6
    )


def test_pooled_bins_lie_where_each_generation_puts_them():
    statistics = smi.bin_statistics([-160, -120, -80, -80, -40], [0.0, 0.1, 0.2, 0.4, 0.5])
    sizes = pd.Series({"a": 1e9, "b": 4e9})
    pooled = audit_tables.pooled_bins({"a": statistics, "b": statistics}, sizes)
    assert pooled.groupby("model").size().tolist() == [4, 4]
    rows = pooled[pooled.model == "b"]
    assert (
        rows["mean"].tolist() == pytest.approx([0, 0.1, 0.3, 0.5])
        and (rows["size"] == np.log2(4e9)).all()
    )
    x = np.array([0, 1 / 3, 2 / 3, 1])
    assert rows["SMI, v1"].to_numpy() == pytest.approx(x**1.25)
    assert rows["SMI, v5-v7"].to_numpy() == pytest.approx(x ** (1 + 1 / np.log2(4e9)))
    fixed = np.array([0, 6 / 30, 14 / 30, 22 / 30])
    assert rows["SMI, v2-v4"].to_numpy() == pytest.approx(fixed**1.25)


def test_impossible_counts_and_a_scale_of_one_bin_are_refused(raw):
    with pytest.raises(ValueError, match="n_both"):
        audit_tables.kept(raw.assign(n_both=raw.n_subject + 1))
    with pytest.raises(ValueError, match="two different"):
        audit_tables.axes_of(audit_tables.kept(raw).assign(information=0.1), 1e9)


def test_r2_of_single_facts_has_an_interval_around_it(facts):
    ours = audit_tables.rank_gains(facts, 40)
    assert (ours["R² low"] <= ours["R²"]).all() and (ours["R²"] <= ours["R² high"]).all()


def test_a_pooled_lead_is_the_difference_of_two_lines_and_draws_models():
    rng = np.random.default_rng(2)
    pool = pd.DataFrame({"model": np.repeat(list("abcdef"), 20), "good": rng.random(120)})
    pool["mean"] = pool.good + 0.1 * rng.random(120)
    pool["poor"] = rng.random(120)
    found = audit_tables.pooled_lead(pool, "good", "poor", 50)
    r2 = [np.corrcoef(pool[c], pool["mean"])[0, 1] ** 2 for c in ("good", "poor")]
    assert found.gain == pytest.approx(r2[0] - r2[1]) and 0 < found.low < found.gain < found.high
    same = audit_tables.pooled_lead(pool, "good", "good", 50)
    assert (same.gain, same.low, same.high) == (0, 0, 0)


def test_designs_are_lines_on_the_axes_and_curves_without_leaks_between_groups(facts):
    facts = facts.assign(corpus=np.where(facts.model == "one", "a", "b"), relation="r")
    facts["relation"] = np.where(facts.fact % 3 == 0, "r", "q")
    designs = audit_tables.designs(facts)
    X, logistic = designs["line on SMI, v5-v7"]
    assert not logistic and (X[:, 0] == 1).all()
    rows = facts.model == "two"
    x = audit_tables.axes_of(facts[rows], 5e8).SMI
    assert X[rows.to_numpy(), 1] == pytest.approx(x.to_numpy())
    assert designs["three counts, size"][1] and designs["three counts, size"][0].shape[1] == 15
    few = {name: designs[name] for name in ("mean", "line on count")}
    errors = audit_tables.held_out_errors(facts, facts.model, few, 1)
    other = facts.accuracy[~rows].mean() - facts.accuracy[rows]
    assert errors["mean"][rows].to_numpy() == pytest.approx(other.to_numpy())


def test_a_fact_elsewhere_is_its_mean_in_other_families(facts):
    facts = facts.assign(family=facts.model)
    wide = facts.pivot(index="fact", columns="model", values="accuracy")
    ours = audit_tables.same_fact_elsewhere(facts)
    first = facts.model == "one"
    assert ours[first].to_numpy() == pytest.approx(wide["two"][facts.fact[first]].to_numpy())
    assert audit_tables.same_fact_elsewhere(facts[first]).isna().all()
