"""Continuous batching over one decoder graph: what `StepExecutor` promises, kept by running few, large runs.

A step runs the plan's decoding rows together (one token each, lengths as they are), then its prompt chunks: first
chunks of adjacent slots and about equal length together, right-padded; each further chunk alone, because attention
takes several tokens with a past in one row only.

**The executor's own count is the truth.**  It knows how many tokens of a sequence are in the cache, and computes what
is missing whatever the plan calls it.  So a step that was cut short is repeated by planning its rows again.  After
``preempt(id, "drop")``, `admit` answers how much of the prompt still lies somewhere (`llmos_onnx.places`): the rest of
it is prefilled again, and the output so far is replayed token by token, as it was computed the first time.  A chunk of
it would be faster and not the same: attention over several tokens rounds differently from attention over one, and one
rounding is enough to change a token.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from llmos_kernel.contracts import Admitted, Limits, NotNow, Plan, Preemption, Prepared, Result, StepExecutor
from llmos_kernel.errors import HandleRevoked, InvalidArgument, KernelBug, ModelUnavailable
from llmos_onnx.places import Places
from llmos_onnx.prefix import Prompt
from llmos_onnx.sampler import COLUMNS, Sampler
from llmos_onnx.sampling import read_params
from llmos_onnx.sequence import Sequence
from llmos_onnx.swap import Swap

if TYPE_CHECKING:
    import numpy.typing as npt

    from llmos_kernel.api import Task
    from llmos_onnx.batch import DecoderRunner, Rows
    from llmos_onnx.counts import Counts
    from llmos_onnx.grammar import Grammars
    from llmos_onnx.manifest import Decodes
    from llmos_onnx.pool import KvPool
    from llmos_onnx.prompts import Prompts
    from llmos_onnx.sampler import LogProb
    from llmos_onnx.speculation import Speculation
    from llmos_onnx.text import Codec

KINDS = ("generate", "chat", "tokenize", "detokenize")
"""Task kinds that the executor serves."""


@attrs.frozen(eq=False)
class Parts:
    """What an executor is made of."""

    manifest: Decodes
    codec: Codec
    prompts: Prompts
    grammars: Grammars
    pool: KvPool
    runner: DecoderRunner
    counts: Counts
    """What the runner and the executor count."""
    speculation: Speculation
    step_tokens: int
    """Most tokens, prompt and output, of one step."""
    facts: Mapping[str, Any]
    """What `OnnxExecutor.describe` says besides what it counts."""


class OnnxExecutor(StepExecutor):
    """A loaded model folder."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pool = parts.pool
        self._places = Places(parts.pool)
        self._swap = Swap(parts.pool.size.swap)
        self._runner = parts.runner
        self._sampler = Sampler(parts.pool.size.slots, parts.manifest.vocab)
        self._columns = np.zeros(parts.pool.size.slots, COLUMNS)
        self._sequences: dict[int, Sequence] = {}
        self._counts = parts.counts

    @property
    def limits(self) -> Limits:
        """Rows and free slots of the pool; the step's tokens; the pool's context."""
        size = self._pool.size
        return Limits(size.slots, self._pool.free, tokens=self._parts.step_tokens, context=size.context)

    def describe(self) -> Mapping[str, Any]:
        """Return provider, formats and sizes, and under ``steps`` what has been done so far (see `Counts`)."""
        size = self._pool.size
        counts = {
            "slots": size.slots, "slots_used": self._pool.used, "context": size.context, "kv_bytes": size.nbytes,
            "swap_bytes": self._swap.most, "swap_used": self._swap.used,
        }  # fmt: skip
        if not self._runner.prefix:
            counts["contexts"] = self._places.contexts
        return {**self._parts.facts, **counts, "steps": self._counts.report()}

    # --- tasks -------------------------------------------------------------------------------------------------

    def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
        """Encode *task* and check its parameters; answer ``tokenize`` and ``detokenize`` at once."""
        prompts = self._parts.prompts
        if task.kind == "tokenize":
            ids = prompts.tokenize(task.input)
            return Prepared(len(ids), 0, answer=Result(id, value=ids, finish="stop"))
        if task.kind == "detokenize":
            text = prompts.detokenize(task.input)
            return Prepared(len(task.input), 0, answer=Result(id, text=text, value=text, finish="stop"))
        if task.kind not in KINDS:
            expected = f"one of {', '.join(KINDS)}"
            raise InvalidArgument(f"kind must be {expected}", field="kind", value=task.kind, expected=expected)
        manifest, ids = self._parts.manifest, prompts.encode(task)
        context = task.target if isinstance(task.target, int) else None
        room, vocab = self._room(context, ids), manifest.vocab
        params = read_params(task.params, defaults=manifest.generation, room=room, vocab=vocab)
        matcher = self._parts.grammars.matcher(params.constraint) if params.constraint else None
        prompt = Prompt.of(ids, tenant, context, shared=not self._runner.whole)
        self._sequences[id] = Sequence(id, prompt, params, self._parts.codec, manifest.tokens.eos, matcher)
        return Prepared(len(ids), params.max_tokens)

    def admit(self, id: int) -> Admitted | NotNow:
        """Give a slot; ``cached`` is how much of the prompt is in the cache already: the task's own or a prefix's."""
        sequence = self._sequence(id)
        if sequence.slot is None:
            saved = self._swap.get(id)
            slot = self._places.enter(id, sequence.source, saved)
            if slot is None:
                return NotNow()
            if saved is None:
                self._counts.spare(int(self._pool.lengths[slot]))
            self._swap.forget(id)
            sequence.slot = slot
            self._columns[slot] = sequence.column()
            self._pool.next_tokens[slot] = sequence.tokens[sequence.count - 1]
        return Admitted(min(int(self._pool.lengths[sequence.slot]), sequence.prompt))

    def preempt(self, id: int, how: Preemption) -> None:
        """Keep the slot, copy its cache out where the swap has room for it, or forget it."""
        sequence = self._sequence(id)
        if how == "keep" or sequence.slot is None:
            return
        if how == "drop":
            sequence.planned = 0
        if how == "swap":
            self._swap_out(sequence, sequence.slot)
        self._vacate(sequence)

    def _swap_out(self, sequence: Sequence, slot: int) -> None:
        """Copy the cache in *slot* out; one that finds no room is computed again when the task comes back."""
        length = int(self._pool.lengths[slot])
        if self._swap.fits(length * self._pool.size.token_bytes):
            self._swap.put(sequence.id, self._pool.save(slot, length))
            self._counts.swapped += 1
        else:
            self._counts.unswapped += 1

    def open_context(self, id: int, tokens: int) -> int:
        """Keep the cache of a conversation's last prompt, for tasks of up to *tokens*; return the bytes of as many."""
        size = self._pool.size
        if self._runner.prefix:  # an encoder reads the end of a prompt before its beginning is computed
            return super().open_context(id, tokens)
        if not 2 <= tokens <= size.context:
            expected = f"from 2 to the model's {size.context}"
            message = f"a context of {tokens} tokens cannot be: tokens must be {expected}"
            raise InvalidArgument(message, field="tokens", value=tokens, expected=expected)
        self._places.open(id, tokens)
        return tokens * size.token_bytes

    def release(self, ids: Iterable[int]) -> None:
        """Forget tasks and contexts, and free their slots."""
        for id in ids:
            self._swap.forget(id)
            sequence = self._sequences.pop(id, None)
            if sequence is None:
                self._places.close(id)
            elif sequence.slot is not None:
                self._vacate(sequence)

    def interrupt(self) -> None:
        """Cut the running step short; between steps, the next one.  Its rows get results without tokens."""
        self._runner.terminate()

    def close(self) -> None:
        """Forget every task."""
        self.release(list(self._sequences))
        self._parts.grammars.close()
        self._pool.close()

    def check_integrity(self) -> None:
        """Raise `KernelBug` unless slots and sequences agree; for tests."""
        self._places.check_integrity()
        slots = {sequence.slot: id for id, sequence in self._sequences.items() if sequence.slot is not None}
        everyone = ((slot, self._pool.owner(slot)) for slot in range(self._pool.size.slots))
        owners = {slot: owner for slot, owner in everyone if owner is not None}
        if slots != owners:
            raise KernelBug("slots and sequences disagree", sequences=list(slots.items()), owners=list(owners.items()))

    def _sequence(self, id: int) -> Sequence:
        sequence = self._sequences.get(id)
        if sequence is None:
            raise KernelBug("the task was not prepared", task=id)
        return sequence

    def _vacate(self, sequence: Sequence) -> None:
        if sequence.slot is not None:
            self._places.leave(sequence.slot)
            sequence.slot = None

    def _room(self, context: int | None, ids: list[int]) -> int:
        """Return how many tokens the output of the prompt *ids* may have."""
        if context is None:
            return self._pool.size.context - len(ids)
        place = self._places.context(context)
        if place is None:
            raise HandleRevoked("the context was closed")
        if len(ids) >= place.tokens:
            expected = f"at most {place.tokens - 1} tokens: the context was opened for {place.tokens}"
            message = f"the prompt is {len(ids)} tokens long, expected {expected}"
            raise InvalidArgument(message, field="input", value=len(ids), expected=expected)
        return place.tokens - len(ids)

    def _settle(self) -> None:
        """Let the slots of those who are left be adjacent."""
        for source, target in self._places.settle():
            self._columns[target] = self._columns[source]
            owner = self._pool.owner(target)
            self._sequence(-1 if owner is None else owner).slot = target

    # --- steps -------------------------------------------------------------------------------------------------

    def step(self, plan: Plan) -> Iterable[Result]:
        """Run one quantum; rows that were cut short get a result without tokens and are computed when planned again."""
        begun = time.perf_counter()
        try:
            return self._step(plan)
        finally:
            self._counts.steps += 1
            self._counts.step_seconds += time.perf_counter() - begun

    def _step(self, plan: Plan) -> Iterable[Result]:
        self._settle()
        decode: list[Sequence] = []
        chunks: list[tuple[Sequence, int]] = []
        replays: list[tuple[Sequence, int]] = []
        results = {id: Result(id) for id, _ in (*plan.prefill, *plan.decode)}
        # A swap that found no room is planned as if nothing were missing: it takes a few steps then, as a prompt does.
        for id, planned in (*plan.prefill, *((id, self._parts.step_tokens) for id, _ in plan.decode)):
            sequence = self._sequence(id)
            length, most = self._length(sequence), self._due(sequence, planned)
            missing, fresh = sequence.count - length, max(0, min(most, sequence.prompt - length))
            if fresh:
                chunks.append((sequence, fresh))
            elif missing == 1:
                decode.append(sequence)
            if missing > 1 and min(most, missing) > fresh:
                replays.append((sequence, min(most, missing) - fresh))
        try:
            if len(decode) == 1 and not (chunks or replays):
                self._decode_alone(decode[0], dict(plan.decode).get(decode[0].id, 1), results)
                return results.values()
            going = not decode or self._decode(decode, results)
            for group in self._groups(chunks):
                going = going and self._prefill(group, results)
            for sequence, tokens in replays:
                going = going and self._replay(sequence, tokens, results)
        finally:
            self._runner.rearm()
        return results.values()

    def _due(self, sequence: Sequence, planned: int) -> int:
        """Return how many tokens to compute of those *planned* now and those put off before.

        Where prompts are computed whole, everything is put off until the last piece of the prompt is planned.
        """
        left = sequence.prompt - self._length(sequence)
        if not self._runner.whole or left <= 0:
            return planned
        sequence.planned += planned
        return sequence.planned if sequence.planned >= left else 0

    def _length(self, sequence: Sequence) -> int:
        if sequence.slot is None:
            raise KernelBug("the task has no slot", task=sequence.id)
        return int(self._pool.lengths[sequence.slot])

    def _decode(self, sequences: list[Sequence], results: dict[int, Result]) -> bool:
        """Run one token of each sequence; return False if it was cut short."""
        sequences.sort(key=_slot)
        first, last = _slot(sequences[0]), _slot(sequences[-1])
        span = slice(first, last + 1)
        batch = self._runner.batch(first, last + 1 - first, 1)
        batch.ids[:, 0] = self._pool.next_tokens[span]
        batch.lengths[:] = self._pool.lengths[span]
        slots = np.array([_slot(sequence) for sequence in sequences])
        batch.prompts[:] = 0
        batch.prompts[slots - first] = [sequence.prompt for sequence in sequences]
        if not self._runner.run(batch):
            return False
        self._pool.lengths[slots] += 1
        logits = batch.logits if len(slots) == len(batch.logits) else batch.logits[slots - first]
        self._sample(sequences, slots, logits, results)
        self._report_errors(batch, first, results)
        return True

    def _decode_alone(self, sequence: Sequence, most: int, results: dict[int, Result]) -> None:
        """Run one sequence's next token and a guess at those after it, at most *most* together."""
        speculation, left = self._parts.speculation, sequence.params.max_tokens - sequence.generated
        guess = speculation.guess(sequence.trust, sequence.tokens[: sequence.count], min(most, left) - 1)
        if not len(guess):
            if self._decode([sequence], results):
                speculation.decoded(sequence.trust, self._runner.seconds)
            return
        batch = self._runner.batch(_slot(sequence), 1, len(guess) + 1, every=True)
        batch.ids[0, 0], batch.ids[0, 1:] = sequence.tokens[sequence.count - 1], guess
        batch.lengths[0] = self._length(sequence) + len(guess)
        if self._runner.run(batch):
            right = self._check(sequence, guess.tolist(), batch.logits, results)
            speculation.checked(sequence.trust, len(guess), right, self._runner.seconds)

    def _check(
        self, sequence: Sequence, guess: list[int], logits: npt.NDArray[np.float32], results: dict[int, Result]
    ) -> int:
        """Choose a token per row of *logits* for as long as the *guess* agrees; return for how long it did.

        What the run left in the cache after that is overwritten before it is read.
        """
        slots, taken = np.array([_slot(sequence)]), Result(sequence.id)
        for row, guessed in enumerate([*guess, -1]):
            self._pool.lengths[slots] += 1
            self._sample([sequence], slots, logits[row : row + 1], results)
            last = results[sequence.id]
            taken = attrs.evolve(
                last, tokens=taken.tokens + last.tokens, text=taken.text + last.text,
                logprobs=taken.logprobs + last.logprobs,
            )  # fmt: skip
            if last.finish is not None or last.tokens != (guessed,):
                break
        results[sequence.id] = taken
        right = sum(1 for token, guessed in zip(taken.tokens, guess, strict=False) if token == guessed)
        self._counts.guessed += len(guess)
        self._counts.right += right
        return right

    def _groups(self, chunks: list[tuple[Sequence, int]]) -> Iterator[list[tuple[Sequence, int]]]:
        """Cut *chunks* into runs: first chunks of adjacent slots and about equal length together, others alone.

        Of prompts that begin alike the first is computed, and the others, which come after it, copy what they share.
        """
        group: list[tuple[Sequence, int]] = []
        for sequence, tokens in sorted(chunks, key=lambda chunk: _slot(chunk[0])):
            begin = sequence.source.chain[:1]
            if begin and any(begin == other.source.chain[:1] for other, _ in group):
                yield group
                group = []
            left = tokens - self._share(sequence, tokens)
            if group and not self._joins(group, sequence, left):
                yield group
                group = []
            if left:
                group.append((sequence, left))
        if group:
            yield group

    def _joins(self, group: list[tuple[Sequence, int]], sequence: Sequence, tokens: int) -> bool:
        last = group[-1][0]
        if self._length(last) or self._length(sequence) or _slot(last) + 1 != _slot(sequence):
            return False
        lengths = [tokens, *(count for _, count in group)]
        return max(lengths) - min(lengths) <= max(lengths) * self._runner.padding

    def _prefill(self, group: list[tuple[Sequence, int]], results: dict[int, Result]) -> bool:
        """Run one chunk of each sequence of *group*; return False if it was cut short.

        Attention over one token rounds differently from attention over several, and how a prompt was cut must not be
        seen in the tokens.  So a chunk of one token takes the token before it along, which is computed again.
        """
        again = int(len(group) == 1 and group[0][1] == 1 and self._length(group[0][0]) > 0)
        width = max(tokens for _, tokens in group) + again
        batch = self._runner.batch(_slot(group[0][0]), len(group), width)
        for row, (sequence, tokens) in enumerate(group):
            begin = self._length(sequence) - again
            end = begin + again + tokens
            batch.ids[row, : end - begin] = sequence.tokens[begin:end]
            batch.ids[row, end - begin :] = 0
            batch.lengths[row] = end - 1
            batch.last[row] = row * width + end - begin - 1
            batch.prompts[row] = sequence.prompt
        if not self._runner.run(batch):
            return False
        done = []
        for row, (sequence, tokens) in enumerate(group):
            if row in batch.errors:
                continue
            self._places.computed(_slot(sequence), tokens)
            self._counts.prefilled += tokens
            if self._length(sequence) == sequence.count:
                done.append(row)
        if done:
            sequences = [group[row][0] for row in done]
            logits = batch.logits if len(done) == len(group) else batch.logits[done]
            self._sample(sequences, np.array([_slot(sequence) for sequence in sequences]), logits, results)
        self._report_errors(batch, _slot(group[0][0]), results)
        return True

    def _share(self, sequence: Sequence, tokens: int) -> int:
        """Copy what others have computed meanwhile of the next *tokens* of a prompt; return how many."""
        shared = self._places.share(_slot(sequence), tokens)
        self._counts.spare(shared)
        return shared

    def _replay(self, sequence: Sequence, tokens: int, results: dict[int, Result]) -> bool:
        """Compute *tokens* of the output again, one by one; return False if that was cut short."""
        slot = _slot(sequence)
        for _ in range(tokens):
            length = self._length(sequence)
            if length + 1 == sequence.count:
                return self._decode([sequence], results)
            batch = self._runner.batch(slot, 1, 1)
            batch.ids[0, 0], batch.lengths[0], batch.prompts[0] = sequence.tokens[length], length, sequence.prompt
            if not self._runner.run(batch):
                return False
            if batch.errors:
                self._report_errors(batch, slot, results)
                return True
            self._pool.lengths[slot] += 1
            self._counts.replayed += 1
        return True

    def _sample(
        self,
        sequences: list[Sequence],
        slots: npt.NDArray[np.int64],
        logits: npt.NDArray[np.float32],
        results: dict[int, Result],
    ) -> None:
        """Choose the next token of each sequence from its row of *logits*, which are used up."""
        edits = [edit for row, sequence in enumerate(sequences) if (edit := sequence.edit(row)) is not None]
        wanting = [row for row, sequence in enumerate(sequences) if sequence.params.logprobs is not None]
        raw = logits[wanting]
        tokens = self._sampler.choose(logits, self._columns[slots], edits)
        reports = self._reports(sequences, wanting, raw, tokens) if wanting else {}
        self._columns["position"][slots] += 1
        self._pool.next_tokens[slots] = np.maximum(tokens, 0)
        for row, token in enumerate(tokens.tolist()):
            sequence = sequences[row]
            if token < 0:
                results[sequence.id] = Result(sequence.id, error=sequence.dead_end() or self._not_finite())
            else:
                results[sequence.id] = self._advance(sequence, token, reports.get(row))
                self._counts.decoded += 1

    def _report_errors(self, batch: Rows, first: int, results: dict[int, Result]) -> None:
        """End the tasks whose rows of *batch*, which began at the slot *first*, could not be computed."""
        for row, error in batch.errors.items():
            owner = self._pool.owner(first + row)
            if owner is not None:
                results[owner] = Result(owner, error=error)

    def _advance(self, sequence: Sequence, token: int, logprob: LogProb | None) -> Result:
        """Let *sequence* take *token*; where its text cannot be told, that is its own failure and not the step's."""
        try:
            return sequence.advance(token, logprob)
        except ModelUnavailable as error:
            return Result(sequence.id, error=error)

    def _reports(
        self,
        sequences: list[Sequence],
        wanting: list[int],
        raw: npt.NDArray[np.float32],
        tokens: npt.NDArray[np.int64],
    ) -> dict[int, LogProb]:
        counts = [sequences[row].params.logprobs or 0 for row in wanting]
        return dict(zip(wanting, self._sampler.log_probs(raw, tokens[wanting], counts), strict=True))

    def _not_finite(self) -> ModelUnavailable:
        name, expected = self._parts.manifest.name, "finite numbers"
        message = f"model {name!r} produced logits that are not {expected}"
        return ModelUnavailable(message, model=name, field="logits", value="not finite", expected=expected)


def _slot(sequence: Sequence) -> int:
    if sequence.slot is None:
        raise KernelBug("the task has no slot", task=sequence.id)
    return sequence.slot
