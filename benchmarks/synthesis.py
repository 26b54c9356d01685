"""All four signals together: masked texts, power by resampling, and signals against fine-tuning.

CPU seconds of one thread. Run as `python benchmarks/synthesis.py`; needs no data. Masked texts are
scored under a BERT of MiniLM's size with random weights, against the same sum token by token. The
signals are those of a glass-box GPT, against fine-tuning it on the tasks that they are to foretell.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import transformers
from _timing import keep, note, parser, timed
from scipy import stats

from experiments.synthesis import glass_box_measures, glass_box_runs, glass_box_world
from helpers import models, text_sets
from helpers.synthesis import masked_likelihood, paired_tests

GPT, BERT = "gpt-128x2-facts-0-step2048", "bert-128x2-facts-0-step8192"


def random_bert(n_tokens: int) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=n_tokens,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    return transformers.BertForMaskedLM(config).eval()


def one_by_one(model: transformers.PreTrainedModel, tokenizer, texts: list[str]) -> list[float]:
    """Return the pseudo-log-likelihood of each text, a pass for each token hidden."""
    found = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        total = 0.0
        for place in range(1, ids.shape[1] - 1):
            hidden = ids.clone()
            hidden[0, place] = tokenizer.mask_token_id
            with torch.inference_mode():
                logits = model(input_ids=hidden).logits[0, place].double()
            total += logits.log_softmax(0)[ids[0, place]].item()
        found.append(total)
    return found


def masked(given) -> None:
    tokenizer = models.load_model()[0]
    model = random_bert(len(tokenizer))
    texts = list(text_sets.load_texts(8).text)[: 2 if given.quick else 8]
    texts = [text[:240] for text in texts]
    slow, theirs = timed(lambda: one_by_one(model, tokenizer, texts), given.repeats)
    exact, alone = timed(
        lambda: masked_likelihood.score_texts(model, tokenizer, texts, every=10**6), given.repeats
    )
    assert np.allclose(exact.log_likelihood, slow, rtol=1e-5)
    found, ours = timed(
        lambda: masked_likelihood.score_texts(model, tokenizer, texts), given.repeats
    )
    print(f"{len(texts)} texts, token by token {theirs:.2f} CPU s; ours {alone:.2f} alone,")
    print(f"{ours:.2f} every seventh together")
    # What hiding several at once costs can only be seen in a model that has learnt something.
    small, known = glass_box_runs.stored_tokenizer(), list(glass_box_world.unseen_texts().text)[:32]
    trained = glass_box_runs.load_named(BERT, small)
    scores = [
        masked_likelihood.score_texts(trained, small, known, every=n).log_likelihood
        for n in (10**6, 7)
    ]
    change = scores[1].sum() / scores[0].sum() - 1
    print(f"in a trained BERT that changes the loss by {change:+.2%}")
    peer = "token by token"
    note("masked texts, each token hidden alone", peer, alone, theirs, theirs / alone)
    note("masked texts, every seventh token hidden", peer, ours, theirs, theirs / ours)


def power(given) -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=240)
    after = before + rng.normal(0.1, 1.0, 240)
    sizes, draws = [8, 32, 128], 100 if given.quick else 1000

    def loop() -> pd.DataFrame:
        rng, rows = np.random.default_rng(0), []
        for n in sizes:
            up = down = 0
            for order in rng.random((draws, 240)).argsort(axis=1)[:, :n]:
                tested = stats.ttest_rel(after[order], before[order])
                up += tested.pvalue < 0.05 and tested.statistic > 0
                down += tested.pvalue < 0.05 and tested.statistic < 0
            rows.append({"n": n, "up": up / draws, "down": down / draws})
        return pd.DataFrame(rows)

    slow, theirs = timed(loop, given.repeats)
    found, ours = timed(
        lambda: paired_tests.power(before, after, sizes, n_draws=draws, seed=0), given.repeats
    )
    assert np.allclose(found, slow)
    print(f"power, {draws} draws of {len(sizes)} sizes: {ours:.3f} CPU s; SciPy's {theirs:.2f}")
    note("power by resampling", "a loop over SciPy's test", ours, theirs, theirs / ours)


def signals(given) -> None:
    world, tokenizer = glass_box_world.make_world(), glass_box_runs.stored_tokenizer()
    bench = glass_box_measures.make_bench(world)
    model = glass_box_runs.load_named(GPT, tokenizer)
    seconds = glass_box_measures.measure(model, tokenizer, bench).seconds
    tuning = seconds["fine_tuned"]
    parts = {"ALP": "alp", "validation loss": "bits_per_byte"}
    parts |= {"geometry, with its vectors": "geometry", "RankMe, given the vectors": "rankme"}
    parts |= {"LogME, with the features": "log_me"}
    for name, key in parts.items():
        print(f"{name:28} {seconds[key]:8.3f} CPU s, fine-tuning {tuning:.1f}")
        note(f"{name}: a small GPT", "fine-tuning", seconds[key], tuning, tuning / seconds[key])


def main() -> None:
    given = parser(__doc__, quick="2 texts, 100 draws", repeats=1).parse_args()
    torch.set_num_threads(1)
    masked(given)
    power(given)
    signals(given)
    keep(given)


if __name__ == "__main__":
    main()
