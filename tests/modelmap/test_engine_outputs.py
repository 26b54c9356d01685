"""Files of other engines: what a tiny model gives, written as each engine does, is read back."""

import json

import pandas as pd
import pytest

from helpers import decoders, likelihood, reading
from helpers.modelmap import fit_map
from helpers.modelmap.engine_outputs import read_log_likelihoods
from helpers.synthesis import example_models

TEXTS = {
    "plain-1": "The rain falls on the hills of the north.",
    "code-2": "def f(x):\n    return '  ' + x  # \u2028 a line end for some\n",
    "accents-3": "Är det här språket? 日本語のテキスト、です。 Да.",
    "east-4": "日本語 only",
}
BOS = "<|end|>"


class Tiny:
    """The scorer's log-likelihood of each token, and the texts of the tokens."""

    def __init__(self, folder):
        self.tokenizer, self.model = decoders.load_causal(folder)
        self.tokenizer.bos_token = BOS

    def tokens(self, bos):
        decoder, found = decoders.prove(self.model), {}
        start = likelihood.start_tokens(self.tokenizer, "add" if bos else "none")
        for key, text in TEXTS.items():
            ids = start + self.tokenizer(text, add_special_tokens=False)["input_ids"]
            with reading.inference(self.model):
                (values,) = likelihood._token_scores(decoder, [ids], 512)
            pieces = [self.tokenizer.decode([number]) for number in ids]
            found[key] = (ids, pieces, [None, *map(float, values)])
        return found

    def expected(self, bos):
        # One text at a time, as above: a batch changes the last digits.
        how = {"bos": "add" if bos else "none", "batch_tokens": 1}
        return likelihood.score_texts(self.model, self.tokenizer, list(TEXTS.values()), **how)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Tiny(example_models.write("causal", tmp_path_factory.mktemp("tiny") / "causal"))


def usage(ids, made=1):
    return {"prompt_tokens": len(ids), "completion_tokens": made, "total_tokens": len(ids) + made}


def completion(key, choice, ids, made=1):
    head = {"id": f"cmpl-{key}", "object": "text_completion", "created": 1, "model": "tiny"}
    return head | {"choices": [{"index": 0, **choice}], "usage": usage(ids, made)}


def vllm(key, ids, pieces, values, candidates=1):
    """Response of vLLM to `prompt_logprobs`: no entry for the first token, then candidates."""
    rows = [None]
    for number, piece, value in zip(ids[1:], pieces[1:], values[1:], strict=True):
        row = {str(number): {"logprob": value, "rank": 7, "decoded_token": piece}}
        row |= {
            str(300 + i): {"logprob": -0.5, "rank": i + 1, "decoded_token": "z"}
            for i in range(candidates)
        }
        rows.append(row)
    about = {"text": "!", "logprobs": None, "finish_reason": "length", "stop_reason": None}
    return completion(key, about | {"prompt_logprobs": rows, "prompt_token_ids": None}, ids)


def echo(key, ids, pieces, values):
    """Response of vLLM to `echo` and `logprobs`, with the token that had to be generated."""
    shown = {"tokens": [*pieces, " "], "token_logprobs": [*values, -3.25], "text_offset": []}
    about = {"text": "", "logprobs": shown, "finish_reason": "length", "stop_reason": None}
    return completion(key, about | {"prompt_logprobs": None}, ids)


def sglang(key, ids, pieces, values):
    """Response of SGLang's /generate: triples of the prompt's tokens."""
    rows = [list(row) for row in zip(values, ids, pieces, strict=True)]
    about = {"id": "f00d", "prompt_tokens": len(ids), "completion_tokens": 1, "cached_tokens": 0}
    about |= {"input_token_logprobs": rows, "output_token_logprobs": [[-3.25, 1, "!"]]}
    return {"text": "!", "meta_info": about}


def llama(key, ids, pieces, values):
    """Completion of llama-cpp-python: no start token, parts of characters lost, first one null."""
    pieces = [piece.replace("\ufffd", "") for piece in pieces[1:]]
    shown = {"tokens": [*pieces, " the"], "token_logprobs": [None, *values[2:], -3.25]}
    about = {"text": "", "logprobs": shown | {"text_offset": []}, "finish_reason": "length"}
    return completion(key, about, ids)


def lm_eval(key, ids, pieces, values):
    """Line of lm-eval's --log_samples, whose numbers are strings."""
    total, text = str(sum(values[1:])), TEXTS[key]
    return {
        "doc_id": 0, "doc": {"key": key, "text": text}, "target": text,
        "arguments": {"gen_args_0": {"arg_0": text}}, "resps": [[total]],
        "filtered_resps": [total], "filter": "none", "metrics": ["byte_perplexity"],
        "doc_hash": "", "prompt_hash": "", "target_hash": "", "byte_perplexity": [total, "40"],
    }  # fmt: skip


def likelihood_task(key, ids, pieces, values):
    """The same of a task with `loglikelihood` and an empty context."""
    total = [str(sum(values[1:])), "False"]
    asked = {"gen_args_0": {"arg_0": "", "arg_1": TEXTS[key]}}
    return lm_eval(key, ids, pieces, values) | {
        "arguments": asked, "resps": [[total]], "filtered_resps": [total],
    }  # fmt: skip


def write(path, records):
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def records(tiny, writer, bos=True):
    return [writer(key, *row) for key, row in tiny.tokens(bos).items()]


@pytest.mark.parametrize(
    ("writer", "bos"),
    [*((w, b) for w in (vllm, echo, sglang) for b in (False, True)), (llama, True)],
)
def test_what_an_engine_writes_is_what_our_scorer_gives(tiny, writer, bos, tmp_path):
    path = write(tmp_path / "a.jsonl", records(tiny, writer, bos))
    # The vLLM format does not tell the first token, and this text begins with parts of a letter.
    found = read_log_likelihoods(path, TEXTS, bos="yes" if bos else "no")
    assert list(found.index) == list(TEXTS) and found.attrs["bos"] is bos
    assert not found.attrs["first_token"]
    assert found.to_numpy() == pytest.approx(tiny.expected(bos).log_likelihood, rel=1e-12)
    (tmp_path / "b.json").write_text(json.dumps(records(tiny, writer, bos)))
    again = read_log_likelihoods(tmp_path / "b.json", pd.Series(TEXTS), bos="yes" if bos else "no")
    pd.testing.assert_series_equal(again, found)


@pytest.mark.parametrize("writer", [lm_eval, likelihood_task])
def test_the_sums_of_lm_eval_hold_the_first_token(tiny, writer, tmp_path):
    rows = records(tiny, writer)[::-1]
    # Two filters repeat a sample.
    path = write(tmp_path / "a.jsonl", rows + [rows[0] | {"filter": "another"}])
    found = read_log_likelihoods(path, TEXTS)
    expected = tiny.expected(True)
    total = expected.log_likelihood + expected.first_token_log_likelihood
    assert found.to_numpy() == pytest.approx(total, rel=1e-12) and found.attrs["first_token"]


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("writer", [vllm, echo, sglang])
def test_a_start_token_is_found_where_the_text_shows_it(tiny, writer, bos, tmp_path):
    few = {key: TEXTS[key] for key in ("plain-1", "code-2")}
    path = write(tmp_path / "a.jsonl", records(tiny, writer, bos)[:2])
    found = read_log_likelihoods(path, few)
    assert found.attrs["bos"] is bos
    assert found.to_numpy() == pytest.approx(tiny.expected(bos).log_likelihood[:2], rel=1e-12)


def test_lost_spaces_and_batches_with_keys(tiny, tmp_path):
    rows = tiny.tokens(True)
    for _, pieces, _ in rows.values():
        pieces[:] = [piece.lstrip(" ") for piece in pieces]
    lines = [
        {"custom_id": key, "response": {"status_code": 200, "body": vllm(key, *row)}}
        for key, row in reversed(rows.items())
    ]
    found = read_log_likelihoods(write(tmp_path / "a.jsonl", lines), TEXTS, bos="yes")
    assert found.to_numpy() == pytest.approx(tiny.expected(True).log_likelihood, rel=1e-12)
    lines[0]["response"] = None
    with pytest.raises(ValueError, match="custom_id 'east-4' has no response"):
        read_log_likelihoods(write(tmp_path / "a.jsonl", lines), TEXTS)


def test_engines_that_agree_are_one_point_of_a_map(tiny, tmp_path):
    a, b = (
        read_log_likelihoods(write(tmp_path / "a.jsonl", records(tiny, w)), TEXTS, bos="yes")
        for w in (vllm, sglang)
    )
    made = fit_map(pd.DataFrame({"a": a, "b": b, "c": a - [1, 2, 3, 9]}).T, clip=0)
    assert made.distances()[0, 1] == pytest.approx(0, abs=1e-9) and made.distances()[0, 2] > 1
    pd.Series(a).rename_axis("key").to_csv(tmp_path / "t.csv")
    pd.testing.assert_series_equal(read_log_likelihoods(tmp_path / "t.csv", TEXTS), a)


def swapped(rows):
    rows[0], rows[1] = rows[1], rows[0]


def prompt(n, row):
    return lambda rows: rows[n]["choices"][0]["prompt_logprobs"].__setitem__(slice(*row), [])


def token(value):
    def change(rows):
        row = rows[0]["choices"][0]["prompt_logprobs"][4]
        next(iter(row.values()))["logprob"] = value

    return change


def rounded(rows):
    for row in rows[0]["choices"][0]["prompt_logprobs"][1:]:
        for one in row.values():
            one["logprob"] = round(one["logprob"], 2)


@pytest.mark.parametrize(
    ("writer", "change", "message"),
    [
        (vllm, swapped, "tokens are not those of the text"),
        (vllm, lambda rows: rows.pop(), "3 responses and there are 4 texts"),
        # Cut from the left, as truncate_prompt_tokens does, and from the right.
        (vllm, prompt(0, (1, 9)), "tokens are not those of the text"),
        (vllm, prompt(0, (20, 99)), "tokens are not those of the text"),
        (vllm, prompt(0, (0, 1)), "has no whole prompt"),
        (vllm, token(None), "token 4 has no log-likelihood"),
        (vllm, token(float("nan")), "log-likelihood of nan"),
        (vllm, token(2.5), "raw logits"),
        (vllm, token(-9999.0), "stands for probability 0"),
        (vllm, rounded, "rounded to 2 decimals"),
        (vllm, lambda rows: rows[0].update(object="chat.completion"), "template adds tokens"),
        (echo, lambda rows: rows[0]["choices"][0].update(logprobs=None), "send prompt_logprobs"),
        (llama, lambda rows: rows[0]["usage"].update(prompt_tokens=41), "issue 1983"),
        (sglang, lambda rows: rows[0]["meta_info"].update(input_token_logprobs=[]),
         "logprob_start_len: 0"),
        (sglang, lambda rows: rows[1]["meta_info"]["input_token_logprobs"][3].__setitem__(2, None),
         "return_text_in_logprobs"),
        (lm_eval, lambda rows: rows[0].update(filtered_resps=["-inf"]), "log-likelihood of -inf"),
        (lm_eval, lambda rows: rows[0]["arguments"]["gen_args_0"].update(arg_0=" x"),
         "path lacks 'plain-1' and has, unknown here, ' x'"),
        (likelihood_task, lambda rows: rows[0]["arguments"]["gen_args_0"].update(arg_0="Q:"),
         "has a context"),
        (likelihood_task, lambda rows: rows[0]["arguments"].update(gen_args_1={"arg_0": ""}),
         "has 2 answers"),
        (lm_eval, lambda rows: rows.append(rows[0] | {"filtered_resps": ["-1.5"]}), "names twice"),
    ],
)  # fmt: skip
def test_each_trap_is_refused_by_name(tiny, writer, change, message, tmp_path):
    rows = records(tiny, writer)
    change(rows)
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        read_log_likelihoods(path, TEXTS, bos="yes")


def test_files_of_another_kind_are_refused(tmp_path):
    for text, message in {
        "perplexity: 12.3 seconds per pass": "of chunks of one file, not of texts",
        "[]": "no JSON objects",
        '{"a": 1}': "is of no engine known here",
        '{"content": "x", "completion_probabilities": []}': "llama-server",
        "[" * 100_000: "cannot be read",
    }.items():
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_log_likelihoods(tmp_path / "a.json", TEXTS)
    with pytest.raises(ValueError, match="none.json.*cannot be read"):
        read_log_likelihoods(tmp_path / "none.json", TEXTS)
    with pytest.raises(ValueError, match="engine is 'tgi'; choose one of"):
        read_log_likelihoods(tmp_path / "a.json", TEXTS, engine="tgi")


def test_an_open_start_is_asked_for(tiny, tmp_path):
    path = write(tmp_path / "a.jsonl", records(tiny, vllm)[3:])
    with pytest.raises(ValueError, match="open; pass bos"):
        read_log_likelihoods(path, {"east-4": TEXTS["east-4"]})
