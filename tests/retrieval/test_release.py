"""The loaders of the released SMI counts, on small files made in the same form."""

import json

import pandas as pd
import pytest

from helpers import data
from helpers.retrieval import release


@pytest.fixture
def released(tmp_path, monkeypatch):
    """Return a function that writes two corpora, of which facts may be changed, for the loaders."""
    monkeypatch.setattr(data, "fetch", lambda key: tmp_path / key)
    corpora = pd.DataFrame({"corpus": ["pile", "pile", "ours"]}, index=["a", "b", "c"])
    monkeypatch.setattr(release, "load_models", lambda: corpora)
    first = pd.DataFrame({"object": ["x", "x", "y"], "N_o": [5, 6, 7]})
    monkeypatch.setattr(release, "load_v1", lambda: first)

    def write(**changed):
        release._read.cache_clear()
        for corpus in ("pile", "ours"):
            fact = {"subj": "s", "rel": "r", "time_seqs": 10, "time_subj": 4, "time_obj": 3}
            fact |= {"time_s1j1": 2, "time_s1j0": 2, "time_s0j1": 1, "time_s0j0": 5, "idx": 1}
            facts = [fact | {"obj": "x"}, fact | {"obj": "y"} | changed.get(corpus, {})]
            file = tmp_path / f"smi/counts/{corpus}/merge.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(facts))
        templates = {"r": ["[S] is", "[S] has", "[S] is"], "q": ["[S] is"]}
        (tmp_path / "smi/multi_templates.json").write_text(json.dumps(templates))

    yield write
    release._read.cache_clear()


def test_counts_have_the_names_of_this_book(released):
    released()
    counts = release.load_counts("ours")
    assert counts.iloc[0].to_dict() == {
        **{"subject": "s", "relation": "r", "object": "x", "n_documents": 10, "n_subject": 4},
        **{"n_object": 3, "n_both": 2, "n_subject_only": 2, "n_object_only": 1, "n_neither": 5},
    }
    assert release.load_templates()["q"] == ["[S] is"]


@pytest.mark.parametrize(
    "changed",
    [{"time_s1j1": 3}, {"time_s1j0": 1}, {"time_s0j1": 0}, {"time_s0j0": 4}, {"time_seqs": 11}],
)
def test_the_checks_see_a_cell_that_is_off(released, changed):
    released()
    right = release.count_checks()
    assert right == {
        **{"smi-evaluation-set-size": 2, "smi-templates": 3, "smi-documents-counted": 20},
        **{"smi-cells-add-up": 0, "smi-v1-counts-agree": 1},
    }
    released(ours=changed)
    assert release.count_checks() == right | {"smi-cells-add-up": 1}
