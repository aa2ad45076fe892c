"""Which peers there are, at which versions, and which of their formats take part."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

# A build without CUDA, and exactly: a looser requirement would fetch gigabytes that no CPU needs.  Indexes that have
# only the other build need UV_TORCH_BACKEND=cpu, or UV_FIND_LINKS with a folder of wheels.
_TORCH = "torch==2.13.0+cpu"


@attrs.frozen(kw_only=True)
class Engine:
    """One engine: llmos or a peer."""

    name: str
    title: str
    module: str
    """The module of this package that prepares and runs it."""
    requirements: tuple[str, ...] = ()
    """What its environment holds; nothing for llmos, which runs in the present one."""
    overrides: tuple[str, ...] = ()
    """Requirements that replace those of its packages."""
    settings: Mapping[str, str] = attrs.field(factory=dict)
    """Environment variables while its packages are built."""
    formats: tuple[str, ...]
    four_bit: str = ""
    """The format with weights of four bits."""
    continuous: bool = False
    """Whether requests join and leave a running batch."""

    def has_four_bits(self, form: str) -> bool:
        """Whether the weights of the format *form*, ``WEIGHTS`` or ``WEIGHTS-VARIANT``, have four bits."""
        return form.partition("-")[0] == self.four_bit


OURS = Engine(
    name="llmos", title="llmos", module="ours", formats=("fp32", "w8a8", "w8a8-kv8", "q8", "q4", "q4-b128"),
    four_bit="q4", continuous=True,
)  # fmt: skip
PEERS = (
    Engine(
        name="llamacpp", title="llama.cpp", module="llamacpp",
        requirements=("llama-cpp-python==0.3.36", "gguf==0.19.0", "safetensors==0.8.0", "numpy==2.4.6"),
        settings={
            "CMAKE_ARGS": "-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF "
            "-DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_CURL=OFF",
        },
        formats=("f32", "q8_0", "q4_0"), four_bit="q4_0", continuous=True,
    ),
    Engine(
        name="openvino", title="OpenVINO GenAI", module="openvino",
        requirements=(
            "openvino-genai==2026.4.1.0", "openvino==2026.4.1", "optimum-intel==2.2.0", "nncf==3.4.0", _TORCH,
        ),
        overrides=("torchvision; python_version < '3'",),  # images are not needed, and its wheels want CUDA's torch
        formats=("fp32", "int8", "int4"), four_bit="int4", continuous=True,
    ),
    Engine(
        name="genai", title="onnxruntime-genai", module="genai",
        requirements=(
            "onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "onnx==1.23.2", "onnx-ir==1.1.0",
            "transformers==5.24.0", _TORCH,
        ),
        formats=("fp32", "int4"), four_bit="int4",
    ),
    Engine(
        name="optimum", title="optimum-onnx", module="optimum",
        requirements=("optimum-onnx[onnxruntime]==0.1.0", "onnxruntime==1.32.0", "transformers==4.57.6", _TORCH),
        formats=("fp32",),
    ),
    Engine(
        name="transformers", title="transformers", module="transformers",
        requirements=("transformers==5.24.0", _TORCH), formats=("fp32", "bf16"),
    ),
)  # fmt: skip
ENGINES = {engine.name: engine for engine in (OURS, *PEERS)}
