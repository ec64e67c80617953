"""Pretrained encoder-decoders: the source is read once, the target attends to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InvalidInput
from .inputs import batch
from .model import PreTrainedModel
from .nn.cache import Cache
from .nn.call import Call, Encoded, Record
from .nn.ragged import Layout, places
from .nn.stack import EncoderDecoder
from .outputs import Output, Seq2SeqHiddenOutput
from .views import flat, grid


class SequenceToSequence(PreTrainedModel):
    """A pretrained encoder-decoder."""

    backbone: EncoderDecoder

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        **labels: Tensor | None,
    ) -> Any:
        """One pass: the source is read once, the target attends to it.

        Args:
            input_ids: (batch, source length). attention_mask: (batch, source length), 0 at padding.
            decoder_input_ids: (batch, target length); made from `labels` by a shift to the right when left out.
            encoder_outputs: an earlier result's states, (batch, source length, width) first, instead of input_ids.
            past_key_values: what an earlier pass returned, the encoded source included.

        Raises:
            InvalidInput: shapes, dtypes or ids that do not fit.
        """
        known = self._labels(labels)
        record = self._record(output_hidden_states, output_attentions)
        shown: dict[str, Any] = {}
        if past_key_values is None or past_key_values.encoded is None:
            encoded, source, shown = self._source(
                input_ids, inputs_embeds, attention_mask, encoder_outputs, output_hidden_states, output_attentions
            )
            memory = self.remember(len(encoded.runs), encoded)
        else:
            memory, source = past_key_values, None
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.shifted(known.get("labels"))
        read = batch(
            decoder_input_ids,
            decoder_inputs_embeds,
            decoder_attention_mask,
            cache=memory,
            device=self.device,
            name="decoder_input_ids",
        )
        hidden, call = self._run(self.backbone.decoder, read, memory, record)
        fields = self._finish(hidden, call, read.layout, known)
        kept_memory = memory if use_cache is not False and "labels" not in known else None
        shown |= self._shown(record, read.layout, memory, "decoder_hidden_states", "decoder_attentions")
        shown["past_key_values"] = kept_memory
        if record.cross_attentions is not None and memory.encoded is not None:
            sources = source or Layout(
                memory.encoded.runs, None, (len(memory.encoded.runs), memory.encoded.runs.longest)
            )
            shown["cross_attentions"] = tuple(grid(x, read.layout, sources, 0) for x in record.cross_attentions)
        states = {"last_hidden_state": read.layout.unpack(hidden)} if self._bare else {}
        return self._answer(states, {**fields, **shown}, return_dict)

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.encoder.embed.token

    def encode(self, ids: Tensor | None, mask: Tensor | None = None, vectors: Tensor | None = None) -> Encoded:
        """The encoded source of padded ids (batch, length)."""
        read = batch(ids, vectors, mask, device=self.device)
        hidden, _ = self._run(self.backbone.encoder, read, None, Record())
        return Encoded(hidden, read.layout.runs)

    def encode_texts(self, texts: Sequence[Sequence[int]]) -> Encoded:
        """The encoded source of lists of ids, without any padding."""
        ids, runs = flat(texts, self.device)
        encoder = self.backbone.encoder
        call = Call(places(runs, self.device), runs, attend=self.attend)
        return Encoded(encoder(encoder.embed.words(ids), call), runs)

    def shifted(self, labels: Tensor | None) -> Tensor:
        """Target ids one place to the right, after the start id; what is left out of the loss becomes padding.

        Raises:
            InvalidInput: there are no labels either.
        """
        if labels is None:
            raise InvalidInput("An encoder-decoder needs decoder_input_ids, or labels to make them from.")
        start, padding = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None or padding is None:
            raise InvalidInput("The config names no decoder_start_token_id or pad_token_id to shift labels with.")
        ids = torch.cat([labels.new_full((labels.shape[0], 1), start), labels[:, :-1]], 1)
        return ids.masked_fill(ids == -100, padding)

    def _source(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        mask: Tensor | None,
        states: Any,
        hidden: bool,
        attentions: bool,
    ) -> tuple[Encoded, Layout, dict[str, Any]]:
        """The encoded source, its layout, and what a caller asked to see of it."""
        if states is not None:
            given = states[0]
            layout = Layout.of(None if mask is None else mask.to(self.device), (given.shape[0], given.shape[1]))
            return (
                Encoded(layout.pack(given.to(self.device)), layout.runs),
                layout,
                {"encoder_last_hidden_state": given},
            )
        read, record = batch(ids, vectors, mask, device=self.device), self._record(hidden, attentions)
        result, _ = self._run(self.backbone.encoder, read, None, record)
        shown = {"encoder_last_hidden_state": read.layout.unpack(result)}
        shown |= self._shown(record, read.layout, None, "encoder_hidden_states", "encoder_attentions")
        return Encoded(result, read.layout.runs), read.layout, shown

    def _output_class(self) -> Callable[..., Output]:
        return Seq2SeqHiddenOutput if self._bare else self.kind.output
