"""Clouds of an encoder measured twice: what is kept, and that a stopped run goes on."""

import pandas as pd
import pytest

from experiments.geometry import base_encoder, noise_reliability, wikitext
from helpers import factbook


def test_clouds_are_kept_and_measured_once(monkeypatch, tmp_path, bert):
    kinds = {"few": (factbook.draw_sentences, {"tokens": 9, "bits": 3})}
    monkeypatch.setattr(base_encoder, "KINDS", kinds)
    ask = {"encoder": str(bert), "n_sentences": 30}
    first = base_encoder.cloud_rows(tmp_path, [0, 3], **ask)
    assert (first["cloud"] == "few").all()
    assert first[["level", "draw"]].to_numpy().tolist() == [[0, 0], [0, 1], [3, 0], [3, 1]]
    assert (first["points"] == 270).all() and first["lloyd_index"].nunique() == 4

    def never(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr(noise_reliability, "repeated_rows", never)
    pd.testing.assert_frame_equal(base_encoder.cloud_rows(tmp_path, [0, 3], **ask), first)
    (tmp_path / next(tmp_path.glob("*.json"))).write_text("{}")
    with pytest.raises(AssertionError, match="measured again"):
        base_encoder.cloud_rows(tmp_path, [0, 3], **ask)


def test_the_stored_tables_are_whole():
    sweeps = base_encoder.load_sweeps()
    counts = sweeps.groupby("encoder")["level"].agg(["size", "nunique"])
    assert counts.to_numpy().tolist() == [[25, 13]] * 2
    clouds = pd.read_csv(base_encoder.CLOUDS)
    assert set(clouds["cloud"]) == set(base_encoder.KINDS)
    assert (clouds.groupby(["level", "cloud"]).size() == 2).all()
    assert len(pd.read_csv(base_encoder.MAKES)) == 5
    assert base_encoder.KINDS["WikiText-2"][0] is wikitext.sentences
