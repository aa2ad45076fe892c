"""Answers in OpenAI's form, as its API reference has them (platform.openai.com/docs/api-reference)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from llmos_server.document.parts import Answer, Count

Finish = Literal["stop", "length", "tool_calls"]
Unix = Annotated[int, Field(ge=0, description="Seconds since 1970.")]
Byte = Annotated[int, Field(ge=0, le=255)]


class ModelAnswer(Answer):
    """A model."""

    id: str
    object: Literal["model"]
    created: Unix
    owned_by: str


class ModelList(Answer):
    """The models."""

    object: Literal["list"]
    data: list[ModelAnswer]


class CachedTokens(Answer):
    """Tokens of the prompt that were not read again."""

    cached_tokens: Count


class TokenUsage(Answer):
    """What was used."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: CachedTokens


class TopToken(Answer):
    """A token that could have been there."""

    token: str
    logprob: float
    bytes: list[Byte]


class ToldToken(TopToken):
    """A token of the answer."""

    top_logprobs: list[TopToken]


class ChatLogprobs(Answer):
    """Log probabilities of an answer."""

    content: list[ToldToken]


class MadeFunction(Answer):
    """What was called, with its arguments as JSON."""

    name: str
    arguments: str


class MadeCall(Answer):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: MadeFunction


class ChatAnswer(Answer):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[MadeCall] | None = None


class ChatChoice(Answer):
    """One of the answers."""

    index: Count
    message: ChatAnswer
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(Answer):
    """Answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: Unix
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage


class TextLogprobs(Answer):
    """Log probabilities of a continued text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[Count]


class TextChoice(Answer):
    """One of the continued texts."""

    index: Count
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish


class TextCompletion(Answer):
    """Texts that were continued."""

    id: str
    object: Literal["text_completion"]
    created: Unix
    model: str
    choices: list[TextChoice]
    usage: TokenUsage


class EmbeddingRow(Answer):
    """A vector, as numbers or as base64 of little-endian single precision."""

    object: Literal["embedding"]
    index: Count
    embedding: list[float] | str


class EmbeddingUsage(Answer):
    """What was read."""

    prompt_tokens: Count
    total_tokens: Count


class EmbeddingList(Answer):
    """A vector for each text."""

    object: Literal["list"]
    data: list[EmbeddingRow]
    model: str
    usage: EmbeddingUsage


# --- responses ---------------------------------------------------------------------------------------------------


class OutputText(Answer):
    """A part of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]
    logprobs: list[ToldToken]


class OutputMessage(Answer):
    """What the model said."""

    id: str
    type: Literal["message"]
    status: Literal["completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


class OutputCall(Answer):
    """What the model called."""

    id: str
    type: Literal["function_call"]
    status: Literal["completed"]
    call_id: str
    name: str
    arguments: str


class IncompleteReason(Answer):
    """Why an answer was cut."""

    reason: Literal["max_output_tokens"]


class NoReasoning(Answer):
    """There is none."""

    effort: None
    summary: None


class ReasoningTokens(Answer):
    """There are none."""

    reasoning_tokens: Count


class ResponseUsage(Answer):
    """What was used."""

    input_tokens: Count
    input_tokens_details: CachedTokens
    output_tokens: Count
    output_tokens_details: ReasoningTokens
    total_tokens: Count


class ResponseAnswer(Answer):
    """A response."""

    id: str
    object: Literal["response"]
    created_at: Unix
    status: Literal["completed", "incomplete"]
    background: Literal[False]
    error: None
    incomplete_details: IncompleteReason | None
    instructions: str | None
    max_output_tokens: Count | None
    model: str
    output: list[OutputMessage | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: NoReasoning
    store: bool
    temperature: float | None
    top_p: float | None
    top_logprobs: Count
    truncation: Literal["disabled"]
    usage: ResponseUsage
    user: str | None
    metadata: dict[str, str]
    text: dict[str, Any]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]


class ForgottenResponse(Answer):
    """A response that is no longer kept."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]
