"""Every causal architecture that transformers can build from a small configuration."""

import dataclasses
from typing import Any

import tokenizers
import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

ARCHITECTURES = tuple(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
WORDS, WIDTH = 128, 32
# What is set wherever a configuration, or a part of it, has the name. Windows are shorter than the
# texts, so that what lies before them counts; weights are large, so that the logits differ.
_SIZES = {
    32: "hidden_size n_embd d_model dim embed_dim embedding_size emb_dim lru_width "
    "mm_embed_dim output_proj_dims hidden_size_global backbone_hidden_size",
    48: "intermediate_size ffn_dim n_inner d_ff dff dim_ff encoder_ffn_dim decoder_ffn_dim "
    "ffn_hidden_size feed_forward_size",
    16: "moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size "
    "expert_ffn_hidden_size q_lora_rank kv_lora_rank pronunciation_embed_dim shape_embed_dim "
    "mm_posemb_size",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers "
    "num_decoder_layers num_encoder_layers num_key_value_heads num_experts_per_tok moe_k moe_topk "
    "zero_expert_num eos_token_id layer_group_size attn_layer_period indexer_n_heads",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads rotary_dim "
    "decoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads num_experts "
    "num_local_experts n_routed_experts moe_num_experts index_n_heads linear_num_heads "
    "linear_num_key_heads linear_num_value_heads sliding_window attention_window_size window_size "
    "local_attention attention_chunk_size indexer_compress_ratio split_ngram_parts",
    8: "head_dim attention_head_size qk_rope_head_dim qk_nope_head_dim v_head_dim index_topk "
    "index_head_dim mamba_n_heads mamba_d_state mamba_chunk_size chunk_size n_mamba_heads "
    "state_size hidden_size_per_layer_input laurel_rank linear_head_dim linear_key_head_dim "
    "linear_value_head_dim dim_head indexer_head_dim indexer_budget hc_lowrank ple_embed_dim",
    1: "n_shared_experts n_group topk_group bos_token_id attn_layer_offset indexer_kv_heads",
    0: "pad_token_id num_kv_shared_layers",
    64: "max_position_embeddings n_positions n_ctx max_seq_len mamba_d_ssm audio_vocab_size "
    "encoder_hash_byte_group_vocab ngram_vocab_size_base",
    WORDS: "vocab_size vocab_size_per_layer_input pronunciation_vocab_size shape_vocab_size",
}
_COMMON = {name: size for size, names in _SIZES.items() for name in names.split()}
_COMMON |= {"initializer_range": 0.3, "init_std": 0.3, "is_decoder": True}
_COMMON |= {"block_auto_adjust_ff_dim": False}


_AS_MANY_HEADS = {"num_key_value_heads": 4}
_LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
_CONVOLUTION = {"layer_types": ["conv", "full_attention"]}
_MAMBA = {"layers_block_type": ["mamba", "hybrid"]}
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
# What single architectures need besides; the settings that make more than a product with a matrix
# of their output are among them.
_NEEDS = {
    **dict.fromkeys(
        "axk1 axk2 bailing_hybrid deepseek_v2 deepseek_v3 deepseek_v32 dots3_note_text "
        "glm4_moe_lite glm_moe_dsa longcat_flash minicpm3 youtu".split(),
        _AS_MANY_HEADS,
    ),
    **dict.fromkeys(
        "qwen3_next qwen3_5_text qwen3_5_moe_text qwen4_exp_text".split(),
        _LINEAR,
    ),
    **dict.fromkeys(["lfm2", "lfm2_moe", "lfm3"], _CONVOLUTION),
    "bamba": {"attn_layer_indices": [1]},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "falcon_h1": {"lm_head_multiplier": 0.3},
    "fuyu": {"image_token_id": 120},
    "gemma2": {"final_logit_softcapping": 3.0},
    "gemma3": {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
    },
    "gemma4_unified_vision": {"patch_size": 2},
    "got_ocr2": {"image_token_index": 120},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granite": {"logits_scaling": 6.0},
    "granitemoe": {"logits_scaling": 6.0},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "logits_scaling": 6.0},
    "kimi_linear": {**_LINEAR, **_AS_MANY_HEADS},
    "mamba2": {"num_heads": 8, "n_groups": 1},
    "moss_transcribe_diarize": {"audio_token_id": 120},
    "opt": {"word_embed_proj_dim": 16},
    "recurrent_gemma": {"block_types": ("recurrent", "attention"), "logits_soft_cap": 3.0},
    "reformer": {
        "axial_pos_embds_dim": (16, 16),
        "axial_pos_shape": (8, 8),
        "hash_seed": 0,
        "attn_layers": ("local", "lsh"),
    },
    "xlstm": {"hidden_size": 128},
    "xmod": {"default_language": "en_XX"},
    "zamba": {**_MAMBA, "layers_block_type": 2 * ["mamba", "mamba", "hybrid"]},
    "zamba2": _MAMBA,
    "zaya": {"num_experts_per_tok": 1},
}
_NEEDS["zamba"] |= {"num_hidden_layers": 6, "n_mamba_heads": 2}
# The text models of those that take any.
_TEXT = {"fuyu": "persimmon", "got_ocr2": "qwen2", "moss_transcribe_diarize": "qwen3"}

# What cannot be built so, with a part of the error that says why.
NOT_BUILT = {
    # The layers that it leaves out are numbered for 46; `dots3_note_text` is its model of text.
    "dots3_note": "must be integer layer indices",
    # Its eyes come from a package of their own; `gemma3n_text` is its model of text.
    "gemma3n": "requires the timm library",
    # They draft for a larger model and read its states, no text.
    "gemma4_assistant": "hidden_size_per_layer_input must be 0",
    "gemma4_unified_assistant": "set of layer types producing a cache",
    # Listed with the configuration of a whole that also holds an encoder of text and one of sound.
    "musicgen": "has no attribute 'dropout'",
    "musicgen_melody": "has no attribute 'dropout'",
}
# Listed as causal, but every token sees all others, or how many there are (ProphetNet).
NOT_CAUSAL = ("cpmant", "prophetnet", "xlm", "xlnet")
# Each is an encoder and a decoder in one, of which the decoder is saved and read by itself.
PAIRS = tuple(
    "bart bigbird_pegasus blenderbot blenderbot-small marian mbart mvp pegasus plbart prophetnet "
    "whisper".split()
)
BUILT = tuple(name for name in ARCHITECTURES if name not in (*NOT_BUILT, *NOT_CAUSAL))


def configuration(architecture: str, **changes: Any) -> transformers.PretrainedConfig:
    """Return a small configuration of an architecture, with changes of single settings."""
    return _small(CONFIG_MAPPING[architecture], architecture, **changes)


def longrope(window: int, **more: float) -> dict[str, Any]:
    """Return changes by which a model takes other positions for rows of more than so many tokens.

    For models with heads of 8 dimensions.
    """
    factors = {"short_factor": [1.0] * 4, "long_factor": [3.0, 4.0, 5.0, 6.0], "factor": 4.0}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, **factors, **more}
    return {"rope_parameters": {**rope, "original_max_position_embeddings": window}}


def _small(kind: type, architecture: str, **changes: Any) -> transformers.PretrainedConfig:
    names = {field.name for field in dataclasses.fields(kind)}
    given = {name: value for name, value in _COMMON.items() if name in names}
    for name, part in kind.sub_configs.items():
        if part is not transformers.AutoConfig:
            given[name] = _small(part, part.model_type).to_dict()
    if architecture in _TEXT:
        given["text_config"] = configuration(_TEXT[architecture]).to_dict()
    return kind(**{**given, **_NEEDS.get(architecture, {}), **changes})


def build(architecture: str, **changes: Any) -> transformers.PreTrainedModel:
    """Return a small causal model of an architecture with random weights, the same each time."""
    torch.manual_seed(0)
    config = configuration(architecture, **changes)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of the words w0 to w127, one token each, without a BOS."""
    vocabulary = {f"w{i}": i for i in range(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w0"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)
