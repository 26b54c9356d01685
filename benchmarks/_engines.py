"""Score texts by engines that are not ours, llama.cpp and CTranslate2, for `conformance.py --own`.

Neither is a dependency of the book; both go into its environment and change no package there:

    pip install ctranslate2==4.8.5         # a wheel of 43 MB
    pip install llama-cpp-python==0.3.36   # is compiled: a quarter of an hour, a C++ compiler
    python benchmarks/_engines.py ctranslate2 float32 build/engines
    python benchmarks/_engines.py llama.cpp "as it comes" build/engines
    python benchmarks/conformance.py --texts 64 --own build/engines/*.csv --keep

llama.cpp reads the GGUF file with its own tokenizer. "as it comes" it rounds activations to 8 bits
before they meet quantised weights, and its cache to float16; with "float32" it gets the weights
and a cache in float32. CTranslate2 gets the model as a folder, and tokens of ours. Neither puts a
BOS first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers import decoders, model_sources, models, text_sets


def log_likelihood(logits: np.ndarray, tokens: Sequence[int]) -> float:
    """Return the log-likelihood of the tokens of a text after the first, nats.

    `logits` (n or more, vocabulary) are those of the tokens; the last row is not used.
    """
    rows = logits[: len(tokens) - 1] - logits[: len(tokens) - 1].max(axis=1, keepdims=True)
    chosen = rows[np.arange(len(rows)), tokens[1:]].astype(float)
    return float((chosen - np.log(np.exp(rows).sum(axis=1, dtype=float))).sum())


def as_float32(model: Path, out: Path) -> Path:
    """Write a GGUF file out with its weights as float32, and return the new file."""
    import gguf

    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture", "general.file_type")):
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def by_llama_cpp(texts: Sequence[str], name: str, form: str, folder: Path) -> Iterator[float]:
    """Give the log-likelihood of each text by llama.cpp, nats; `form` is "float32" or any other."""
    import llama_cpp

    model, how = model_sources.local_source(name), {"n_threads": 1, "n_threads_batch": 1}
    if form == "float32":
        model = as_float32(model, folder / "float32.gguf")
        how |= {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    # A token is a byte at least.
    room = max(len(text.encode()) for text in texts)
    how |= {"n_ctx": room, "n_batch": room, "logits_all": True, "verbose": False}
    engine = llama_cpp.Llama(str(model), **how)
    for text in texts:
        tokens = engine.tokenize(text.encode(), add_bos=False)
        engine.reset()
        engine.eval(tokens)
        yield log_likelihood(engine.scores, tokens)


def by_ctranslate2(texts: Sequence[str], name: str, form: str, folder: Path) -> Iterator[float]:
    """Give the log-likelihood of each text by CTranslate2, nats; `form` is its type to compute."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    tokenizer, model = decoders.load_causal(name)
    for part in (decoders.with_output(model), tokenizer):
        part.save_pretrained(folder / "transformers")
    place = TransformersConverter(str(folder / "transformers")).convert(str(folder / "made"))
    engine = ctranslate2.Generator(place, compute_type=form, intra_threads=1)
    for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]:
        (scored,) = engine.score_batch([tokenizer.convert_ids_to_tokens(ids)])
        yield sum(scored.log_probs)


ENGINES = {
    "llama.cpp": ("llama-cpp-python", by_llama_cpp),
    "ctranslate2": ("CTranslate2", by_ctranslate2),
}


def main() -> None:
    """Write `PACKAGE VERSION, FORM.csv` with the key and log-likelihood (nats) of each text."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("engine", choices=list(ENGINES))
    options.add_argument("form", help="float32, or another type that the engine has")
    options.add_argument("out", type=Path, help="folder to write into")
    options.add_argument("--model", default=models.SMOLLM, help="package or GGUF file")
    options.add_argument("--texts", type=int, default=64, help="a multiple of 8")
    given = options.parse_args()
    texts = text_sets.load_texts(given.texts)
    package, score = ENGINES[given.engine]
    with tempfile.TemporaryDirectory() as folder:
        found = list(score(list(texts.text), given.model, given.form, Path(folder)))
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{package} {version(package)}, {given.form}.csv"
    pd.DataFrame({"log_likelihood": found}, texts.index).to_csv(path)
    print(f"{len(texts)} texts: {path}")


if __name__ == "__main__":
    main()
