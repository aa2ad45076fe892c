"""llama.cpp through llama-cpp-python's low-level interface: its own batches, with a sequence per request."""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from tests.benchmarks.peers.progress import Engine, Progress

_BATCH = 2048
_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
_TYPES = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}


# --- preparation -----------------------------------------------------------------------------------------------


def prepare(checkpoint: Path, folder: Path, form: str) -> None:
    """Write ``folder/FORMAT.gguf`` from a checkpoint of the Llama family; llama.cpp itself quantises."""
    plain = folder / "f32.gguf"
    if not plain.exists():
        _write(checkpoint, plain)
    if form != "f32":
        how = llama_cpp.llama_model_quantize_default_params()
        how.ftype, how.nthread = _TYPES[form], 2
        target = folder / f"{form}.gguf"
        if llama_cpp.llama_model_quantize(str(plain).encode(), str(target).encode(), how):
            raise RuntimeError(f"llama.cpp could not quantise {plain} to {form}")


def _write(checkpoint: Path, target: Path) -> None:
    import gguf  # noqa: PLC0415 - only the preparation needs it
    from safetensors.numpy import load_file  # noqa: PLC0415 - the same

    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, config["model_type"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _vocabulary(writer, json.loads((checkpoint / "tokenizer.json").read_text("utf-8")), config)
    for name, tensor in _tensors(load_file(checkpoint / "model.safetensors"), config):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(target)


def _vocabulary(writer: Any, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    """Write the tokens and merges of a byte-level tokenizer; llama.cpp's server needs them, its batches do not."""
    special = {one["id"]: one["content"] for one in tokenizer["added_tokens"]}
    named = {number: token for token, number in tokenizer["model"]["vocab"].items()} | special
    tokens = [named.get(number, f"[unused {number}]") for number in range(config["vocab_size"])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if number in special else 1 for number in range(len(tokens))])  # control, or normal
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])


def _tensors(
    weights: dict[str, npt.NDArray[np.float32]], config: dict[str, Any]
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield the weights under llama.cpp's names."""
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, weight in weights.items():
        stem = name.removesuffix(".weight")
        if stem in top:
            yield f"{top[stem]}.weight", weight
            continue
        layer, _, part = stem.removeprefix("model.layers.").partition(".")
        called = _NAMES[part]
        turned = weight
        if called in heads and config["model_type"] == "llama":
            # Its rotary embedding for this architecture pairs neighbours, the checkpoint's pairs halves.
            parts = weight.reshape(heads[called], 2, -1, weight.shape[1])
            turned = parts.swapaxes(1, 2).reshape(weight.shape)
        yield f"blk.{layer}.{called}.weight", np.ascontiguousarray(turned)


# --- running ---------------------------------------------------------------------------------------------------


def load(folder: Path, form: str, *, threads: int, slots: int, context: int) -> Engine:
    """Load ``folder/FORMAT.gguf``."""
    return _LlamaCpp(folder / f"{form}.gguf", threads, slots, context)


class _LlamaCpp:
    """One context with a stream of cache per sequence; requests join as others leave, as in llama.cpp's server."""

    def __init__(self, file: Path, threads: int, slots: int, context: int) -> None:
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
        how = llama_cpp.llama_context_default_params()
        how.n_ctx, how.n_seq_max, how.n_batch = slots * context, slots, _BATCH
        how.n_threads = how.n_threads_batch = threads
        how.kv_unified = False
        self._context = llama_cpp.llama_init_from_model(self._model, how)
        if not self._context:
            raise RuntimeError(f"llama.cpp could not load {file}")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(_BATCH, 0, 1)
        self._slots = slots

    def generate(self, prompts: list[list[int]], lengths: list[int]) -> dict[str, Any]:
        """Decode every running request by one token and fill the batch with prompts, until none is left."""
        progress = Progress(lengths)
        waiting = deque(range(len(prompts)))
        free = list(range(self._slots))  # a heap: llama.cpp runs rows together whose sequences follow each other
        running: dict[int, _Row] = {}
        while waiting or running:
            while waiting and free:
                request = waiting.popleft()
                running[heapq.heappop(free)] = _Row(request, prompts[request])
            wanted = self._fill(running)
            if llama_cpp.llama_decode(self._context, self._batch):
                raise RuntimeError("llama.cpp could not decode")
            for place, slot in wanted:
                row = running[slot]
                token = self._greedy(place)
                row.tokens = [token]
                if not progress.add(row.request, token):
                    del running[slot]
                    heapq.heappush(free, slot)
                    llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)
        return progress.report()

    def _fill(self, running: dict[int, _Row]) -> list[tuple[int, int]]:
        """Write the next batch, those that decode first; return (place in the batch, slot) of each last token."""
        batch, count = self._batch, 0
        wanted = []
        for slot, row in sorted(running.items(), key=lambda item: (len(item[1].tokens) > 1, item[0])):
            part, row.tokens = row.tokens[: _BATCH - count], row.tokens[_BATCH - count :]
            for token in part:
                batch.token[count], batch.pos[count] = token, row.length
                batch.n_seq_id[count], batch.seq_id[count][0], batch.logits[count] = 1, slot, 0
                row.length += 1
                count += 1
            if part and not row.tokens:
                batch.logits[count - 1] = 1
                wanted.append((count - 1, slot))
        batch.n_tokens = count
        return wanted

    def _greedy(self, place: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, place)
        return int(np.ctypeslib.as_array(logits, (self._vocab,)).argmax())


class _Row:
    """A running request: what is not in the cache yet, and how long it is there."""

    def __init__(self, request: int, prompt: list[int]) -> None:
        self.request, self.tokens, self.length = request, prompt, 0
