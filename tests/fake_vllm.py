"""A package named `vllm` for tests of the benchmark: the few names its program uses, over Hugging Face.

`write(folder)` puts it into a folder for PYTHONPATH. The environment variable FAKE_VLLM chooses what goes wrong:
`tokens` and `scores` change a result, `eager` does so without compiling alone, `second` from the second process on,
`raise` fails, `threads` takes two, `gpu` is a build for a GPU.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = """
import os
from pathlib import Path
from types import SimpleNamespace

__version__ = "0.0.fake"
WRONG = os.environ.get("FAKE_VLLM", "")


class SamplingParams:
    def __init__(
        self, *, temperature, detokenize, max_tokens, ignore_eos=False, prompt_logprobs=None,
        skip_reading_prefix_cache=None,
    ):
        assert temperature == 0.0
        self.max_tokens, self.ignore_eos, self.prompt_logprobs = max_tokens, ignore_eos, prompt_logprobs
        self.reads_cache = skip_reading_prefix_cache is False


class LLM:
    def __init__(self, *, model, dtype, max_model_len, max_num_seqs, enforce_eager, block_size, kv_cache_memory_bytes):
        import torch
        from transformers import PersimmonForCausalLM

        assert dtype == "float32" and max_num_seqs >= 64 and kv_cache_memory_bytes > 0 and block_size % 32 == 0
        if WRONG == "raise":
            raise RuntimeError("no kernel for this head")
        if WRONG == "threads":
            torch.set_num_threads(2)
        with open(Path(__file__).with_name("opened"), "a+") as opened:
            opened.write("x")
            opened.seek(0)
            number = len(opened.read())
        self.wrong = WRONG in ("tokens", "scores") or (WRONG == "eager" and enforce_eager)
        self.wrong |= WRONG == "second" and number > 2
        self.max_model_len = max_model_len
        self.model = PersimmonForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def generate(self, prompts, params, *, use_tqdm):
        return [self._one(p["prompt_token_ids"], o) for p, o in zip(prompts, params, strict=True)]

    def _one(self, token_ids, options):
        import torch

        assert len(token_ids) + options.max_tokens <= self.max_model_len
        end = None if options.ignore_eos else self.model.config.eos_token_id
        with torch.inference_mode():
            answer = self.model.generate(
                torch.tensor([token_ids]), attention_mask=torch.ones(1, len(token_ids)), do_sample=False,
                max_new_tokens=options.max_tokens, eos_token_id=end, pad_token_id=0,
            )[0, len(token_ids):].tolist()
            if self.wrong:
                answer[0] = (answer[0] + 1) % self.model.config.vocab_size
            prompt_logprobs = None
            cached = len(token_ids) - 1 if options.reads_cache else 0  # as if another request had begun alike
            if options.prompt_logprobs is not None:
                rows = self.model(torch.tensor([token_ids])).logits[0, :-1].log_softmax(-1)
                prompt_logprobs = [None]
                for row, token in zip(rows, token_ids[1:], strict=True):
                    if len(prompt_logprobs) <= cached:
                        prompt_logprobs.append({-1: SimpleNamespace(logprob=7.0, rank=1)})  # never computed
                        continue
                    value = float(row[token]) - 0.1 * self.wrong
                    prompt_logprobs.append({token: SimpleNamespace(logprob=value, rank=int((row >= row[token]).sum()))})
        outputs = [SimpleNamespace(token_ids=answer)]
        return SimpleNamespace(outputs=outputs, prompt_logprobs=prompt_logprobs, num_cached_tokens=cached)
"""

PLATFORMS = """
import os
from types import SimpleNamespace

current_platform = SimpleNamespace(is_cpu=lambda: os.environ.get("FAKE_VLLM") != "gpu")
"""


def write(folder: Path) -> Path:
    """Put the package into `folder`, which is given back."""
    package = folder / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE, encoding="utf-8")
    (package / "platforms.py").write_text(PLATFORMS, encoding="utf-8")
    return folder
