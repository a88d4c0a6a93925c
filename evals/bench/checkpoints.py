"""Random Persimmons for the benchmark, each written once into a cache folder with the bundled tokenizer."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import safe_open

from evals.errors import EvaluationError

BUNDLED = Path(__file__).resolve().parents[2] / "model" / "demo" / "persimmon-demo"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
UNSPOKEN_SCALE = 0.01  # of output rows that no token has, so that greedy answers are text


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomPersimmon:
    """Sizes of a random Persimmon in fp32."""

    name: str
    hidden_size: int
    num_layers: int
    num_heads: int
    vocab_size: int
    context_length: int
    seed: int = 0

    @property
    def num_parameters(self) -> int:
        """Of all matrices; biases and norms are a thousandth of that."""
        return 12 * self.num_layers * self.hidden_size**2 + 2 * self.vocab_size * self.hidden_size

    def __str__(self) -> str:
        return (
            f"random weights, {self.num_parameters / 1e6:.0f} M parameters, {self.num_layers} layers of "
            f"{self.hidden_size} ({self.num_heads} heads of {self.hidden_size // self.num_heads}, MLP "
            f"{4 * self.hidden_size}), vocabulary {self.vocab_size:,}, context {self.context_length:,}, fp32"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Parameters of a checkpoint: those of the layers, and those of the output head (not the input embedding)."""

    body: int
    head: int
    embedding: int

    @property
    def total(self) -> int:
        return self.body + self.head + self.embedding


def cached(sizes: RandomPersimmon, cache: Path) -> Path:
    """The folder of this checkpoint, if it is written already or not; see :func:`write`."""
    digest = hashlib.sha256(json.dumps(asdict(sizes), sort_keys=True).encode()).hexdigest()
    return cache / digest[:12] / sizes.name


def write(sizes: RandomPersimmon, folder: Path) -> None:
    """Write the checkpoint, whole or not at all."""
    import torch
    from transformers import PersimmonConfig, PersimmonForCausalLM

    special = json.loads((BUNDLED / "config.json").read_text(encoding="utf-8"))
    config = PersimmonConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        intermediate_size=4 * sizes.hidden_size,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        max_position_embeddings=sizes.context_length,
        hidden_act="relu2",
        rope_parameters={"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5},
        bos_token_id=special["bos_token_id"],
        eos_token_id=special["eos_token_id"],
        pad_token_id=special["pad_token_id"],
    )
    torch.manual_seed(sizes.seed)
    model = PersimmonForCausalLM(config).eval()
    num_tokens = len(json.loads((BUNDLED / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases and norms, which would be zeros and ones
                parameter += 0.05 * torch.randn(parameter.shape)
        model.lm_head.weight[num_tokens:] *= UNSPOKEN_SCALE
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        model.save_pretrained(scratch)
        for name in TOKENIZER_FILES:
            shutil.copy(BUNDLED / name, scratch)
        scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch)
        raise


def shape(folder: Path) -> Shape:
    """Count a checkpoint's parameters from its file's header.

    Raises:
        EvaluationError: it is not in one file, or not a Persimmon's.
    """
    sizes = {"body": 0, "head": 0, "embedding": 0}
    path = folder / "model.safetensors"
    if not path.is_file():
        raise EvaluationError(f"{folder.name} has no {path.name}: the benchmark needs its weights in one file")
    with safe_open(str(path), framework="np") as tensors:
        for name in tensors.keys():  # noqa: SIM118  # a file, not a dict
            count = 1
            for size in tensors.get_slice(name).get_shape():
                count *= size
            kind = "embedding" if "embed_tokens" in name else "head" if name.startswith("lm_head") else "body"
            sizes[kind] += count
    return Shape(**sizes)
