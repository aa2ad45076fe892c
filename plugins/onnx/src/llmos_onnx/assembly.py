"""From a session over a decoder graph to an executor: what decoders of every layout have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from llmos_kernel.contracts import Footprint
from llmos_onnx.executor import OnnxExecutor, Parts
from llmos_onnx.fields import refusal
from llmos_onnx.grammar import Grammars
from llmos_onnx.pool import CacheShape, KvPool, PoolSize, token_bytes
from llmos_onnx.prompts import Prompts
from llmos_onnx.speculation import Speculation
from llmos_onnx.template import ChatTemplate
from llmos_onnx.text import Codec

if TYPE_CHECKING:
    from llmos_onnx.backend import Options
    from llmos_onnx.batch import DecoderRunner
    from llmos_onnx.manifest import Decodes

_SLOTS: Final = 16
_CONTEXT: Final = 4096
_FEWEST_SLOTS: Final = 4
STEP_TOKENS: Final = 256
"""Most tokens of a step, where the options do not say."""
_FLOAT_BYTES: Final = 4


class DecoderShape(CacheShape, Protocol):
    """The sizes of a decoder that its pool depends on."""

    @property
    def context(self) -> int:
        """Longest sequence in tokens, prompt and answer together."""


def pool_size(shape: DecoderShape, kv: str, options: Options, *, model: str) -> PoolSize:
    """Return the KV pool for *options*, of the numpy type *kv*.

    Raises `ModelUnavailable` where not even one sequence fits ``kv_bytes``.
    """
    per_token = token_bytes(shape, kv)
    if options.context > shape.context:
        raise refusal(model, "options: context", options.context, f"at most the model's, {shape.context}")
    fitting = options.kv_bytes // per_token // (options.slots or _FEWEST_SLOTS)
    context = options.context or min(shape.context, _CONTEXT, max(fitting, 2))
    most = options.kv_bytes // (per_token * context)
    if most < max(options.slots, 1):
        need = per_token * context * max(options.slots, 1)
        expected = f"at least {need} bytes for {max(options.slots, 1)} x {context} tokens, or fewer slots or context"
        raise refusal(model, "options: kv_bytes", options.kv_bytes, expected)
    slots = options.slots or min(_SLOTS, most)
    return PoolSize(slots, context, slots * context * per_token, options.swap_bytes)


def footprint(weights: int, size: PoolSize, vocab: int, *, positions: int = 0, device: str = "cpu") -> Footprint:
    """Return the bytes of *weights*, the pool, and the logits of every slot and of *positions* more, on *device*."""
    return Footprint(device, weights + size.nbytes + (2 * size.slots + positions) * vocab * _FLOAT_BYTES)


def assemble(
    manifest: Decodes,
    codec: Codec,
    runner: DecoderRunner,
    pool: KvPool,
    *,
    step_tokens: int,
    speculate: int = 0,
    facts: Mapping[str, Any],
    model: str,
) -> OnnxExecutor:
    """Return the executor that steps *runner* over *pool*; *facts* is what `OnnxExecutor.describe` says of it.

    With *speculate*, the runner has room for the logits of one position more than that.
    """
    template = ChatTemplate.of(manifest, codec, model=model)
    return OnnxExecutor(
        Parts(
            manifest=manifest,
            codec=codec,
            prompts=Prompts(manifest, codec, template, pool.size.context, runner.prefix),
            grammars=Grammars(codec.marked_json, manifest.vocab, manifest.tokens.eos or codec.any_control),
            pool=pool,
            runner=runner,
            counts=runner.counts,
            step_tokens=max(step_tokens or STEP_TOKENS, pool.size.slots),
            speculation=Speculation(speculate),
            facts={**facts, "speculate": speculate, "batch_invariant": facts["batch_invariant"] and not speculate},
        )
    )


def control_ids(manifest: Decodes) -> list[int]:
    """Return the ids that *manifest* gives a meaning of their own."""
    tokens = manifest.tokens
    return [id for id in (*tokens.eos, tokens.bos, tokens.pad) if id is not None]
