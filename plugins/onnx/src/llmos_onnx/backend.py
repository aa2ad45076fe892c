"""The backend plugin ``onnx``: model folders become executors."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import attrs

from llmos import user_home
from llmos_kernel.contracts import Backend, Footprint, ModelSpec, StepExecutor
from llmos_kernel.errors import ModelUnavailable
from llmos_kernel.hookspecs import hookimpl
from llmos_onnx.assembly import assemble, control_ids, footprint, pool_size
from llmos_onnx.cache import device_of, memory_of
from llmos_onnx.fields import Fields, refusal
from llmos_onnx.folder import ModelFolder, open_folder, read_manifest, read_tokenizer
from llmos_onnx.invariance import rows_are_alone
from llmos_onnx.layouts import imported_layout
from llmos_onnx.manifest import Manifest
from llmos_onnx.pool import KvPool
from llmos_onnx.profile import Profile, cores, read_profile
from llmos_onnx.options import HALF
from llmos_onnx.providers import CPU, doctor, provider_for, run_options, runs_on, runtime, session_options
from llmos_onnx.session import NativeWiring, Runner
from llmos_onnx.text import Codec

if TYPE_CHECKING:
    import onnxruntime


api = 1

_KV_BYTES: Final = 1 << 30
_SWAP_BYTES: Final = 1 << 30


@hookimpl
def llmos_backend(config: Mapping[str, Any]) -> Backend:
    """Return the backend; *config* gives defaults for the options of models (see `Options`)."""
    return OnnxBackend(config)


@attrs.frozen(kw_only=True)
class Options:
    """What a model's specification may say in ``options``."""

    slots: int = 0
    """Sequences at once; by default 16, or as many as ``kv_bytes`` holds."""
    context: int = 0
    """Longest sequence in tokens; by default the model's, at most 4,096, and so that four of them fit."""
    kv_bytes: int = _KV_BYTES
    """Most bytes of key and value cache, taken from the system as they are used."""
    swap_bytes: int = _SWAP_BYTES
    """Most bytes of host memory for the caches of preempted tasks.  What finds no room is computed again later."""
    threads: int = 0
    """Threads within an operator; by default one per core, at most one per attention head.  More than one per head
    lets attention split its sums differently for different batches, and tokens may then depend on the batch."""
    step_tokens: int = 0
    """Most tokens of one step, by default 256: a longer prompt is computed in chunks between which others decode."""
    spinning: bool = True
    """Threads wait for work by spinning for a moment: quicker alone, and in the way of other processes."""
    arena: bool = True
    """The runtime keeps memory between steps."""
    prepacking: bool = True
    """Weights are rearranged when the model is loaded: slower to load, quicker to run."""
    speculate: int = 0
    """Most tokens that are guessed and checked in one run while one sequence decodes alone; 0, the default, is never.
    A run over several tokens rounds differently from one over a single token: where two tokens are about equally
    likely, a task may then get another than it gets beside others."""
    provider: str = "auto"
    """``auto``, ``cpu`` or ``cuda``; ``auto`` is the CPU, or a GPU where there is one and the weights are fp16."""

    @classmethod
    def read(cls, values: Mapping[str, Any], *, model: str) -> Options:
        """Check *values*; raise `ModelUnavailable` naming the option, its value and what would be right."""
        fields = Fields(model, "options", values)
        fields.only(name.name for name in attrs.fields(cls))
        options = cls(
            slots=fields.integer("slots", 1, 4096, default=0),
            context=fields.integer("context", 2, 2**24, default=0),
            kv_bytes=fields.integer("kv_bytes", 1, 2**50, default=_KV_BYTES),
            swap_bytes=fields.integer("swap_bytes", 0, 2**50, default=_SWAP_BYTES),
            threads=fields.integer("threads", 1, 1024, default=0),
            step_tokens=fields.integer("step_tokens", 1, 2**24, default=0),
            spinning=fields.flag("spinning", default=True),
            arena=fields.flag("arena", default=True),
            prepacking=fields.flag("prepacking", default=True),
            speculate=fields.integer("speculate", 0, 64, default=0),
            provider=fields.choice("provider", ("auto", "cpu", "cuda"), default="auto"),
        )
        if 0 < options.step_tokens < options.slots:
            raise fields.refuse("step_tokens", f"at least slots ({options.slots}): a step decodes every slot")
        return options


class OnnxBackend(Backend):
    """Loads model folders into ONNX Runtime."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)

    def measure(self, spec: ModelSpec) -> Footprint:
        """Return the bytes of weights, KV pool and logits; reads only the folder's manifest."""
        options, layout = self._options(spec), imported_layout(_path(spec))
        if layout is not None:
            return layout.measure(_path(spec), options, model=spec.name)
        manifest = read_manifest(_path(spec))
        size = pool_size(manifest.shape, manifest.kv, options, model=spec.name)
        weights = sum(entry.size for entry in manifest.files.values())
        device = device_of(_provider(manifest, options, model=spec.name))
        return footprint(weights, size, manifest.vocab, positions=options.speculate, device=device)

    def load(self, spec: ModelSpec) -> StepExecutor:
        """Read, verify and load the folder at ``spec.path``."""
        layout = imported_layout(_path(spec))
        if layout is not None:
            return layout.load(_path(spec), self._options(spec), model=spec.name)
        ort = runtime(spec.name)
        options = self._options(spec, profile := self._profile(spec, ort.__version__))
        manifest = read_manifest(_path(spec))
        size = pool_size(manifest.shape, manifest.kv, options, model=spec.name)
        options = attrs.evolve(options, threads=options.threads or min(cores(), manifest.shape.heads))
        provider = _provider(manifest, options, model=spec.name)
        with ThreadPoolExecutor(1, "llmos-onnx-load") as beside:  # beside the weights, of which the session is made
            codec = beside.submit(_codec, _path(spec), manifest, model=spec.name)
            session = _session(ort, open_folder(_path(spec), manifest), options, provider, model=spec.name)
        pool = KvPool(manifest.shape, size, manifest.kv, memory_of(provider, model=spec.name))
        wiring, room = NativeWiring(session), options.speculate + 1
        return assemble(
            manifest,
            codec.result(),
            Runner(session, run_options(ort), wiring, pool, manifest.vocab, positions=room),
            pool,
            step_tokens=options.step_tokens,
            speculate=options.speculate,
            facts={**_facts(manifest, session, options, ort), "tuned": profile is not None},
            model=spec.name,
        )

    def doctor(self) -> Mapping[str, Any]:
        """Return the runtime's distributions and version, and whether each provider really runs."""
        return doctor()

    def _options(self, spec: ModelSpec, profile: Profile | None = None) -> Options:
        given = {**self._config, **spec.options}
        if profile is not None and "step_tokens" not in given and isinstance(slots := given.get("slots", 0), int):
            # It was measured with other slots, and a step decodes every slot.
            given["step_tokens"] = max(profile.knobs.step_tokens, slots)
        tuned = attrs.asdict(profile.knobs) if profile else {}
        return Options.read({**tuned, **given}, model=spec.name)

    def _profile(self, spec: ModelSpec, runtime: str) -> Profile | None:
        return read_profile(user_home(), read_manifest(_path(spec)), runtime)


def _codec(path: Path, manifest: Manifest, *, model: str) -> Codec:
    return Codec(read_tokenizer(path, manifest), model=model, vocab=manifest.vocab, control=control_ids(manifest))


def _provider(manifest: Manifest, options: Options, *, model: str) -> str:
    """Return the provider that the folder of *manifest* is to run on; see `provider_for`."""
    half = manifest.weights == HALF
    if not half and options.provider == "auto":
        return CPU  # found without the runtime, which takes long to load
    return provider_for(runtime(model), options.provider, half=half, model=model)


def _session(
    ort: ModuleType, folder: ModelFolder, wanted: Options, provider: str, *, model: str
) -> onnxruntime.InferenceSession:
    """Create the session from the folder's bytes; the runtime opens no path."""
    how = {"spinning": wanted.spinning, "arena": wanted.arena, "prepacking": wanted.prepacking}
    options = session_options(ort, wanted.threads, **how)
    options.add_external_initializers_from_files_in_memory(*folder.external_files())
    try:
        session: onnxruntime.InferenceSession = ort.InferenceSession(folder.graph, options, providers=[provider])
    except Exception as error:  # the runtime's exception classes have no public base
        message = f"ONNX Runtime refuses the graph of {model!r}: {error}"
        raise ModelUnavailable(message, model=model, field="model.onnx", value="refused") from error
    if runs_on(session) != provider:
        raise refusal(model, "provider", runs_on(session), provider)
    return session


def _facts(
    manifest: Manifest, session: onnxruntime.InferenceSession, options: Options, ort: ModuleType
) -> dict[str, Any]:
    return {
        "model": manifest.name,
        "architecture": manifest.architecture,
        "weights": manifest.weights,
        "kv": manifest.kv,
        "provider": runs_on(session),
        "runtime": ort.__version__,
        "threads": options.threads,
        "spinning": options.spinning,
        "arena": options.arena,
        "prepacking": options.prepacking,
        "batch_invariant": manifest.weights != HALF
        and options.threads <= manifest.shape.heads
        and rows_are_alone(ort, manifest),
        "chat": manifest.chat_template is not None,
    }


def _path(spec: ModelSpec) -> Path:
    if not spec.path:
        message = f"model {spec.name!r} has no path to its folder"
        raise ModelUnavailable(message, model=spec.name, field="path", value="", expected="a model folder")
    return Path(spec.path)
