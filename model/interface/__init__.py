"""The narrow waist: everything `app` and `evals` may know about a running model.

An :class:`Engine` has six verbs, `generate`, `stream`, `score`, `classify`, `hidden_states` and `close`, and async
twins of those that return results; a stream can be read from a thread or from an event loop. Prompts are text, token
ids, or token ids with vectors in some places. Nothing here imports torch, so a page or a test can use a scripted engine
instead of a real one (`tests/scripted_engine.py`).
"""

from kernels.processor import processor_name
from model.interface.classification import ClassificationHead, ProblemType
from model.interface.completion import Completion, FinishReason, StreamChunk, Timing, TokenLogprob
from model.interface.continuation import Continuation, document_start, split_continuation
from model.interface.engine import CompletionStream, Engine, Priority
from model.interface.errors import ContextLengthExceeded, EngineClosed, EngineError, InvalidRequest
from model.interface.info import EngineInfo, EngineStats, Latency
from model.interface.prompt import EmbeddedPrompt, Prompt
from model.interface.sampling_params import (
    MAX_LOGIT_BIAS,
    MAX_PENALTY,
    MAX_SEED,
    MAX_STOP_STRINGS,
    MAX_TOP_LOGPROBS,
    SamplingParams,
)
from model.interface.score import ScoreRequest, TokenScore
from model.interface.text import ChatMessage, ChatTemplate, Tokenizer

__all__ = [
    "MAX_LOGIT_BIAS",
    "MAX_PENALTY",
    "MAX_SEED",
    "MAX_STOP_STRINGS",
    "MAX_TOP_LOGPROBS",
    "ChatMessage",
    "ChatTemplate",
    "ClassificationHead",
    "Completion",
    "CompletionStream",
    "ContextLengthExceeded",
    "Continuation",
    "EmbeddedPrompt",
    "Engine",
    "EngineClosed",
    "EngineError",
    "EngineInfo",
    "EngineStats",
    "FinishReason",
    "InvalidRequest",
    "Latency",
    "Priority",
    "ProblemType",
    "Prompt",
    "SamplingParams",
    "ScoreRequest",
    "StreamChunk",
    "Timing",
    "TokenLogprob",
    "TokenScore",
    "Tokenizer",
    "document_start",
    "processor_name",
    "split_continuation",
]
