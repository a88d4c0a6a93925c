"""One step's input, as pure data: what every forward is given, explicitly, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from kernels.paged_attention_cpu import CpuAttentionPlan
from model.layers.attention_plan import AttentionPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class LastRows:
    """What the last layer computes beyond keys and values: of each sequence, the new tokens from the first wanted on.

    Attributes:
        rows: [num_rows] packed tokens, after the last sequence's any, as padding.
        query_start_loc: [num_seqs + 1] running sum of these tokens.
        logits_indices: as the batch's, but among `rows`.
        max_query_len: most of them in one sequence.
        cpu_plan: how attention on a CPU takes them together; `None` elsewhere.
        attention_plan: as the batch's.
    """

    rows: Tensor
    query_start_loc: Tensor
    logits_indices: Tensor
    max_query_len: int
    cpu_plan: CpuAttentionPlan | None
    attention_plan: AttentionPlan | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardBatch:
    """The new tokens of several sequences, packed end to end.

    Integer tensors are int64 and live on the model's device. `num_tokens` counts the packed new tokens, `num_seqs`
    the sequences; sequence i owns tokens `query_start_loc[i]` to `query_start_loc[i + 1]`. Tokens after the last
    sequence's are padding: their keys and values go to the null block, attention gives 0 for them.

    Attributes:
        input_ids: [num_tokens] token ids.
        positions: [num_tokens] place of each token in its sequence.
        rotary_lens: [num_tokens] sequence length that length-dependent rotary embeddings (dynamic NTK) see for each
            token: the prompt's length inside the prompt, position + 1 after it. Being a property of the token and not
            of the step, it makes chunked, preempted and whole prefills the same.
        slot_mapping: [num_tokens] where the token's key and value go: block * block_size + offset.
        query_start_loc: [num_seqs + 1] running sum of new tokens.
        seq_lens: [num_seqs] tokens in the sequence after this step, cached ones included.
        block_tables: [num_seqs, max_blocks] KV blocks of each sequence, padded with the null block 0.
        logits_indices: [num_rows] packed tokens whose final hidden state is wanted.
        max_query_len: most new tokens in one sequence; max_seq_len: longest sequence.
        vector_rows: [num_vectors] packed tokens whose embedding `vectors` [num_vectors, hidden_size] float32 replaces;
            `None` both if there are none.
        cpu_plan: how attention on a CPU takes the sequences together; `None` elsewhere.
        attention_plan: which back-end takes which sequences on a GPU; `None`: the reference takes all.
        last: rows that are enough in the last layer, `None` where all are computed; see `in_layers`.
        is_token: [num_tokens], 0 for the padding rows of a captured step; `None`: all are tokens.
        live_counter: [2], rows of second MLP matrices that were live and that there were, added to by what skips the
            others (`kernels.sparse_down`); `None`: nobody counts.
    """

    input_ids: Tensor
    positions: Tensor
    rotary_lens: Tensor
    slot_mapping: Tensor
    query_start_loc: Tensor
    seq_lens: Tensor
    block_tables: Tensor
    logits_indices: Tensor
    max_query_len: int
    max_seq_len: int
    vector_rows: Tensor | None = None
    vectors: Tensor | None = None
    cpu_plan: CpuAttentionPlan | None = None
    attention_plan: AttentionPlan | None = None
    last: LastRows | None = None
    is_token: Tensor | None = None
    live_counter: Tensor | None = None

    def embed(self, table: nn.Embedding) -> Tensor:
        """Embeddings of the new tokens, with vectors in their places: [num_tokens, hidden_size], the table's dtype."""
        embedded: Tensor = table(self.input_ids)
        if self.vector_rows is None or self.vectors is None:
            return embedded
        return embedded.index_copy(0, self.vector_rows, self.vectors.to(embedded.dtype))

    def in_layers(self, num_layers: int) -> list[ForwardBatch]:
        """The batch as each layer is given it: `last` is for the last one alone."""
        before = self if self.last is None else replace(self, last=None)
        return [before] * (num_layers - 1) + [self]

    def going_on(self, hidden_states: Tensor) -> Tensor:
        """Of the states that a layer is given, [num_tokens, hidden_size], the rows that it computes further."""
        return hidden_states if self.last is None else hidden_states[self.last.rows]

    def wanted(self, hidden_states: Tensor) -> Tensor:
        """The rows asked for, of what the last layer gave: [num_rows, hidden_size]."""
        return hidden_states[self.logits_indices if self.last is None else self.last.logits_indices]
