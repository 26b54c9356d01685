import copy
import json

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, LlamaModel

from experiments import tiny_gpt
from experiments.modelmap import smollm2_family
from helpers import likelihood, model_edits, text_sets

TEXTS = ["one two three four", "three four one", "two two two one four"]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_gpt.word_tokenizer(TEXTS)


def llama(tokenizer, *, head=True, layers=5):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return (LlamaForCausalLM if head else LlamaModel)(config).eval()


def gpt(layers=5):
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=8, n_positions=16, n_embd=16, n_layer=layers, n_head=2)
    ).eval()


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def scores(model, tokenizer):
    return likelihood.score_texts(model, tokenizer, TEXTS).log_likelihood.to_numpy()


@pytest.mark.parametrize("n, kept", [(0, [0, 1, 2, 3, 4]), (1, [0, 1, 3, 4]), (4, [4])])
def test_layers_leave_from_the_middle(tokenizer, n, kept):
    for model, path in ((llama(tokenizer), "model.layers"), (gpt(), "transformer.h")):
        before = weights(model)
        new = smollm2_family.layers_dropped(model, n)
        assert len(smollm2_family._decoder_layers(new)) == new.config.num_hidden_layers == len(kept)
        for at, was in enumerate(kept):
            for name, value in new.named_parameters():
                if name.startswith(f"{path}.{at}."):
                    old = before[name.replace(f"{path}.{at}.", f"{path}.{was}.")]
                    assert torch.equal(value, old)
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_model_without_layers_generates_and_scores_like_one_made_so(tokenizer):
    new = smollm2_family.layers_dropped(llama(tokenizer), 2)
    again = llama(tokenizer, layers=3)
    again.load_state_dict(new.state_dict())
    assert np.array_equal(scores(new, tokenizer), scores(again, tokenizer))
    ids = torch.tensor([[1, 2, 3]])
    # With a cache, which numbers its layers.
    assert torch.equal(
        new.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0),
        again.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0),
    )


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rows_are_rounded_to_the_nearest_value_of_their_own_grid(bits):
    model = gpt(1)
    new, most = model_edits.rounded(model, bits, by_row=True), 2 ** (bits - 1) - 1
    for (name, old), (_, got) in zip(model.named_parameters(), new.named_parameters(), strict=True):
        if old.ndim < 2:
            assert torch.equal(old, got)
            continue
        for row, rounded in zip(old.detach().double(), got.detach().double(), strict=True):
            step = float(row.abs().max()) / most
            grid = step * np.arange(-most, most + 1)
            nearest = grid[np.abs(row.numpy()[:, None] - grid).argmin(axis=1)]
            assert np.allclose(rounded.numpy(), nearest, atol=1e-6 * step + 1e-12), name


def test_rounding_refuses_other_bits_and_bears_rows_of_zeros():
    model = gpt(1)
    with torch.no_grad():
        model.transformer.wte.weight[3] = 0
    assert not model_edits.rounded(model, 3, by_row=True).transformer.wte.weight[3].any()


def test_a_body_gets_the_head_that_its_likelihoods_had(tokenizer):
    body = llama(tokenizer, head=False)
    whole = smollm2_family.with_head(body)
    assert np.array_equal(scores(body, tokenizer), scores(whole, tokenizer))
    assert whole.num_parameters() == body.num_parameters()
    assert whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    whole.get_input_embeddings().weight.data.zero_()
    assert body.get_input_embeddings().weight.any()


def test_tuning_lowers_the_loss_on_its_genre_and_leaves_the_parent(tokenizer):
    texts = text_sets.load_texts(8, genres=["facts"])["text"]
    words = tiny_gpt.word_tokenizer(list(text_sets.load_texts(64, genres=["facts"])["text"]))
    parent = llama(words, head=False)
    before = weights(parent)
    new = smollm2_family.tuned(
        parent, words, "facts", 30, n_bytes=20_000, max_tokens=32, learning_rate=1e-2
    )
    assert all(torch.equal(p, before[name]) for name, p in parent.named_parameters())
    read = [likelihood.score_texts(m, words, list(texts), max_tokens=60) for m in (parent, new)]
    assert read[1].log_likelihood.sum() > read[0].log_likelihood.sum()


def test_every_kind_can_be_made_and_another_is_refused(tokenizer):
    model = llama(tokenizer)
    plain = scores(model, tokenizer)
    assert np.array_equal(
        scores(smollm2_family.make(model, tokenizer, "as it is", 0), tokenizer), plain
    )
    changes = (("rounded", 3), ("pruned", 40), ("layers dropped", 2), ("noise", 30))
    for kind, level in changes:
        made = smollm2_family.make(model, tokenizer, kind, level)
        again = smollm2_family.make(model, tokenizer, kind, level)
        assert not np.allclose(scores(made, tokenizer), plain)
        assert np.array_equal(scores(made, tokenizer), scores(again, tokenizer))


def test_the_families_of_the_book_can_be_made():
    kinds = {
        spec["kind"] for _, specs in smollm2_family.FAMILIES.values() for spec in specs.values()
    }
    assert kinds == set(smollm2_family.KINDS)
    for name, (_, specs) in smollm2_family.FAMILIES.items():
        assert list(specs)[0] == name and specs[name]["kind"] == "as it is"


def test_another_family_has_its_own_root_and_files(tokenizer, tmp_path):
    words = tiny_gpt.word_tokenizer(list(text_sets.load_texts(8)["text"]))
    model = llama(words)
    model.config.max_position_embeddings = 64
    options = {"n_texts": 8, "load": lambda: (words, copy.deepcopy(model))}
    matrix, rows = smollm2_family.family(
        ["gemma", "gemma-pruned-40"], tmp_path, of="gemma", **options
    )
    assert set(rows.family) == {"gemma"} and rows.parent.tolist() == ["", "gemma"]
    # One parent's pieces do not serve the other, though the setting is the same.
    other, _ = smollm2_family.family(["smollm2"], tmp_path, **options)
    assert np.array_equal(other.loc["smollm2"], matrix.loc["gemma"])
    assert len(list(tmp_path.glob("*.json"))) == 6
    with pytest.raises(ValueError, match="names is 'gemma-2-bits'; choose one of gemma, "):
        smollm2_family.main([str(tmp_path), "--family", "gemma", "--models", "gemma-2-bits"])


def test_a_family_resumes_and_a_stopped_run_scores_only_what_is_missing(
    tokenizer, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", "experiments")
    names, loaded = ["smollm2", "smollm2-3-bits"], []
    words = tiny_gpt.word_tokenizer(list(text_sets.load_texts(8)["text"]))
    model = llama(words)
    model.config.max_position_embeddings = 64

    def load():
        loaded.append(1)
        return words, copy.deepcopy(model)

    options = {"n_texts": 8, "load": load}
    matrix, rows = smollm2_family.family(names, tmp_path, **options)
    assert len(caplog.messages) == 4 and len(loaded) == 1
    texts = text_sets.load_texts(8)
    direct = likelihood.score_texts(model, words, list(texts["text"]), batch_tokens=1024)
    assert np.allclose(matrix.loc["smollm2"], direct.log_likelihood, atol=1e-4)
    assert list(matrix.columns) == list(texts.index)
    assert rows.parent.tolist() == ["", "smollm2"] and rows.level.tolist() == [0, 3]
    (piece, *_) = tmp_path.glob("*.json")
    kept = json.loads(piece.read_text())
    piece.unlink()
    again, _ = smollm2_family.family(names, tmp_path, **options)
    assert len(caplog.messages) == 5 and again.equals(matrix)
    assert json.loads(piece.read_text()) == kept
    # A changed number and half of a file are scored again.
    whole = piece.read_text()
    for number, damaged in enumerate((whole.replace("-", "-1", 1), whole[: len(whole) // 2])):
        piece.write_text(damaged)
        again, _ = smollm2_family.family(names, tmp_path, **options)
        assert (
            len(caplog.messages) == 6 + number
            and again.equals(matrix)
            and piece.read_text() == whole
        )
    monkeypatch.setattr(smollm2_family, "family", lambda *_, **__: (matrix, rows))
    smollm2_family.main([str(tmp_path / "out")])
    header = (tmp_path / "out" / "map_smollm2.csv").read_text().splitlines()[0]
    assert header.startswith("model,") and header.count(",") == 8
    assert (tmp_path / "out" / "map_smollm2_models.csv").is_file()
