"""Answers in Ollama's form, as its API reference has them (docs.ollama.com/api)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from llmos_server.document.openai import ToldToken
from llmos_server.document.parts import Answer, Count


class VersionAnswer(Answer):
    """The server's version."""

    version: str


class ModelDetails(Answer):
    """Of what kind a model is."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class ModelTag(Answer):
    """A model."""

    name: str
    model: str
    modified_at: datetime
    size: Count
    digest: str
    details: ModelDetails


class ModelTags(Answer):
    """The models."""

    models: list[ModelTag]


class LoadedTag(ModelTag):
    """A model that is loaded."""

    expires_at: datetime
    size_vram: Count
    context_length: Count


class LoadedTags(Answer):
    """The models that are loaded."""

    models: list[LoadedTag]


class ShownModel(Answer):
    """What is known of a model."""

    modelfile: str
    parameters: str
    template: str
    license: str
    details: ModelDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: datetime


class EmbedAnswer(Answer):
    """A vector for each text; durations are in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    prompt_eval_count: Count
    total_duration: Count
    load_duration: Count


class EmbeddingsAnswer(Answer):
    """A vector."""

    embedding: list[float]


class CalledName(Answer):
    """What was called, with its arguments."""

    name: str
    arguments: dict[str, Any]


class CalledTool(Answer):
    """A call of a tool."""

    function: CalledName


class SaidMessage(Answer):
    """What the model said."""

    role: Literal["assistant"]
    content: str
    tool_calls: list[CalledTool] | None = None


class TalkAnswer(Answer):
    """What every answer tells; durations are in nanoseconds.  Only the model's name where nothing was asked."""

    model: str
    created_at: datetime
    done: Literal[True]
    done_reason: str
    logprobs: list[ToldToken] | None = None
    total_duration: Count | None = None
    load_duration: Count | None = None
    prompt_eval_count: Count | None = None
    prompt_eval_duration: Count | None = None
    eval_count: Count | None = None
    eval_duration: Count | None = None


class GenerateAnswer(TalkAnswer):
    """The answer to a prompt."""

    response: str


class ChatMessageAnswer(TalkAnswer):
    """The answer to a conversation."""

    message: SaidMessage
