"""Bad input to the public functions: one clear error that names the argument and the cure."""

import re

import numpy as np
import pandas as pd
import pytest

from experiments import ngrams, tiny_gpt
from helpers import (
    decoders,
    encoding,
    injection,
    likelihood,
    model_edits,
    models,
    stats,
    text_sets,
)
from helpers.geometry import quantization, quantizers, spread
from helpers.modelmap import (
    model_map,
    placement,
    score_prediction,
    scoring,
    text_choice,
)
from helpers.posterior import alp, chance, entities, transferability, trees
from helpers.retrieval import binned_fits, closed_book, corpora, corpus_counts, counting, smi
from helpers.synthesis import masked_likelihood

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((60, 6)), np.repeat(list("abc"), 20)
L, NAMES = -50 - 100 * rng.random((8, 12)), [f"model {i}" for i in range(8)]
MAP = model_map.fit_map(L, NAMES)
FRAME = pd.DataFrame({"x": rng.random(20), "y": rng.random(20), "g": list("ab") * 10})
BINS = pd.DataFrame({"n": [1, 2, 3], "mean": [0.1, 0.2, 0.3], "variance": [0.0] * 3})
TEXTS = [f"the {a} of {b} is here" for a in "abcdef" for b in "xyz"]
TOKENIZER = tiny_gpt.word_tokenizer(TEXTS)
GPT = tiny_gpt.new_gpt(TOKENIZER, width=16, layers=1, seed=0)
NGRAM = ngrams.fit(TEXTS, order=1)
PAIRS = [("a", "b")]
NAN = float("nan")


def of(function, *given, **options):
    return lambda folder: function(*given, **options)


def answers(*given, **options):
    return of(closed_book.answer_log_probability, GPT, TOKENIZER, *given, **options)


def samples(**options):
    return of(closed_book.sample_continuations, GPT, TOKENIZER, ["the"], **options)


def written(function, name, content):
    """Call a function on a file of this content."""

    def call(folder):
        (folder / name).write_bytes(content)
        function(str(folder / name))

    return call


# What the message must name: the argument, as the last word of the key.
CASES = {
    "posterior: ragged rows of X": of(alp.average_log_posterior, [[1, 2], [3]], ["a", "b"]),
    "posterior: text for X": of(alp.average_log_posterior, "text", Y),
    "posterior: complex numbers in X": of(alp.average_log_posterior, X * 1j, Y),
    "posterior: one string as labels": of(alp.average_log_posterior, X, "abc" * 20),
    "posterior: two columns of labels": of(alp.average_log_posterior, X, np.c_[Y, Y]),
    "posterior: a word as ridge": of(alp.average_log_posterior, X, Y, ridge="small"),
    "posterior: NaN as ridge": of(alp.average_log_posterior, X, Y, ridge=NAN),
    "posterior: a word as clip": of(alp.average_log_posterior, X, Y, clip="a"),
    "posterior: negative seed": of(alp.average_log_posterior, X, Y, seed=-1),
    "posterior: no seed": of(alp.average_log_posterior, X, Y, seed=None),
    "posterior: half a head_dim": of(alp.average_log_posterior, X, Y, head_dim=2.5),
    "posterior: negative cluster_size": of(chance.expected_optimism, -3, 4, 2),
    "posterior: one of n_clusters": of(chance.expected_optimism, 20, 4, 1),
    "posterior: other width of X_test": of(alp.held_out_log_posterior, X, Y, X[:, :3], Y),
    "baselines: a word as C": of(transferability.linear_probe, X, Y, C="a"),
    "baselines: short labels": of(transferability.log_me, X, Y[:10]),
    "trees: one feature fewer than features": of(trees.embedding_tree, X, FRAME),
    "geometry: a word as n_cells": of(quantization.cell_counts, [[0], [1]], "a"),
    "geometry: a word as counts": of(quantization.lloyd_index, "abc"),
    "geometry: no codebooks": of(
        quantization.lloyd_from_released, 1.0, points_per_cell=3, codebooks=0
    ),
    "geometry: a word as patchiness": of(quantization.lloyd_from_released, "a", points_per_cell=3),
    "geometry: more cells than points": of(quantizers.quantize, X, bits=30),
    "spread: words as eigenvalues": of(spread.isoscore, ["a", "b"]),
    "spread: NaN in points": of(spread.spread_measures, np.where(X > 2, NAN, X)),
    "smi: a missing n_both": of(smi.mutual_information, 10, NAN, 3, 2),
    "smi: a word as n_documents": of(smi.mutual_information, "a", 1, 1, 1),
    "smi: counts of unlike shapes": of(smi.mutual_information, [10], [1, 2], [1, 2, 3], [1]),
    "smi: other columns of facts": of(smi.facts_information, FRAME),
    "smi: a path as facts": of(smi.facts_information, "facts.csv"),
    "smi: words as values": of(smi.log_bins, "abc"),
    "smi: no bins": of(smi.normalise, []),
    "smi: words as bins": of(smi.normalise, ["a"]),
    "smi: a name as parameters": of(smi.size_exponent, "7B"),
    "smi: NaN as parameters": of(smi.size_exponent, NAN),
    "smi: an unknown generation": of(smi.keep, [0.1, 0.2], "v9"),
    "smi: unequal bins": of(smi.bin_statistics, [1, 2, 3], [0.1, 0.2]),
    "smi: words as accuracy": of(smi.bin_statistics, [1, 2], ["a", "b"]),
    "smi: other columns of statistics": of(smi.fit_bins, FRAME, range(20)),
    "smi: short x": of(smi.fit_bins, BINS, [1, 2]),
    "smi: percent as level": of(smi.r2_interval, [1, 2, 3], [1, 2, 3], level=95),
    "smi: no n_resamples": of(smi.r2_interval, [1, 2, 3], [1, 2, 3], n_resamples=0),
    "smi: longer mean": of(smi.r2_interval, [1, 2], [1, 2, 3]),
    "smi: more objects": of(smi.object_in_subject, ["a"], ["a", "b"]),
    "smi: one string as subjects": of(smi.object_in_subject, "Paris", ["P"]),
    "smi_audit: words as y": of(binned_fits.predict_held_out, X[:3], ["a", "b", "c"], Y[:3]),
    "counting: no pairs": of(counting.count_documents, ["x"], None),
    "counting: a frame as pairs": of(counting.count_documents, ["x"], FRAME[["x", "y"]]),
    "counting: no documents": of(counting.count_documents, None, PAIRS),
    "counting: a file that is not there as pairs": of(counting.read_pairs, "/none/facts.csv"),
    "counting: an empty file as pairs": written(counting.read_pairs, "e.csv", b""),
    "counting: bytes that are no text as pairs": written(
        counting.read_pairs, "b.csv", b"subject,object\n\xff\xfe,b\n"
    ),
    "counting: a field too many in pairs": written(
        counting.read_pairs, "r.csv", b"subject,object\na,b,c\n"
    ),
    "scale: no source": of(corpus_counts.count_corpus, [], PAIRS, "out"),
    "scale: nothing as source": of(corpus_counts.count_corpus, None, PAIRS, "out"),
    "scale: nothing as out_folder": of(corpus_counts.count_corpus, __file__, PAIRS, None),
    "scale: a word as workers": of(corpus_counts.count_corpus, __file__, PAIRS, "out", workers="2"),
    "scale: a name as scheduler": of(
        corpus_counts.count_corpus, __file__, PAIRS, "out", scheduler="nowhere"
    ),
    "scale: a spreadsheet as output": of(corpus_counts.check_output, "counts.xlsx"),
    "corpora: a page as unit": of(corpora.read_documents, __file__, unit="page"),
    "modelmap: a path as L": of(model_map.fit_map, "matrix.csv"),
    "modelmap: a column of words in L": of(model_map.fit_map, pd.DataFrame(L).assign(s="x")),
    "modelmap: one string as names": of(model_map.fit_map, L, "abcdefgh"),
    "modelmap: a word as clip": of(model_map.fit_map, L, NAMES, clip="a"),
    "modelmap: words as log_likelihoods": of(MAP.place, ["a"] * 12),
    "modelmap: an array as made": of(model_map.principal_coordinates, L),
    "modelmap: a word as perplexity": of(model_map.tsne, MAP, perplexity="a"),
    "modelmap: no iterations": of(model_map.tsne, MAP, perplexity=2, iterations=0),
    "modelmap: negative seed (t-SNE)": of(model_map.tsne, MAP, perplexity=2, seed=-1),
    "modelmap_scores: words as y": of(score_prediction.predict_scores, X, ["a"] * 60),
    "modelmap_scores: negative seed": of(score_prediction.predict_scores, X, X[:, 0], seed=-1),
    "modelmap_texts: words as probabilities": of(text_choice.draw_texts, "ab", 3),
    "modelmap_texts: negative seed": of(text_choice.draw_texts, [0.5, 0.5], 3, seed=-1),
    "placing: percent as confidence": of(placement.neighbours, MAP, L[0], confidence=90),
    "placing: short groups": of(placement.interval, 1.0, [1, 2], ["a"]),
    "likelihood: numbers as texts": of(likelihood.score_texts, GPT, TOKENIZER, [3]),
    "likelihood: a missing text in texts": of(likelihood.score_texts, GPT, TOKENIZER, ["a", None]),
    "likelihood: a name as model": of(likelihood.score_texts, "gpt2", TOKENIZER, TEXTS),
    "likelihood: nothing as tokenizer": of(likelihood.score_texts, GPT, None, TEXTS),
    "likelihood: too many n_tokens": of(likelihood.draw_tokens, GPT, [0], 2, 10_000),
    "likelihood_runs: one string as documents": lambda _: list(text_sets.chunk_texts("one")),
    "likelihood_runs: one string as texts": of(text_sets.sample_texts, "abcdef", 3),
    "likelihood_runs: negative seed": of(text_sets.sample_texts, ["a", "b"], 2, seed=-1),
    "likelihood_runs: one name as models": of(scoring.score_models, "gpt2", ["a"], "out"),
    "likelihood_runs: nothing in models": of(scoring.score_models, [None], ["a"], "out"),
    "likelihood_runs: a text as texts": of(scoring.score_models, ["a"], "text", "out"),
    "likelihood_runs: no max_tokens": of(scoring.score_models, ["a"], ["x"], "out", max_tokens=0),
    "likelihood_runs: a name as scheduler": of(
        scoring.score_models, ["a"], ["x"], "out", scheduler="nowhere"
    ),
    "masked_likelihood: a number in texts": of(masked_likelihood.score_texts, GPT, TOKENIZER, [3]),
    "closed_book: numbers as prompts": answers([3], [["b"]]),
    "closed_book: a word as temperature": answers(["the a"], [["b"]], temperature="a"),
    "closed_book: one string as answers": of(closed_book.grade, [["a"]], "a"),
    "closed_book: nothing as name_or_path": of(decoders.load_causal, None),
    "models: an empty name_or_path": of(models.load_model, ""),
    "models: a number as name_or_path": of(models.load_model, 3),
    "models: numbers as sentences": of(encoding.token_vectors, GPT, TOKENIZER, [3]),
    "models: half of tokens_per_sentence": of(
        encoding.token_vectors, GPT, TOKENIZER, TEXTS, tokens_per_sentence=1.5
    ),
    "models: negative seed": of(encoding.token_vectors, GPT, TOKENIZER, TEXTS, seed=-1),
    "embeddings: a number as layers": of(
        encoding.layer_embeddings, GPT, TOKENIZER, TEXTS, layers=1
    ),
    "embeddings: half a batch_size": of(
        encoding.layer_embeddings, GPT, TOKENIZER, TEXTS, batch_size=1.5
    ),
    "embeddings: nothing in texts": of(encoding.layer_embeddings, GPT, TOKENIZER, [None]),
    "embeddings: nothing as texts": of(encoding.layer_embeddings, GPT, TOKENIZER, None),
    "entities: one string as texts": of(entities.glove_control, "abc"),
    "stats: words as x": of(stats.correlation, list("abc"), [1, 2, 3]),
    "stats: nothing in x": of(stats.correlation, [], []),
    "stats: percent as confidence": of(stats.correlation, [1, 2, 4], [1, 2, 3], confidence=95),
    "stats: words as covariates": of(stats.partial_correlation, [1, 2, 3], [1, 2, 3], list("abc")),
    "stats: words as y": of(stats.bootstrap_correlation, FRAME, "x", "g"),
    "variants: a name as model": of(model_edits.layers_shuffled, "bert-base-uncased"),
    "injection: a word as level": of(injection.inject_noise, GPT, "a"),
    "injection: a name as model": of(injection.inject_noise, "bert-base-uncased", 10),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_error_that_names_the_argument_and_the_cure(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argument = case.split(" (")[0].split()[-1]
    with pytest.raises(ValueError) as caught:
        CASES[case](tmp_path)
    told = str(caught.value)
    assert re.search(rf"\b{argument}\b", told) and "; " in told, told
    assert not (tmp_path / "out").exists()
