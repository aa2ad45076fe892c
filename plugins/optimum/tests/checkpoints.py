"""Writes small checkpoints with random weights, by transformers itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

EOS, PAD = 256, 257
VOCAB: Final = 300
WIDE: Final = {"initializer_range": 0.3}
"""Weights so large that outputs differ between inputs."""
DECODER: Final = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}


@attrs.frozen
class Architecture:
    """A configuration and the head that is put on it."""

    config: str
    model: str
    values: Mapping[str, Any]


SIZES: Final = {**DECODER, "intermediate_size": 64, **WIDE}
GPT: Final = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, **WIDE}
SEQ2SEQ: Final = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128, "init_std": 1.0,
    "decoder_start_token_id": EOS, "forced_eos_token_id": None,
}  # fmt: skip
T5: Final = {
    "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": PAD,
    "initializer_factor": 3.0, "tie_word_embeddings": False,
}  # fmt: skip
OFFSET: Final = {**SIZES, "max_position_embeddings": PAD + 1 + 128}
"""For architectures whose positions begin after the padding token's."""
CLASSES: Final = {**SIZES, "id2label": {0: "bad", 1: "good", 2: "neither"}}
LOCAL: Final = {"attention_types": [[["global", "local"], 1]], "window_size": 16}

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "gpt2": Architecture("GPT2Config", "GPT2LMHeadModel", GPT),
    "gpt-neox": Architecture("GPTNeoXConfig", "GPTNeoXForCausalLM", SIZES),
    "gpt-neo": Architecture(
        "GPTNeoConfig", "GPTNeoForCausalLM", {**DECODER, "num_layers": 2, "num_heads": 4, **LOCAL, **WIDE}
    ),
    "gptj": Architecture("GPTJConfig", "GPTJForCausalLM", {**GPT, "rotary_dim": 4}),
    "gpt-bigcode": Architecture("GPTBigCodeConfig", "GPTBigCodeForCausalLM", GPT),
    "codegen": Architecture("CodeGenConfig", "CodeGenForCausalLM", {**GPT, "rotary_dim": 4}),
    "opt": Architecture(
        "OPTConfig", "OPTForCausalLM", {**DECODER, "ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.3}
    ),
    "bloom": Architecture(
        "BloomConfig", "BloomForCausalLM", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "seq_length": 128, **WIDE}
    ),
    "mpt": Architecture(
        "MptConfig", "MptForCausalLM", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128, **WIDE}
    ),
    "falcon": Architecture("FalconConfig", "FalconForCausalLM", {**DECODER, **WIDE}),
    "phi": Architecture("PhiConfig", "PhiForCausalLM", SIZES),
    "stablelm": Architecture("StableLmConfig", "StableLmForCausalLM", {**SIZES, "num_key_value_heads": 2}),
    "t5": Architecture("T5Config", "T5ForConditionalGeneration", T5),
    "mt5": Architecture("MT5Config", "MT5ForConditionalGeneration", T5),
    "longt5": Architecture("LongT5Config", "LongT5ForConditionalGeneration", T5),
    "bart": Architecture("BartConfig", "BartForConditionalGeneration", SEQ2SEQ),
    "mbart": Architecture("MBartConfig", "MBartForConditionalGeneration", SEQ2SEQ),
    "pegasus": Architecture("PegasusConfig", "PegasusForConditionalGeneration", SEQ2SEQ),
    "marian": Architecture("MarianConfig", "MarianMTModel", {**SEQ2SEQ, "bad_words_ids": None}),
    "bert": Architecture("BertConfig", "BertModel", SIZES),
    "bert-classes": Architecture("BertConfig", "BertForSequenceClassification", CLASSES),
    "distilbert": Architecture(
        "DistilBertConfig",
        "DistilBertModel",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 128, **WIDE},
    ),
    "roberta": Architecture("RobertaConfig", "RobertaModel", OFFSET),
    "xlm-roberta": Architecture("XLMRobertaConfig", "XLMRobertaModel", OFFSET),
    "mpnet": Architecture("MPNetConfig", "MPNetModel", OFFSET),
    "albert": Architecture("AlbertConfig", "AlbertModel", {**SIZES, "embedding_size": 32}),
    "electra": Architecture("ElectraConfig", "ElectraModel", {**SIZES, "embedding_size": 32}),
    "deberta-v2": Architecture("DebertaV2Config", "DebertaV2Model", SIZES),
    "modernbert": Architecture("ModernBertConfig", "ModernBertModel", SIZES),
}


def write(name: str, target: Path) -> Path:
    """Write the checkpoint *target* of the architecture *name*, and return it."""
    made = ARCHITECTURES[name]
    torch.manual_seed(0)
    config = getattr(transformers, made.config)(
        **{"vocab_size": VOCAB, "eos_token_id": EOS, "pad_token_id": PAD, "bos_token_id": EOS, **made.values}
    )
    getattr(transformers, made.model)(config).eval().save_pretrained(target)
    tokens = {"eos_token": "</s>", "pad_token": "<pad>"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(ends=config.is_encoder_decoder), **tokens
    ).save_pretrained(target)
    return target


def tokenizer(*, ends: bool) -> Tokenizer:
    """Return a tokenizer of bytes, which adds an end token if asked."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: id for id, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["</s>", "<pad>"])
    if ends:
        made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return made
