"""The model: a small Llama, its parameters named as Hugging Face names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The sizes of a model."""

    vocab: int = 3072
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    mlp: int = 688
    context: int = 1024
    theta: float = 10_000.0
    eps: float = 1e-6

    @property
    def head(self) -> int:
        """The width of one head."""
        return self.width // self.heads

    @classmethod
    def read(cls, config: dict[str, Any]) -> Shape:
        """Read the sizes from a Hugging Face ``config.json``."""
        names = {
            "vocab": "vocab_size",
            "width": "hidden_size",
            "layers": "num_hidden_layers",
            "heads": "num_attention_heads",
            "kv_heads": "num_key_value_heads",
            "mlp": "intermediate_size",
            "context": "max_position_embeddings",
            "theta": "rope_theta",
            "eps": "rms_norm_eps",
        }
        return cls(**{ours: config[theirs] for ours, theirs in names.items()})

    def config(self) -> dict[str, object]:
        """The same as a Hugging Face ``config.json``."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.width,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "vocab_size": self.vocab,
            "hidden_act": "silu",
            "rms_norm_eps": self.eps,
            "rope_theta": self.theta,
            "max_position_embeddings": self.context,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
            "torch_dtype": "bfloat16",
        }


class Cache:
    """Keys and values of a batch whose rows have different lengths."""

    def __init__(self, shape: Shape, rows: int, length: int, dtype: torch.dtype) -> None:
        """Make room for *length* tokens in each row."""
        size = (shape.layers, 2, rows, shape.kv_heads, length, shape.head)
        self.data = torch.zeros(size, dtype=dtype)

    def put(self, layer: int, keys: Tensor, values: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values at *positions* (rows x new tokens) and return all of them."""
        rows = torch.arange(keys.shape[0])[:, None]
        for half, new in zip(self.data[layer], (keys, values), strict=True):
            half[rows, :, positions] = new.transpose(1, 2)
        return self.data[layer, 0], self.data[layer, 1]


class Attention(nn.Module):  # type: ignore[misc]  # torch is absent where types are checked
    """Grouped-query attention with rotary positions."""

    def __init__(self, shape: Shape) -> None:
        """Make the four projections."""
        super().__init__()
        kv = shape.kv_heads * shape.head
        self.shape = shape
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, kv, bias=False)
        self.v_proj = nn.Linear(shape.width, kv, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], layer: int, at: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """Attend within *x*, or to what *cache* holds up to the positions *at*."""
        s = self.shape
        rows, length, _ = x.shape
        heads = [s.heads, s.kv_heads, s.kv_heads]
        weight = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        q, k, v = F.linear(x, weight).view(rows, length, sum(heads), s.head).transpose(1, 2).split(heads, 1)
        q, k = _rotate(q, *turn), _rotate(k, *turn)
        if cache is None or at is None:
            mask = torch.ones(length, length, dtype=torch.bool).tril()
        else:
            k, v = cache.put(layer, k, v, at)
            mask = (torch.arange(k.shape[2]) <= at[..., None]).repeat_interleave(s.heads, 0)
        y = _attend(q, k, v, mask)
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(rows, length, s.width))
        return out


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Plain attention: for short rows its backward pass takes a fifth of the fused one's time on a CPU."""
    rows, heads, length, width = q.shape
    group = heads // k.shape[1]
    k, v = (t.repeat_interleave(group, 1).reshape(rows * heads, -1, width) for t in (k, v))
    hide = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, float("-inf")).expand(rows * heads, -1, -1)
    scores = torch.baddbmm(hide, q.reshape(rows * heads, length, width), k.mT, alpha=width**-0.5)
    return (scores.softmax(-1) @ v).view(rows, heads, length, width)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Mlp(nn.Module):  # type: ignore[misc]  # torch is absent where types are checked
    """The gated feed-forward part of a layer."""

    def __init__(self, shape: Shape) -> None:
        """Make the three projections."""
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.mlp, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.mlp, bias=False)
        self.down_proj = nn.Linear(shape.mlp, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each position."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):  # type: ignore[misc]  # torch is absent where types are checked
    """One transformer layer."""

    def __init__(self, shape: Shape) -> None:
        """Make attention, feed-forward and their norms."""
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Mlp(shape)
        self.input_layernorm = nn.RMSNorm(shape.width, shape.eps)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, shape.eps)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], layer: int, at: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """Add what attention and feed-forward say."""
        x = x + self.self_attn(self.input_layernorm(x), turn, layer, at, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Body(nn.Module):  # type: ignore[misc]  # torch is absent where types are checked
    """Embedding, layers and the last norm."""

    def __init__(self, shape: Shape) -> None:
        """Make the parts."""
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, shape.eps)


class Llama(nn.Module):  # type: ignore[misc]  # torch is absent where types are checked
    """The language model."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        """Make a model with random weights."""
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * shape.layers) ** 0.5 if last else 0.02)
        angle = torch.outer(torch.arange(shape.context), shape.theta ** (-torch.arange(0, shape.head, 2) / shape.head))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids: Tensor, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Return the hidden states; with a cache, *at* gives the position of each token."""
        x = self.model.embed_tokens(ids)
        turn = (self.cos[: ids.shape[1]], self.sin[: ids.shape[1]])
        if at is not None:
            turn = (self.cos[at][:, None], self.sin[at][:, None])
        turn = (turn[0].to(x.dtype), turn[1].to(x.dtype))
        for i, layer in enumerate(self.model.layers):
            x = layer(x, turn, i, at, cache)
        out: Tensor = self.model.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Return what comes next, as logits."""
        return F.linear(hidden, self.model.embed_tokens.weight)


def generate(model: Llama, prompts: list[list[int]], limit: int, end: int) -> list[list[int]]:
    """Continue each prompt greedily for at most *limit* tokens or up to *end*, which is left out."""
    lengths = torch.tensor([len(p) for p in prompts])
    longest = int(lengths.max())
    ids = torch.tensor([p + [end] * (longest - len(p)) for p in prompts])
    cache = Cache(model.shape, len(prompts), min(longest + limit, model.shape.context), model.model.norm.weight.dtype)
    hidden = model(ids, torch.arange(longest).expand(len(prompts), -1), cache)
    last = hidden[torch.arange(len(prompts)), lengths - 1]
    out: list[list[int]] = [[] for _ in prompts]
    alive = set(range(len(prompts)))
    at = lengths
    while alive and int(at.max()) < cache.data.shape[4]:
        token = model.logits(last).argmax(-1)
        for row in list(alive):
            if token[row] == end:
                alive.discard(row)
            else:
                out[row].append(int(token[row]))
        last = model(token[:, None], at[:, None], cache)[:, 0]
        at = at + 1
    return out
