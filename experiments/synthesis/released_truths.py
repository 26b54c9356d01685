"""Scores of real models after fine-tuning, as others released them, with what was cheap to know.

Every table has one row per model and task. A larger `truth` is better, and so is a larger value of
every signal: losses and PACTran, of which less is better, come with their sign turned.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from helpers import data

PREFIX = "transferability/"
ENCODERS, CURVES, IMAGES = (
    f"{PREFIX}{name}/" for name in ("glue_encoders", "tuning_curves", "image_models")
)
# The fully tuned scores of the six encoders, in percent, and what their cards say of them.
TUNED = data.PUBLISHED / "encoders_glue.csv"
GLUE = ("mnli", "qqp", "qnli", "sst2", "cola", "mrpc", "rte", "wnli")
CORPORA = ("flan", "gigaword", "wmt19")
# Of these scores less is better.
LOWER = ("PACTran-1-10", "PACTran-10-100")
# Models of one vocabulary: only their losses per token have one unit.
TOKENIZERS = dict.fromkeys(("GPT2", "LaMini", "Cerebras", "OPT", "Phi", "BART"), "GPT-2 BPE")
TOKENIZERS |= dict.fromkeys(("T5", "Switch Transformer"), "T5")
# Families that write their answer with a decoder alone.
DECODERS = ("GPT2", "LaMini", "Cerebras", "OPT", "Phi")
# Of this task the table has 112 models of 180, at a mean accuracy of 2 %: training failed.
UNTRAINED = "food101"


def encoder_runs(folder: Path | None = None) -> pd.DataFrame:
    """Return the cheap scores of six encoders on eight GLUE tasks, one row per run of a scorer.

    Columns: `task`, `scorer`, `model`, `run` (0 to 4 for a few steps of fine-tuning, otherwise 0),
    `score` as released, `seconds`. `folder` is a mirror of the files; None asks the registry.
    Raises `DataError` where they are unavailable. Source: Ba1Jun/model-selection-nlp @00d1fcb.
    """
    rows = []
    for key in data.keys(ENCODERS):
        task, file = key.removeprefix(ENCODERS).split("/")
        path = folder / key if folder else data.fetch(key)
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            pairs = zip(entry["all_scores"], entry["all_times"], strict=True)
            for run, (score, seconds) in enumerate(pairs):
                row = {"task": task, "scorer": file.removesuffix(".jsonl"), "model": entry["model"]}
                rows.append({**row, "run": run, "score": score, "seconds": seconds})
    return pd.DataFrame(rows)


def tuned_encoders() -> pd.DataFrame:
    """Return the fully tuned GLUE scores of the six encoders, percent: columns as `encoders`."""
    table = pd.read_csv(TUNED)
    facts = ["model", "family", "parameters", "corpus_gb"]
    return table.melt(facts, list(GLUE), var_name="task", value_name="truth")


def encoders(runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return six encoders on eight GLUE tasks: `truth` in percent, facts, a column per scorer.

    `runs` is that of `encoder_runs`, read from the registry if absent; a score is its mean over
    runs. The facts are `family`, `parameters` and `corpus_gb`, the size of the pre-training text.
    """
    runs = encoder_runs() if runs is None else runs
    scores = runs.groupby(["model", "task", "scorer"]).score.mean().unstack()
    scores[list(LOWER)] *= -1
    return tuned_encoders().merge(scores.reset_index(), on=["model", "task"], validate="1:1")


def tuning_curves(folder: Path | None = None) -> pd.DataFrame:
    """Return test losses of 30 language models along fine-tuning, one row per point of a curve.

    Columns: `task` (one of `CORPORA`), `model`, `family`, `parameters`, `tokenizer`, `decoder`
    (whether the model is one alone), `examples` (0 to 1,638,400), `loss` (nats per token: the
    tokenizers differ). `folder` as in `encoder_runs`. Raises `DataError` where the files are
    unavailable. Source: linhaowei1/Fine-tuning-Scaling-Law @5214568 (Lin et al., ICML 2024).
    """
    parts = []
    for corpus in CORPORA:
        key = f"{CURVES}{corpus}.csv"
        table = pd.read_csv(folder / key if folder else data.fetch(key))
        names = {"config name": "model", "size": "parameters"}
        table = table.rename(columns=names).assign(task=corpus)
        facts = ["task", "model", "family", "parameters"]
        long = table.melt(facts, var_name="examples", value_name="loss")
        parts.append(long.astype({"examples": int}))
    curves = pd.concat(parts, ignore_index=True)
    tokenizer = curves.family.map(TOKENIZERS)
    own = curves.model.str.contains("mt5|mGPT")
    tokenizer = tokenizer.mask(own, curves.model.str.extract("(mt5|mGPT)", expand=False))
    decoder = curves.family.isin(DECODERS)
    return curves.assign(tokenizer=tokenizer, decoder=decoder)


def language_models(curves: pd.DataFrame, examples: int | None = None) -> pd.DataFrame:
    """Return one row per model and corpus: `truth` is minus the loss after so many examples.

    `curves` is that of `tuning_curves`, `examples` one of its sizes, by default the largest. The
    columns `after 0`, `after 200` and so on are minus the losses before it.
    """
    facts = ["model", "task", "family", "parameters", "tokenizer", "decoder"]
    wide = -curves.pivot(index=facts, columns="examples", values="loss")
    last = wide.columns.max() if examples is None else examples
    before = wide.loc[:, wide.columns < last].add_prefix("after ")
    return before.assign(truth=wide[last]).reset_index()


def image_models(folder: Path | None = None) -> pd.DataFrame:
    """Return some 180 image models on 12 tasks: `truth` is the test accuracy in percent.

    Columns: `model`, `task`, `truth`, and what the configuration of a model says: `family` (its
    architecture), `width` (of its embedding), `source` (the data it was trained on, "unknown" where
    it does not say) and `n_labels` (classes of that). One run per row, 30 epochs, one learning
    rate. `folder` as in `encoder_runs`. Raises `DataError` where the files are unavailable.
    Source: zLizy/transferability_graph @9c22047.
    """
    keys = [f"{IMAGES}{name}.csv" for name in ("records", "model_config")]
    records, facts = (pd.read_csv(folder / key if folder else data.fetch(key)) for key in keys)
    records = records[records.finetuned_dataset != UNTRAINED]
    family = facts.architectures.str.extract(r"\['(\w+?)(?:Model)?For", expand=False)
    facts = pd.DataFrame(
        {
            "model": facts.model,
            "family": family.fillna("unknown"),
            "width": facts.output_shape,
            "source": facts.dataset.astype(object).fillna("unknown"),
            "n_labels": facts["#labels"],
        }
    )
    columns = {"model": records.model, "task": records.finetuned_dataset}
    table = pd.DataFrame({**columns, "truth": 100 * records.test_accuracy})
    table = table.merge(facts, on="model", how="left", validate="m:1")
    return table.fillna({"family": "unknown", "source": "unknown"})
