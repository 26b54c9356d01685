"""Log-likelihoods of texts from the files of other engines, checked against the texts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from helpers import validation
from helpers.modelmap import conformance

_ENGINES = ("auto", "table", "lm-eval", "vllm", "sglang", "llama.cpp")
_BOS = ("auto", "yes", "no")
# Larger files are no responses to some thousand texts.
_MOST_BYTES = 2**30
# vLLM and others write this for a probability of 0.
_PLACEHOLDER = -9999.0


class _Scored(NamedTuple):
    """What a record says of one text: its key or text, where it has them, and its tokens.

    `pieces` are the texts of the tokens, None where unknown, and `values` their log-likelihoods;
    or `total` is the sum over all of them.
    """

    key: str | None
    text: str | None
    pieces: list[str | None]
    values: list[float | None]
    total: float | None = None
    hidden_bos: bool = False


def read_log_likelihoods(
    path: str | Path,
    texts: Mapping[str, str] | pd.Series,
    *,
    engine: str = "auto",
    bos: str = "auto",
) -> pd.Series:
    """Return the log-likelihoods of texts that another engine wrote to a file, nats, by key.

    `texts` maps keys to texts, such as `text_sets.load_texts(128).text` or `texts.jsonl` of
    `before-ft score`; the result has their order, as `ModelMap.place` and `fit_map` take it. It is
    the sum over the tokens of a text after the first, as in `likelihood.score_texts`; `attrs` has
    the `engine`, `bos` (whether a start token stood first) and `first_token` (whether the sum has
    the first token too, as in lm-eval). `engine` is one of

    - "lm-eval": lines of `--log_samples`, of a task with `loglikelihood_rolling` or with
      `loglikelihood` and no context;
    - "vllm": responses of `/v1/completions` with `prompt_logprobs`, or with `echo` and `logprobs`;
    - "sglang": responses of `/generate` with `return_logprob`, `logprob_start_len` 0 and
      `return_text_in_logprobs`;
    - "llama.cpp": completions of llama-cpp-python with `echo` and `logprobs`;
    - "table": CSV or JSON lines with `key` and `log_likelihood`.

    Responses stand a line each, in one list, or as the output of a batch (`custom_id` is the key);
    without keys they must be in the order of the texts. `bos` says whether a start token stood
    first where the file leaves that open.

    Raises `ValueError` for a file of another kind, responses that are not of these texts or of part
    of them, a token without a log-likelihood, values above 0, rounded, or that stand for
    probability 0, and llama-cpp-python without a start token, which then pairs each token with the
    probability of the next position. Sources: the engines' code and issues, as read in 2026:
    vLLM (entrypoints/openai/completion), SGLang 0.5 (tokenizer_manager), lm-eval 0.4.13
    (evaluation_tracker), llama-cpp-python 0.3.36 (issue 1983).
    """
    validation.choice(engine, _ENGINES, "engine")
    validation.choice(bos, _BOS, "bos")
    path, wanted = Path(path), {str(key): text for key, text in dict(texts).items()}
    validation.strings(list(wanted.values()), "texts")
    records = None if path.suffix == ".csv" else _records(path)
    if engine == "auto":
        engine = "table" if records is None else _engine(path, records)
    if engine == "table":
        found = pd.Series(conformance.read_scores(path, list(wanted)), list(wanted))
        found.attrs = {"engine": engine, "bos": None, "first_token": False}
        return found.rename("log_likelihood")
    if records is None:
        raise ValueError(f"path {str(path)!r} is CSV; pass engine='table', or JSON of {engine}")
    read = {"lm-eval": _of_lm_eval, "sglang": _of_sglang}.get(engine, _of_completion)
    scored = [
        one for n, record in enumerate(records) for one in read(record, f"record {n}", engine)
    ]
    values, starts = {}, set()
    for key, one in _matched(scored, wanted).items():
        where = f"path {path.name}, text {key!r}"
        if one.total is not None:
            values[key] = _number(one.total, where)
            continue
        starts.add(first := _starts_with_bos(one, wanted[key], bos, where))
        values[key] = _summed(one.values, 1 + (first and not one.hidden_bos), where)
    if len(starts) > 1:
        raise ValueError(f"path {str(path)!r} has texts with a start token and without; pass bos")
    found = pd.Series([values[key] for key in wanted], list(wanted), name="log_likelihood")
    found.attrs = {"engine": engine, "bos": starts.pop() if starts else None}
    found.attrs["first_token"] = engine == "lm-eval"
    return found


def _records(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, of one list, or of one object."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES:,} bytes; ask for fewer logprobs")
        text = path.read_text(encoding="utf-8")
        try:
            whole = json.loads(text)
        except ValueError:
            # Not splitlines: a string of JSON may hold other line ends than this.
            whole = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"path {str(path)!r} cannot be read ({error}); pass JSON or JSON lines: the text that "
            "llama-perplexity prints is of chunks of one file, not of texts"
        ) from error
    rows = whole if isinstance(whole, list) else [whole]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"path {str(path)!r} holds no JSON objects; pass responses of an engine")
    return [_body(row) for row in rows]


def _body(row: dict[str, Any]) -> dict[str, Any]:
    """Return the response of a line of a batch with its key, or the row as it is."""
    if "custom_id" not in row:
        return row
    body = (row.get("response") or {}).get("body")
    if not isinstance(body, dict):
        raise ValueError(f"custom_id {row['custom_id']!r} has no response; run the batch again")
    return body | {"custom_id": str(row["custom_id"])}


def _engine(path: Path, records: list[dict[str, Any]]) -> str:
    first = records[0]
    if {"key", "log_likelihood"} <= set(first):
        return "table"
    if "resps" in first or "filtered_resps" in first:
        return "lm-eval"
    if "meta_info" in first:
        return "sglang"
    choices = first.get("choices") or [first]
    if isinstance(choices, list) and isinstance(choices[0], dict):
        if {"prompt_logprobs", "stop_reason"} & set(choices[0]):
            return "vllm"
        if "logprobs" in choices[0]:
            return "llama.cpp"
    if "completion_probabilities" in first:
        raise ValueError(
            f"path {str(path)!r} is of llama-server, which gives probabilities of generated tokens "
            "only; use llama-cpp-python with echo and logprobs"
        )
    raise ValueError(
        f"path {str(path)!r} is of no engine known here; name it: {', '.join(_ENGINES[1:])}"
    )


def _of_lm_eval(record: dict[str, Any], where: str, engine: str) -> Iterator[_Scored]:
    """Read a sample of lm-eval, whose sum is over all tokens after a start token."""
    try:
        asked, answers = record["arguments"], record.get("filtered_resps") or record["resps"]
        one = [list(a.values()) for a in asked.values()] if isinstance(asked, dict) else asked
        if len(one) != 1 or len(answers) != 1:
            raise ValueError(f"{where} has {len(one)} answers; take a task with one text each")
        context, text = ("", *one[0])[-2:]
        answer = answers[0]
        while isinstance(answer, list):
            answer = answer[0]
        total = float(answer)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{where} is no sample of lm-eval; pass --log_samples' file") from error
    if context:
        raise ValueError(
            f"{where} has a context, and its sum is of what follows; set doc_to_text and "
            "fewshot to nothing, or use loglikelihood_rolling"
        )
    yield _Scored(None, text, [], [], total)


def _of_sglang(record: dict[str, Any], where: str, engine: str) -> Iterator[_Scored]:
    if "meta_info" not in record:
        yield from _of_completion(record, where, engine)
        return
    about = record["meta_info"]
    rows = about.get("input_token_logprobs") or []
    if not rows or len(rows) != about.get("prompt_tokens", len(rows)):
        raise ValueError(
            f"{where} has log-likelihoods of {len(rows)} of {about.get('prompt_tokens')} tokens; "
            "send return_logprob: true and logprob_start_len: 0"
        )
    values, _, pieces = (list(column) for column in zip(*rows, strict=True))
    if None in pieces:
        raise ValueError(f"{where} has no texts of tokens; send return_text_in_logprobs: true")
    yield _Scored(record.get("custom_id") or about.get("id"), None, pieces, values)


def _of_completion(record: dict[str, Any], where: str, engine: str) -> Iterator[_Scored]:
    """Read the choices of a completion, each of one text."""
    if str(record.get("object", "")).startswith("chat"):
        raise ValueError(f"{where} is a chat, whose template adds tokens; use /v1/completions")
    choices = record.get("choices") or [record]
    usage = record.get("usage") or {}
    made, rest = divmod(usage.get("completion_tokens") or 0, len(choices))
    if rest:
        raise ValueError(f"{where} has answers of unequal length; send one text per request")
    for choice in choices:
        if prompt := choice.get("prompt_logprobs"):
            yield _of_prompt(prompt, choice, record, where)
            continue
        parts = choice.get("logprobs") or {}
        if not parts.get("token_logprobs") or not parts.get("tokens"):
            raise ValueError(
                f"{where} has no log-likelihoods of the prompt; send prompt_logprobs: 0 (vLLM), or "
                "echo: true with logprobs: 1 (llama-server has neither: use llama-cpp-python)"
            )
        n = len(parts["tokens"]) - made
        pieces, values = parts["tokens"][:n], parts["token_logprobs"][:n]
        if engine == "llama.cpp" and usage.get("prompt_tokens") != n * len(choices) + len(choices):
            raise ValueError(
                f"{where} has {n} tokens and {usage.get('prompt_tokens')} were read: without a "
                "start token llama-cpp-python gives each token the probability of the position "
                "after it (its issue 1983); compute it from the logits as benchmarks/_engines.py"
            )
        yield _Scored(record.get("custom_id"), None, pieces, values, None, engine == "llama.cpp")


def _of_prompt(rows: list, choice: dict[str, Any], record: dict[str, Any], where: str) -> _Scored:
    """Read vLLM's prompt_logprobs: for each token a table of candidates, itself the first."""
    ids = choice.get("prompt_token_ids") or record.get("prompt_token_ids")
    if rows[0] is not None or (ids and len(ids) != len(rows)):
        raise ValueError(f"{where} has no whole prompt; do not cut prompt_logprobs")
    pieces, values = [None], [None]
    for n, row in enumerate(rows[1:], 1):
        if not row:
            raise ValueError(f"{where}, token {n}, has no log-likelihood; score the text again")
        own = row.get(str(ids[n])) if ids else next(iter(row.values()))
        if own is None:
            raise ValueError(f"{where}, token {n}, is not among its candidates; score it again")
        pieces.append(own.get("decoded_token"))
        values.append(own["logprob"])
    if None in pieces[1:]:
        raise ValueError(f"{where} has no decoded_token; serve the model with its tokenizer")
    return _Scored(record.get("custom_id"), record.get("prompt"), pieces, values)


def _matched(scored: list[_Scored], wanted: dict[str, str]) -> dict[str, _Scored]:
    """Return what was scored by key of the text, each once; by order where no key is given."""
    if not any(one.key in wanted or one.text is not None for one in scored):
        if len(scored) != len(wanted):
            raise ValueError(
                f"path has {len(scored)} responses and there are {len(wanted)} texts; score the "
                "texts, each once, and keep their order"
            )
        return dict(zip(wanted, scored, strict=True))
    places: dict[str | None, list[str]] = {}
    for key, text in wanted.items():
        places.setdefault(text, []).append(key)
    found: dict[str, _Scored] = {}
    strange, twice = [], []
    for one in scored:
        keys = [one.key] if one.key in wanted else places.get(one.text, [])
        strange += [] if keys else [one.key or (one.text or "")[:40]]
        # Several filters of lm-eval repeat a sample; the same text may have two keys.
        twice += [k for k in keys if k in found and (one.total is None or one != found[k])]
        found |= dict.fromkeys(keys, one)
    missing = [key for key in wanted if key not in found]
    wrong = {"lacks": missing, "names twice": twice, "has, unknown here,": strange}
    if told := [f"{what} {validation.name_some(names)}" for what, names in wrong.items() if names]:
        raise ValueError(
            f"path {' and '.join(told)}; score exactly these texts (before-ft score --out FOLDER "
            "writes them), without a space or a template before them"
        )
    return found


def _starts_with_bos(one: _Scored, text: str, bos: str, where: str) -> bool:
    """Return whether the first token is a start token; raise where the rest is not the text.

    A token may be part of a character, and may have lost the space before it: where the tokens do
    not make up the text exactly, only what is left of both is compared.
    """
    first, rest = one.pieces[0], "".join(piece or "" for piece in one.pieces[1:])
    exact = first is None and text.endswith(rest) or text in (rest, (first or "") + rest)
    bare = str if exact else _bare
    whole, tail, head = bare(text), bare(rest), bare(first or "")
    if first is None:
        lead = whole.removesuffix(tail)
        with_bos, without = tail == whole, whole.endswith(tail) and _is_token(lead)
    else:
        with_bos, without = tail == whole, head + tail == whole
    lost = [c for c in rest if not c.isascii() and c not in "\ufffd\u2581"]
    if not (with_bos or without) or one.hidden_bos and not without or not _in_order(lost, text):
        raise ValueError(
            f"{where}: the tokens are not those of the text, or of a part of it; score the texts "
            "whole, in their order, without truncation or a template"
        )
    if one.hidden_bos or bos != "auto":
        return one.hidden_bos or bos == "yes"
    # A first token without a letter may be a part of the text that decoding lost.
    plain = text[:1].isascii() and not text[:1].isspace()
    if with_bos and not first and not plain and not (exact and first is None):
        raise ValueError(f"{where}: whether a start token stands first is open; pass bos")
    return with_bos and not (without and first)


def _is_token(text: str) -> bool:
    """Tell whether a text may be one token: without white space inside, short, or one sign."""
    inner = text.strip()
    return bool(text) and not re.search(r"\s", inner) and (len(inner) <= 20 or len(set(inner)) < 3)


def _in_order(characters: list[str], text: str) -> bool:
    left = iter(text)
    return all(c in left for c in characters)


def _bare(text: str) -> str:
    """Return the characters that decoding token by token keeps: ASCII without white space."""
    return "".join(c for c in text if c.isascii() and not c.isspace())


def _summed(values: list[float | None], first: int, where: str) -> float:
    part = values[first:]
    if None in part:
        raise ValueError(f"{where}: token {first + part.index(None)} has no log-likelihood")
    numbers = [_number(value, where) for value in part]
    if len(numbers) >= 20 and all(round(v, 2) == v for v in numbers):
        raise ValueError(f"{where}: values are rounded to 2 decimals; keep all digits")
    return math.fsum(numbers)


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where} has a log-likelihood of {value!r}; score that text again")
    if value > 1e-3:
        raise ValueError(f"{where} has a log-likelihood of {value} above 0; are these raw logits?")
    if value <= _PLACEHOLDER and value in (_PLACEHOLDER, -999999999.0):
        raise ValueError(f"{where} has {value}, which stands for probability 0; score it again")
    return float(value)
