"""Tiny models of every kind that is read, and folders that are refused, written where told."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

READ = ("encoder", "masked", "causal", "gguf")
_MERGES = ("Ġ t", "Ġt h", "Ġth e", "i n", "e r", "a n")
# Whole words of the masked examples, so that some answers are one token.
_WORDS = (
    "the of in english french spanish arabic portuguese russian christians muslims catholics "
    "africa europe asia oceania france spain portugal dollar franc euro peso pound india china"
).split()
_WIDTH, _LAYERS, _HEADS, _INNER, _ROOM = 64, 2, 4, 96, 2048
# What the configurations of all examples have in common.
_SHAPE = {
    "hidden_size": _WIDTH,
    "intermediate_size": _INNER,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "max_position_embeddings": _ROOM,
    "initializer_range": 0.2,
}
_GGUF_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write(kind: str, folder: str | Path, *, seed: int = 0, tied: bool = True) -> Path:
    """Write a tiny model with random weights and return what to pass: a folder or a GGUF file.

    "encoder" and "masked" are BERTs of characters, "causal" a Llama of bytes, and "gguf" the same
    Llama, weight by weight, as a GGUF file. Without `tied` it has an output layer of its own, as
    large models have. Nothing was learnt by any.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "gguf":
        return _write_gguf(folder / "model.gguf", _llama(seed, tied))
    model = _llama(seed, tied) if kind == "causal" else _bert(kind == "masked", seed)
    model.save_pretrained(folder)
    tokenizer = _bytes() if kind == "causal" else _characters()
    tokenizer.save_pretrained(folder)
    return folder


def diverged(folder: str | Path, *, factor: float = 1000.0) -> Path:
    """Write a tiny model whose matrices are `factor` times too large, and return its folder.

    Its output is finite and says nothing: with 0 all tokens are equally likely, as after a collapse
    of training.
    """
    from safetensors.torch import load_file, save_file

    path = write("causal", folder)
    file = path / "model.safetensors"
    weights = load_file(file)
    large = {k: w * factor if w.ndim > 1 else w for k, w in weights.items()}
    save_file(large, file, metadata={"format": "pt"})
    return path


def write_refused(folder: str | Path) -> dict[str, str]:
    """Write folders and files that are refused, and return what is wrong -> what to pass.

    The pickle among them would leave a file `opened` in `folder` if anybody loaded it.
    """
    folder = Path(folder)
    made = {
        "a path to nothing": folder / "nothing" / "here" / "at-all",
        "a name that the hub does not have": Path("nobody-has/this-model-0"),
        "an empty folder": _some(folder / "empty", {}),
        "a damaged configuration": _some(folder / "damaged", {"config.json": "{"}),
        "an adapter of no model": _some(folder / "adapter", {"adapter_config.json": "{}"}),
        "program code of its own": _some(
            folder / "code",
            {"config.json": {"model_type": "mine", "auto_map": {"AutoModel": "mine.Mine"}}},
        ),
        "an unknown type": _some(folder / "unknown", {"config.json": {"model_type": "new_thing"}}),
        "an encoder and a decoder": _some(
            folder / "bart", {"config.json": {"model_type": "bart", "is_encoder_decoder": True}}
        ),
        "a model of images": _some(folder / "vit", {"config.json": {"model_type": "vit"}}),
        "a model of images and text": _some(
            folder / "vlm", {"config.json": {"model_type": "llava", "vision_config": {"a": 1}}}
        ),
        "packed weights": _some(
            folder / "packed",
            {"config.json": {"model_type": "llama", "quantization_config": {"quant_method": "x"}}},
        ),
        "no weights": _some(folder / "bare", {"config.json": {"model_type": "bert"}}),
    }
    pickled = _some(folder / "pickled", {"config.json": {"model_type": "bert"}, "vocab.txt": "a"})
    trap = pickle.dumps(_Trap(str(folder / "opened")))
    (pickled / "pytorch_model.bin").write_bytes(trap)
    (folder / "model.pt").write_bytes(trap)
    made |= {"pickled weights": pickled, "a file of pickles": folder / "model.pt"}
    dumb = write("encoder", folder / "no-tokenizer")
    for file in dumb.glob("tokenizer*"):
        file.unlink()
    cut = write("encoder", folder / "cut")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    bad = folder / "bad.gguf"
    bad.write_bytes(b"GGUF and no more")
    made |= {"no tokenizer": dumb, "weights cut short": cut, "a damaged GGUF file": bad}
    return {wrong: str(path) for wrong, path in made.items()}


class _Trap:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def _some(folder: Path, files: dict[str, str | dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    return folder


def _characters() -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer of single characters, with a mask."""
    import transformers
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(33, 127)]
    words = [*special, *letters, *(f"##{c}" for c in letters), *_WORDS]
    vocab = {word: i for i, word in enumerate(words)}
    made = Tokenizer(WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=_ROOM,
        **{f"{name}_token": token for name, token in names.items()},
    )


def _tokens() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return ["<|end|>", *sorted(ByteLevel.alphabet()), *(m.replace(" ", "") for m in _MERGES)]


def _bytes() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with a few merges, without a token for padding."""
    import transformers
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    vocab = {token: i for i, token in enumerate(_tokens())}
    made = Tokenizer(BPE(vocab, [tuple(m.split()) for m in _MERGES]))
    # As the reader of GGUF files splits: figures one by one, then bytes.
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|end|>", model_max_length=_ROOM
    )


def _llama(seed: int, tied: bool) -> PreTrainedModel:
    import transformers

    config = transformers.LlamaConfig(
        **_SHAPE,
        num_key_value_heads=_HEADS,
        vocab_size=len(_tokens()),
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=0,
    )
    return _drawn(transformers.LlamaForCausalLM, config, seed)


def _bert(head: bool, seed: int) -> PreTrainedModel:
    import transformers

    config = transformers.BertConfig(**_SHAPE, vocab_size=len(_characters()))
    return _drawn(transformers.BertForMaskedLM if head else transformers.BertModel, config, seed)


def _drawn(make: type, config: object, seed: int) -> PreTrainedModel:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make(config).eval()


def _write_gguf(path: Path, model: PreTrainedModel) -> Path:
    """Write a Llama and its tokenizer as a GGUF file, float32."""
    import gguf

    state = {k: v.numpy() for k, v in model.model.state_dict().items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(_ROOM)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(_tokens()))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(_tokens())
    writer.add_token_types([3] + [1] * (len(_tokens()) - 1))
    writer.add_token_merges(list(_MERGES))
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_tensor("token_embd.weight", state["embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["norm.weight"])
    if not model.config.tie_word_embeddings:
        writer.add_tensor("output.weight", model.lm_head.weight.detach().numpy())
    for layer in range(_LAYERS):
        for name, theirs in _GGUF_NAMES.items():
            weight = state[f"layers.{layer}.{theirs}.weight"]
            if name in ("attn_q", "attn_k"):
                # GGUF files have the two halves of each head's rows interleaved.
                parts = weight.reshape(_HEADS, 2, -1, _WIDTH)
                weight = parts.swapaxes(1, 2).reshape(weight.shape)
            writer.add_tensor(f"blk.{layer}.{name}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
