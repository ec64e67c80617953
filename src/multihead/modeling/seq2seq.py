"""Forward pass of encoder-decoders: the source is encoded once, the decoder attends to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from ..errors import InvalidInput
from ..heads.losses import IGNORED
from ..heads.outputs import BOTH_SIDED, HiddenOutput, Output
from ..kernels.ragged import SequenceLayout
from ..nn.cache.store import BatchCache
from ..nn.encoder_output import EncoderOutput
from ..nn.forward_context import ForwardContext, OutputCapture
from ..nn.ragged import Layout, positions_in_sequences
from ..nn.stack import EncoderDecoder
from ..runtime.turns import in_turn
from .load_pair import ChooseClass, load_pair
from .pack_inputs import own_cache, pack_inputs
from .pretrained import PreTrainedModel
from .unpack_outputs import PackedOutput, pack_token_lists, pad_attentions


class EncoderModule(nn.Module):
    """The encoder of an encoder-decoder as a module of its own; `layers` are the model's."""

    def __init__(self, model: SequenceToSequence) -> None:
        super().__init__()
        self.layers = model.backbone.encoder
        self._read = model.forward_encoder

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **more: Any) -> Any:
        """Return the encoder's hidden states; arguments as in the model's `forward`."""
        return self._read(input_ids, attention_mask, **more)


class SequenceToSequence(PreTrainedModel):
    """A pretrained encoder-decoder."""

    backbone: EncoderDecoder
    choose_class: ClassVar[ChooseClass]  # of `class_factory`

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: BatchCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **more: Tensor | None,
    ) -> Any:
        """Run the encoder over the source and the decoder over the target.

        Args:
            input_ids: (batch, source length). attention_mask: (batch, source length), 0 at padding.
            decoder_input_ids: (batch, target length); when left out, `labels` of words shifted to the right, or in a
                family that so reads a text to classify it, the source shifted.
            encoder_outputs: an earlier result's states, (batch, source length, width) first, instead of input_ids.
            past_key_values: what an earlier pass returned, the encoded source included.
            more: labels that the kind of model takes, and the family's own inputs, which are the source's.

        Raises:
            InvalidInput: shapes, dtypes or ids that do not fit.
        """
        past_key_values = own_cache(self, past_key_values, input_ids, inputs_embeds, encoder_outputs)
        own = {name: x for name, x in more.items() if name in self.architecture.inputs}
        known = self._labels({name: x for name, x in more.items() if name not in own})
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids, decoder_attention_mask = self._decoder_inputs(
                known.get("labels"), input_ids, attention_mask, decoder_attention_mask
            )
        capture = self._capture(output_hidden_states, output_attentions)
        shown: dict[str, Any] = {}
        if past_key_values is None or past_key_values.encoder_output is None:
            encoder_output, source, shown = self.encode_source(
                input_ids, inputs_embeds, attention_mask, encoder_outputs, output_hidden_states, output_attentions, own
            )
            if past_key_values is None:
                memory = self.new_cache(len(encoder_output.runs), encoder_output)
            else:  # a program's own, which is empty so far
                memory, past_key_values.encoder_output = past_key_values, encoder_output
        else:
            memory, source = past_key_values, None
        read = pack_inputs(
            decoder_input_ids,
            decoder_inputs_embeds,
            decoder_attention_mask,
            cache=memory,
            device=self.device,
            name="decoder_input_ids",
        )
        hidden, context = self._run(self.backbone, read, memory, capture)
        fields = self._postprocess(hidden, context, read.layout, known)
        kept_memory = memory if self._option("use_cache", use_cache, True) and "labels" not in known else None
        shown |= self._output_fields(capture, read.layout, memory, "decoder_hidden_states", "decoder_attentions")
        shown["past_key_values"] = kept_memory
        if capture.cross_attentions is not None and memory.encoder_output is not None:
            sources = source or Layout(
                memory.encoder_output.runs, None, (len(memory.encoder_output.runs), memory.encoder_output.runs.longest)
            )
            shown["cross_attentions"] = tuple(pad_attentions(x, read.layout, sources) for x in capture.cross_attentions)
        states = {"last_hidden_state": read.layout.unpack(hidden)} if self._is_headless else {}
        return self._make_output(states, {**fields, **shown}, return_dict)

    @classmethod
    def from_encoder_decoder_pretrained(cls, encoder: Any, decoder: Any, **options: Any) -> Any:
        """Return an encoder-decoder of two checkpoints, whose cross-attention is new and needs training.

        Args:
            encoder, decoder: names, as `from_pretrained` takes them. options: `from_pretrained`'s, for both sides.

        Raises:
            UnsupportedOption: this family is no pair.
        """
        return load_pair(cls, cls.choose_class, encoder, decoder, **options)

    def word_tables(self) -> list[nn.Embedding]:
        return list(dict.fromkeys(side.embed.token for side in (self.backbone.encoder, self.backbone.decoder)))

    def get_encoder(self) -> EncoderModule:
        """Return the encoder, to be called with ids; `encoder_outputs` takes its result."""
        return EncoderModule(self)

    def get_decoder(self) -> nn.Module:
        return self.backbone.decoder

    def encode(
        self,
        ids: Tensor | None,
        mask: Tensor | None = None,
        vectors: Tensor | None = None,
        own: Mapping[str, Tensor | None] = MappingProxyType({}),
    ) -> EncoderOutput:
        """Encode padded ids (batch, length). `own`: the family's own inputs."""
        read = pack_inputs(ids, vectors, mask, device=self.device)
        hidden, _ = self._run(
            self.backbone.encoder, read, None, OutputCapture(), self._pack_extra_inputs(own, read.layout)
        )
        return self.encoder_output(hidden, read.layout.runs, read.ids)

    @in_turn
    def encode_texts(self, texts: Sequence[Sequence[int]]) -> EncoderOutput:
        """Encode lists of ids, without padding."""
        ids, runs = pack_token_lists(texts, self.device)
        encoder = self.backbone.encoder
        context = ForwardContext(positions_in_sequences(runs, self.device), runs, ids=ids, attend=self.attend)
        return self.encoder_output(encoder(encoder.embed.look_up(ids), context), runs, ids)

    def encoder_output(self, hidden: Tensor, runs: SequenceLayout, ids: Tensor | None = None) -> EncoderOutput:
        """Return the decoder's source, made of the encoder's hidden states (tokens, width)."""
        return EncoderOutput(self.backbone.bridge(hidden), runs, ids)

    @in_turn
    def run(
        self,
        texts: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None = None,
        at: Sequence[int] | None = None,
    ) -> PackedOutput:
        """Run the model over lists of ids without padding; each sequence, shifted right, is its own target."""
        encoder_output = self.encode_texts(texts)
        assert encoder_output.ids is not None
        ids = self.architecture.shift_right(encoder_output.ids, encoder_output.runs, self.config)
        context = ForwardContext(
            positions_in_sequences(encoder_output.runs, self.device),
            encoder_output.runs,
            ids=ids,
            encoder_output=encoder_output,
            attend=self.attend,
        )
        hidden = self.backbone(self.backbone.embed.look_up(ids), context)
        return self.apply_head(hidden, context, at)

    def forward_encoder(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **own: Tensor | None,
    ) -> Any:
        """Return the encoder's hidden states of a padded batch, a `HiddenOutput`. Raises InvalidInput."""
        wrong = [name for name in own if name not in self.architecture.inputs]
        if wrong:
            raise TypeError(f"The encoder of {type(self).__name__} takes no {', '.join(wrong)}.")
        shows = (output_hidden_states, output_attentions)
        _, _, shown = self.encode_source(input_ids, inputs_embeds, attention_mask, None, *shows, own)
        output = HiddenOutput(**{name.removeprefix("encoder_"): value for name, value in shown.items()})
        return output if self._option("return_dict", return_dict, True) else output.to_tuple()

    def _decoder_inputs(
        self, labels: Tensor | None, source: Tensor | None, mask: Tensor | None, own_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return decoder_input_ids (batch, length) and their mask, made of the shifted labels or source.

        Raises:
            InvalidInput: there is nothing to make them from.
        """
        if labels is not None and self.head_type.auto == "AutoModelForSeq2SeqLM":
            return self.prepare_decoder_input_ids_from_labels(labels), own_mask
        if source is None or self.head_suffix not in self.architecture.source_as_target:
            raise InvalidInput("An encoder-decoder needs decoder_input_ids, or labels to make them from.")
        return self.shift_right(source, mask), mask if own_mask is None else own_mask

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Return the decoder's inputs (batch, length) for labels, whose ignored ones (-100) count as padding.

        Raises:
            InvalidInput: the config names no padding token.
        """
        if self.config.pad_token_id is None:
            raise InvalidInput("The config names no pad_token_id to shift labels with.")
        return self.shift_right(labels.masked_fill(labels == IGNORED, self.config.pad_token_id), None)

    def shift_right(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Shift padded ids (batch, length) one position right, behind the family's first token."""
        layout = Layout.of(mask, (ids.shape[0], ids.shape[1]))
        return layout.unpack(self.architecture.shift_right(layout.pack(ids), layout.runs, self.config))

    @in_turn
    def encode_source(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        mask: Tensor | None,
        states: Any,
        hidden: bool | None,
        attentions: bool | None,
        own: Mapping[str, Tensor | None],
    ) -> tuple[EncoderOutput, Layout, dict[str, Any]]:
        """Return the encoder's output, its layout, and the output fields that a caller asked for."""
        if states is not None:
            given = states[0]
            layout = Layout.of(None if mask is None else mask.to(self.device), (given.shape[0], given.shape[1]))
            return (
                self.encoder_output(layout.pack(given.to(self.device)), layout.runs),
                layout,
                {"encoder_last_hidden_state": given},
            )
        read, capture = pack_inputs(ids, vectors, mask, device=self.device), self._capture(hidden, attentions)
        result, _ = self._run(self.backbone.encoder, read, None, capture, self._pack_extra_inputs(own, read.layout))
        shown = {"encoder_last_hidden_state": read.layout.unpack(result)}
        shown |= self._output_fields(capture, read.layout, None, "encoder_hidden_states", "encoder_attentions")
        return self.encoder_output(result, read.layout.runs, read.ids), read.layout, shown

    def _output_class(self) -> Callable[..., Output]:
        return BOTH_SIDED.get(self.head_type.output, self.head_type.output)
