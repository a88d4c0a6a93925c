"""A model to evaluate, by name: a checkpoint in our engine, one in lm-eval's own Hugging Face back-end, or an endpoint.

model/demo/persimmon-demo          a folder, or the name of a bundled checkpoint, or a Hub id: our engine
hf:adept/persimmon-8b-base         the same in lm-eval's hf back-end
http://127.0.0.1:8000/v1           an OpenAI-compatible endpoint that serves one model
http://127.0.0.1:8000/v1#name      one of several; the key, if it needs one, is read from OPENAI_API_KEY
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from lm_eval.api.model import LM

from evals.answers import AnswerStore, RequestFacts
from evals.endpoint_lm import EndpointLM
from evals.engine_lm import EngineLM
from evals.errors import EvaluationError
from evals.model_names import HUGGING_FACE, find_checkpoint, is_endpoint
from evals.provenance import model_identity, public_path, versions
from model.interface import Engine, EngineInfo

Backend = Literal["engine", "hf", "endpoint"]


class RecordedLM(Protocol):
    """What a run needs of a language model beyond lm-eval's own interface; see `evals.asking_lm.AskingLM`."""

    facts: list[RequestFacts]
    seconds: Mapping[str, float]
    num_resumed: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is opened: what `open_engine` takes, and for the other back-ends how much is asked at a time."""

    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    rope_position_dtype: str = "float32"
    context_length: int | None = None
    graphs: bool = True
    attention_backend: str = "auto"
    kernels: str = "auto"
    deterministic: bool = False
    gpu_memory_utilization: float = 0.9
    batch_size: int = 8
    concurrency: int = 16


@dataclass(frozen=True, kw_only=True)
class OpenModel:
    """A model that can be asked.

    Attributes:
        model: for the record, the identity of the answers. engine: how they are computed.
        make_lm: from a store of answers, whether prompts are conversations, a seed and whether to draw progress bars,
            to lm-eval's language model.
        chat_format: name of the model's chat format; `None` where prompts cannot be conversations.
        close: frees what it holds.
    """

    model: dict[str, Any]
    engine: dict[str, Any]
    make_lm: Callable[[AnswerStore | None, bool, int, bool], LM]
    chat_format: str | None
    close: Callable[[], None]


def open_model(name: str, options: ModelOptions) -> OpenModel:
    """Open the model of a name.

    Raises:
        EvaluationError: the back-end cannot be had. EngineError: the checkpoint or an option cannot be used.
    """
    if is_endpoint(name):
        return open_endpoint(name, options)
    if name.startswith(HUGGING_FACE):
        return open_hugging_face(find_checkpoint(name.removeprefix(HUGGING_FACE)), options)
    from model.open_engine import open_engine

    engine = open_engine(
        find_checkpoint(name),
        revision=options.revision,
        device=options.device,
        dtype=options.dtype,
        rope_position_dtype=options.rope_position_dtype,
        context_length=options.context_length,
        graphs=options.graphs,
        attention_backend=options.attention_backend,
        kernels=options.kernels,
        deterministic=options.deterministic,
        gpu_memory_utilization=options.gpu_memory_utilization,
    )
    return engine_model(engine)


def engine_model(engine: Engine) -> OpenModel:
    """A running engine as a model; closing it closes the engine."""

    def make_lm(store: AnswerStore | None, chat: bool, seed: int, progress: bool) -> LM:
        return EngineLM(engine, store=store, chat_format=chat, seed=seed, progress=progress)

    return OpenModel(
        model=describe_model(engine.info),
        engine=describe_engine(engine.info),
        make_lm=make_lm,
        chat_format=engine.chat_template.name,
        close=engine.close,
    )


def open_hugging_face(checkpoint: str, options: ModelOptions) -> OpenModel:
    """A checkpoint in lm-eval's hf back-end: its own settings, but for our choice of BOS, device and dtype, and the
    blanks that answers begin with."""
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from evals.hugging_face_lm import ContinuingHFLM, HuggingFaceLM
    from model.checkpoint.describe import describe
    from model.open_engine import choose_device, choose_dtype

    found = describe(checkpoint, revision=options.revision)
    device = choose_device(options.device)
    dtype = str(choose_dtype(options.dtype, device)).removeprefix("torch.")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, revision=options.revision)
    if tokenizer.eos_token_id is None:  # as Persimmon's on the Hub; HFLM cannot do without
        config = AutoConfig.from_pretrained(checkpoint, revision=options.revision)
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(config.eos_token_id)
    inner = ContinuingHFLM(
        pretrained=checkpoint,
        revision=options.revision or "main",
        tokenizer=tokenizer,
        device=str(device),
        dtype=dtype,
        batch_size=options.batch_size,
        add_bos_token=found.prompts_begin_with_bos,
        max_length=options.context_length,
    )

    def close() -> None:
        nonlocal inner
        del inner
        if device.type == "cuda":
            torch.cuda.empty_cache()

    return OpenModel(
        model={
            "name": Path(checkpoint).name,
            "source": public_path(found.name),
            "revision": found.revision,
            "family": found.family,
            "num_parameters": found.num_parameters,
            "weights_sha256": found.weights_sha256,
            "tokenizer_sha256": found.tokenizer_sha256,
            "licence": found.licence,
            "notice": found.notice,
            "bos": found.prompts_begin_with_bos,
        },
        engine={
            "backend": "hf",
            "device": str(device),
            "dtype": dtype,
            "rope_position_dtype": "float32",
            "attention_backend": str(inner.model.config._attn_implementation),
            "context_length": inner.max_length,
            "batch_size": options.batch_size,
            "versions": {name: versions()[name] for name in ("python", "torch", "transformers", "lm-eval")},
        },
        make_lm=lambda store, chat, seed, progress: HuggingFaceLM(inner, store=store),
        chat_format=None,
        close=close,
    )


def open_endpoint(address: str, options: ModelOptions) -> OpenModel:
    """An OpenAI-compatible endpoint.

    Raises:
        EvaluationError: it does not answer, or serves several models and none was named.
    """
    import httpx

    base_url, _, wanted = address.partition("#")
    api_key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        reply = httpx.get(f"{base_url.rstrip('/')}/models", headers=headers, timeout=30).raise_for_status()
        served = {entry["id"]: entry for entry in reply.json()["data"]}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{base_url}/models gives no list of models ({type(error).__name__}: {error}): check the address"
        ) from None
    if not wanted and len(served) == 1:
        (wanted,) = served
    if wanted not in served:
        raise EvaluationError(
            f"{base_url} serves {', '.join(served) or 'nothing'}: name one of them as {base_url}#<name>"
        )

    def make_lm(store: AnswerStore | None, chat: bool, seed: int, progress: bool) -> LM:
        return EndpointLM(
            base_url,
            wanted,
            api_key=api_key,
            concurrency=options.concurrency,
            seed=seed,
            chat_format=chat,
            store=store,
            progress=progress,
        )

    entry = {key: value for key, value in served[wanted].items() if key not in ("created", "permission")}
    unknown = dict.fromkeys(
        ("revision", "family", "num_parameters", "weights_sha256", "tokenizer_sha256", "licence", "notice", "bos")
    )
    return OpenModel(
        model={"name": wanted, "source": base_url, **unknown, "entry": entry},
        engine={"backend": "endpoint", "dtype": None, "rope_position_dtype": None, "device": None},
        make_lm=make_lm,
        chat_format="the endpoint's own",
        close=lambda: None,
    )


def with_chat_format(model: OpenModel, chat: bool) -> OpenModel:
    """The model as asked in conversations, or with raw prompts: the format becomes part of its identity.

    Raises:
        EvaluationError: it has no chat format.
    """
    if chat and model.chat_format is None:
        raise EvaluationError(f"{model.model['name']} has no chat format in this back-end: use --chat-format raw")
    return replace(model, model=model.model | {"chat_format": model.chat_format if chat else None})


def describe_model(info: EngineInfo) -> dict[str, Any]:
    """The identity of the answers: what is asked."""
    return model_identity(info) | {"bos": info.prompts_begin_with_bos}


def describe_engine(info: EngineInfo) -> dict[str, Any]:
    """How the answers are computed."""
    return {
        "backend": "engine",
        "device": info.device,
        "dtype": info.dtype,
        "rope_position_dtype": info.rope_position_dtype,
        "attention_backend": info.attention_backend,
        "kernels": info.kernels,
        "context_length": info.context_length,
        "block_size": info.block_size,
        "num_blocks": info.num_blocks,
        "max_num_requests": info.max_num_requests,
        "versions": dict(info.versions),
    }
