import json

import pytest
import yaml

from helpers import data
from helpers.book import claims


@pytest.fixture(autouse=True)
def own_ledger(monkeypatch):
    monkeypatch.setattr(claims, "_rows", {})
    monkeypatch.delenv("BOOK_LEDGER", raising=False)


def claim(published, tolerance=0.0):
    return {"id": "x", "kind": "paper", "published": published, "tolerance": tolerance}


@pytest.mark.parametrize(
    ("published", "tolerance", "interval", "status"),
    [
        ({"above": 0}, 0, (0.1, 0.9), claims.REPRODUCED),
        ({"above": 0}, 0, (-0.38, 0.8), claims.UNDECIDED),
        ({"above": 0}, 0, (-0.38, -0.1), claims.NOT_REPRODUCED),
        ({"below": 0.1}, 0, (-0.31, 0.41), claims.UNDECIDED),
        ({"below": 0.1}, 0, (0.2, 0.41), claims.NOT_REPRODUCED),
        ([0.75, 0.85], 0, (0.76, 0.85), claims.REPRODUCED),
        ([0.75, 0.85], 0, (0.7, 0.9), claims.UNDECIDED),
        ([0.75, 0.85], 0, (0.86, 0.9), claims.NOT_REPRODUCED),
        (0.9, 0.05, (0.86, 0.94), claims.REPRODUCED),
        (0.9, 0.05, (0.5, 0.99), claims.UNDECIDED),
        (0.9, 0.05, (0.5, 0.84), claims.NOT_REPRODUCED),
    ],
)
def test_an_interval_that_holds_both_answers_decides_nothing(
    published, tolerance, interval, status
):
    middle = sum(interval) / 2
    assert claims._status(claim(published, tolerance), middle, interval) == status


def test_an_interval_is_shown_behind_its_estimate():
    assert claims.record("geo-shaping-cure", 0.01, (-0.02, 0.03)) == "undecided"
    row = claims._rows["geo-shaping-cure"]
    assert claims.ours_text(row) == "0.01 [-0.02, 0.03]"
    assert claims.ours_text({"ours": 0.41, "interval": None}) == "0.41"


@pytest.mark.parametrize("interval", [(1, 0), (0, 1, 2), (0, float("nan"))])
def test_an_interval_out_of_order_is_refused(interval):
    with pytest.raises(ValueError, match="geo-shaping-cure: interval"):
        claims.record("geo-shaping-cure", 0.5, interval)


@pytest.mark.parametrize(
    ("published", "tolerance", "inside", "outside"),
    [
        (0.9, 0.05, 0.86, 0.84),
        (0, 1e-12, -1e-12, 2e-12),
        ([0.75, 0.85], 0, 0.75, 0.74),
        ({"above": 0.7}, 0, 0.71, 0.7),
        ({"below": 1}, 0, 0.9, 1),
        ({"order": ["a", "b"]}, 0, ["a", "b"], ["b", "a"]),
    ],
)
def test_status_is_computed_from_the_numbers(published, tolerance, inside, outside):
    entry = claim(published, tolerance)
    assert claims._status(entry, inside) == claims.REPRODUCED
    assert claims._status(entry, outside) == claims.NOT_REPRODUCED
    assert claims._status(entry, outside, released=inside) == claims.AS_RELEASED
    assert claims._status(entry, outside, released=outside) == claims.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("published", "value", "message"),
    [
        (0.9, float("nan"), "finite"),
        ({"order": ["a", "b"]}, "ab", "as a list"),
        ({"order": ["a", "b"]}, 0.3, "as a list"),
    ],
)
def test_values_that_cannot_be_compared_are_refused(published, value, message):
    with pytest.raises(ValueError, match=message):
        claims._matches(published, 0, value)


def test_a_claim_without_published_value_cannot_be_reproduced():
    with pytest.raises(ValueError, match="no published value"):
        claims._status(claim(None), 0.5)


def test_recording_writes_the_ledger_inside_a_run_only(tmp_path, monkeypatch):
    assert claims.record("smi-v5-r2-above-0.7", 0.8) == claims.REPRODUCED
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("BOOK_LEDGER", str(tmp_path / "page.json"))
    claims.record("smi-v5-r2-above-0.7", 0.6, note="a test")
    claims.not_tested("smi-v5-table", "no files")
    rows = {row["id"]: row for row in json.loads((tmp_path / "page.json").read_text())}
    assert rows["smi-v5-r2-above-0.7"]["status"] == claims.NOT_REPRODUCED
    assert rows["smi-v5-table"]["note"] == "no files"
    assert [p.name for p in tmp_path.iterdir()] == ["page.json"]


def test_an_unknown_claim_is_refused():
    with pytest.raises(ValueError, match="no-such-claim"):
        claims.record("no-such-claim", 1)


def test_the_verdict_wants_every_claim_of_the_page():
    with pytest.raises(ValueError, match="neither recorded nor marked"):
        claims.verdict("retrieval/published_tables")


def test_fresh_rows_come_before_stored_ones_and_tell_their_run(monkeypatch, tmp_path):
    stored = {
        "id": "smi-v5-table", "ours": 0.0, "released": None, "status": claims.REPRODUCED,
        "note": "", "profile": "laptop", "commit": "old", "seed": "0", "hardware": "h",
        "versions": "v",
    }  # fmt: skip
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps({"claims": [stored]}))
    monkeypatch.setattr(claims, "_RESULTS", path)
    facts = {"commit": "new", "seed": "0", "hardware": "h", "versions": "v"}
    fresh = {"ours": 0.8, "released": None, "status": claims.REPRODUCED, "note": ""}
    missing = {"ours": None, "released": None, "status": claims.NOT_TESTED, "note": "no files"}
    run = {
        "profile": "smoke",
        "facts": facts,
        "claims": [{"id": "smi-v5-r2-above-0.7", **fresh}, {"id": "smi-v5-table", **missing}],
    }
    rows = {row["id"]: row for row in claims.ledger([run])}
    assert rows["smi-v5-r2-above-0.7"]["commit"] == "new"
    assert not rows["smi-v5-r2-above-0.7"]["stored"]
    assert rows["smi-v5-table"]["commit"] == "old" and rows["smi-v5-table"]["stored"]
    assert set(rows) == set(claims.load())
    claims.store([run])
    smoke = {row["id"]: row for row in json.loads(path.read_text())["claims"]}
    assert "smi-v5-r2-above-0.7" not in smoke and smoke["smi-v5-table"]["commit"] == "old"
    # A reader's own run says nothing of the claims.
    own = {row["id"]: row for row in claims.ledger([run | {"own": True}])}
    assert own["smi-v5-r2-above-0.7"]["status"] == claims.NOT_TESTED
    claims.store([run | {"profile": "laptop", "own": True}])
    assert "smi-v5-r2-above-0.7" not in path.read_text()
    claims.store([run | {"profile": "laptop"}])
    kept = {row["id"]: row for row in json.loads(path.read_text())["claims"]}
    assert kept["smi-v5-table"]["commit"] == "old"
    assert kept["smi-v5-r2-above-0.7"]["ours"] == 0.8
    assert kept["smi-v5-r2-above-0.7"]["first_expected"] == {"above": 0.7}


def test_every_claim_is_well_formed():
    entries = yaml.safe_load(claims._CLAIMS.read_text())["claims"]
    names = [entry.get("id") for entry in entries]
    assert len(set(names)) == len(names) == len(claims.load())
    for entry in entries:
        told = entry.get("id", entry)
        assert claims._FIELDS <= set(entry) <= claims._FIELDS | claims._OPTIONAL, told
        assert entry["paper"] in claims.PAPERS and entry["needs"] in claims._NEEDS, told
        assert entry["kind"] in claims.KINDS, told
        own = str(entry["source"]).startswith("check of this book")
        assert own == (entry["kind"] == "check"), told
        match entry["published"]:
            case None | int() | float() | [_, _]:
                pass
            case {"above": _} | {"below": _} | {"order": _} as bound:
                assert len(bound) == 1, told
            case other:
                pytest.fail(f"{told}: published is {other!r}")


def test_every_claim_of_the_book_has_its_part_and_prefix():
    prefix = {"posterior": "alp-", "geometry": "geo-", "retrieval": "smi-", "modelmap": "map-"}
    prefix["synthesis"] = "syn-"
    entries = claims.load().values()
    assert {c["paper"] for c in entries} == set(prefix)
    assert all(c["id"].startswith(prefix[c["paper"]]) for c in entries)


def test_the_stored_ledger_is_that_of_a_full_run_and_agrees_with_the_claims():
    stored = claims._stored()
    assert stored, "data/results/ledger.json is missing: the scoreboard would be empty"
    for name, row in stored.items():
        entry = claims.load()[name]
        interval, released = row.get("interval"), row["released"]
        assert row["status"] == claims._status(entry, row["ours"], interval, released=released)
        assert row["profile"] in ("laptop", "paper")
    written = {p for c in claims.load().values() for p in [c["notebook"]]} & {
        str(p.relative_to(data.ROOT / "notebooks").with_suffix(""))
        for p in (data.ROOT / "notebooks").glob("*/*.ipynb")
    }
    for page in written:
        assert any(claims.load()[name]["notebook"] == page for name in stored)


def test_a_threshold_that_came_after_its_result_is_marked_exploratory():
    for name, row in claims._stored().items():
        entry = claims.load()[name]
        same = row["first_expected"] == entry["published"]
        assert same or entry["exploratory"] or entry["kind"] == "paper", name


@pytest.mark.parametrize(
    ("value", "text"),
    [(12671.0, "12,671"), (0.85624, "0.8562"), (3.2e-15, "3.2e-15"), (["a", "b"], "a > b")],
)
def test_numbers_are_readable(value, text):
    assert claims.number(value) == text


def test_only_what_the_paper_says_is_reproduced(monkeypatch):
    monkeypatch.setattr(claims, "_rows", {})
    check, said = "alp-movielens-noise-last", "smi-v5-r2-above-0.7"
    assert claims.record(check, 0.0) == "holds"
    assert claims.record(check, 0.5) == "does not hold"
    assert claims._rows[check]["status"] == claims.NOT_REPRODUCED
    assert claims.record(said, 0.9) == "reproduced"
    assert claims.record("alp-tracks-downstream", 0.9) == "holds"
    assert {c["kind"] for c in claims.load().values()} == set(claims.KINDS)


def test_a_claim_without_an_interval_says_why():
    for name, row in claims._stored().items():
        entry = claims.load()[name]
        assert row.get("interval") or entry["no_interval"], name


def test_a_threshold_of_our_own_has_its_reason():
    for name, entry in claims.load().items():
        published = entry["published"]
        if entry["kind"] == "paper" or published is None or entry["threshold"]:
            continue
        assert not isinstance(published, list), name
        if isinstance(published, dict) and "order" not in published:
            assert set(published.values()) <= {0, 1}, name
