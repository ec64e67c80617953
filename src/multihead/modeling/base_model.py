"""Forward pass of every model: padded tensors in, `outputs.logits` out, a packed batch in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..adapters.methods import AdapterMixin
from ..checkpoints.key_map import KeyMap, join_head
from ..config import Config, family_class
from ..errors import InvalidInput, UnsupportedOption
from ..generation.config import GenerationConfig
from ..heads import losses
from ..heads.head_types import COUNT, HeadType
from ..heads.heads import Head, LanguageModel
from ..heads.outputs import HiddenOutput, Output
from ..kernels.backend import AttentionFunction
from ..kernels.ops import fused_attention
from ..kernels.ragged import SequenceLayout
from ..kernels.torch.attention import attend
from ..models.common.architecture import Architecture
from ..models.common.both_ways import read_both_ways
from ..models.common.multimodal import refuse_placeholders, without_media
from ..models.common.registry import architecture, find_class, note_family
from ..nn.cache.layer_cache import LayerCache
from ..nn.cache.store import BatchCache, LengthDependent
from ..nn.embeddings import learned_positions
from ..nn.encoder_output import EncoderOutput
from ..nn.forward_context import ForwardContext, OutputCapture, SelectedTokens
from ..nn.hooks import is_hooked
from ..nn.masked_next import MaskedNext
from ..nn.ragged import Layout, positions_in_sequences
from ..nn.weights import initialize
from ..runtime.prepare import prepare
from ..runtime.select_runner import check_name, default_name
from ..runtime.turns import in_turn
from .model_methods import ModelMethodsMixin
from .pack_inputs import PackedInputs, check_cache_position, check_counted, own_cache, pack_inputs, to_int64
from .recompute_cache import run_with_cache
from .unpack_outputs import PackedOutput, pack_token_lists, pad_attentions, select_columns

M = TypeVar("M", bound="BaseModel")
UNUSED = frozenset(  # arguments of the reference that programs pass on as None
    """head_mask cross_attn_head_mask decoder_head_mask encoder_hidden_states encoder_attention_mask position_bias
    cache_position num_items_in_batch""".split()
)
BACKENDS: Mapping[str, AttentionFunction] = {"eager": attend, "sdpa": fused_attention}


class BaseModel(ModelMethodsMixin, AdapterMixin):
    """A backbone and a head, with their config and key map.

    Args:
        config: of the family. Weights are initialized at random.
        add_pooling_layer: False leaves out the pooler of a model without a head for scores.
    """

    architecture: ClassVar[Architecture]
    head_suffix: ClassVar[str] = ""
    main_input_name = "input_ids"
    checkpoint_folder: Path | None = None  # the folder or file that its weights came from
    prepared: str | None = None  # the precision that `prepare` made it ready for
    _decode_runner: str | None = None

    def __init__(self, config: Config, add_pooling_layer: bool = True) -> None:
        super().__init__()
        if not self._computes(config):
            wanted = self.architecture.config.__name__
            raise InvalidInput(f"{type(self).__name__} needs a {wanted}, not a {type(config).__name__}.")
        config.freeze()
        note_family(type(config))
        build, keys = self.architecture.backbone_variants.get(
            self.head_suffix, (self.architecture.build, self.architecture.keys)
        )
        self.config = config
        self.backbone: Any = build(config)
        read_both_ways(config, self.backbone)
        make = self.architecture.heads[self.head_suffix]
        self._head: Head | None = make(config, self.backbone) if make else None
        self.head: nn.Module | None = self._head.module if self._head else None
        if not add_pooling_layer:
            self.drop_pooler()
        self.body_keys: KeyMap = keys(config)
        self.attend: AttentionFunction = fused_attention
        if self.device.type != "meta":  # built empty by `loading`, which fills it
            initialize(self, getattr(config, "initializer_range", getattr(config, "init_std", 0.02)))

    def drop_pooler(self) -> None:
        """Remove the pooler. Raises InvalidInput where the class has none."""
        if self._head is None or not self._is_headless:
            raise InvalidInput(f"{type(self).__name__} has no pooling layer; leave add_pooling_layer out.")
        self.head = None

    @classmethod
    def _computes(cls, config: Config) -> bool:
        """Return whether a config is of this family, or of one derived from it that is built alike."""
        own = cls.architecture
        family = family_class(type(config))
        if not isinstance(config, own.config) or family.model_type == own.config.model_type:
            return isinstance(config, own.config)
        return architecture(family.model_type).build is own.build

    @property
    def head_type(self) -> HeadType:
        return self.architecture.head_type(self.head_suffix)

    @property
    def keys(self) -> KeyMap:
        """Key map between parameters and tensor names of a Hugging Face checkpoint."""
        head = self._head if self.head is not None else None
        prefix = "" if self.head_suffix == "Model" else head.prefix if head else None
        return replace(join_head(self.body_keys, head.rows if head else {}, prefix=prefix), own=self.own_parts)

    def stored_tensors(self) -> dict[str, Tensor]:
        """Return the tensors as files have them, by name. Raises CheckpointMismatch for a part that has none."""
        return self.keys.export(self)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @cached_property
    def generation_config(self) -> GenerationConfig:
        return GenerationConfig.from_model_config(self.config)

    def prepare(self: M, precision: str = "auto", *, dtype: torch.dtype | None = None) -> M:
        """Optimize the model for inference in place: fuse and quantize its linear layers. Returns the model.

        Args:
            precision: of the weights: "bf16"; "int8" (a scale a row; what they multiply is coded in int8 too, a scale a
                token); "int4" (a scale and a minimum for each 32 inputs; word scores in int8); "gguf", when
                a quantized GGUF file is loaded, keeps its codes; "fp32" leaves them to torch; "auto" is bf16 where the
                hardware multiplies it natively and fp32 elsewhere.
            dtype: of states between products; None for bfloat16 where the hardware multiplies it, else float32.

        Raises:
            UnsupportedOption: another precision, or one that the device does not compute. InvalidInput: a model that
                was prepared or has adapters, or weights that are not finite.
        """
        prepare(self, precision, dtype)
        return self

    def set_attention(self, name: str) -> None:
        """Choose the attention implementation: "sdpa" (fast) or "eager" (the plain definition)."""
        if name not in BACKENDS:
            raise UnsupportedOption(f"attn_implementation {name!r} is none of {', '.join(BACKENDS)}.")
        self.attend = BACKENDS[name]
        vars(self.config)["_attn_implementation"] = name

    set_attn_implementation = set_attention

    @property
    def decode_runner(self) -> str:
        """Runner of the decode steps of `generate`: "eager", "cpu", "graph", or "auto" for the fastest that can.

        Without a value of its own the model takes the environment variable MULTIHEAD_RUNNER, else "auto". `generate`
        raises UnsupportedOption where the named runner cannot serve the model; "auto" takes the next one.

        Raises:
            UnsupportedOption: another name.
        """
        return self._decode_runner or default_name()

    @decode_runner.setter
    def decode_runner(self, name: str | None) -> None:
        self._decode_runner = None if name is None else check_name(name)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: BatchCache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **more: Tensor | None,
    ) -> Any:
        """Run a forward pass over a padded batch.

        Args:
            input_ids: (batch, length); for multiple choice (batch, choices, length), like every other input.
            attention_mask: (batch, length), 0 at padding. position_ids: (batch, length), counted from each text's
                first real token unless given; those given to RoBERTa and its relatives are rows of its table, as in the
                reference. In a causal decoder without a mask and a cache, another sequence begins where a position
                does not follow the one before it (`DataCollatorWithFlattening`).
            past_key_values: what an earlier pass returned; the inputs continue its texts. Or a `DynamicCache()`.
            use_cache, output_attentions, output_hidden_states, return_dict: None for what the config says.
            logits_to_keep: computes scores for this many last positions only, 0 for all; or for these positions (n,).
            more: labels that the kind of model takes (`labels`, `start_positions`, ...), from which `loss` is computed,
                and the family's own inputs. `num_items_in_batch`, of models that label tokens, divides the sum of
                losses instead of the number of these labels.

        Raises:
            InvalidInput: shapes, dtypes or ids that do not fit. TextTooLong: more tokens than positions.
        """
        memory_name, use_name = self.architecture.memory_names
        past_key_values = more.pop(memory_name, past_key_values)  # type: ignore[assignment]
        use_cache = more.pop(use_name, use_cache)  # type: ignore[assignment]
        past_key_values = own_cache(self, past_key_values, input_ids, inputs_embeds)
        place = more.pop("cache_position", None)
        routers = self._shows_routers(more.pop("output_router_logits", None) if self._routes else None)
        own = {name: x for name, x in more.items() if name in self.architecture.inputs}
        known = self._labels(without_media({name: x for name, x in more.items() if name not in own}))
        given = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        if self.head_type.choices:
            sides = next(x for x in (input_ids, inputs_embeds) if x is not None).shape[1]
            known = {**known, "choices": torch.tensor(sides)}
            given = tuple(None if x is None else x.flatten(0, 1) for x in given)  # type: ignore[assignment]
            own = {name: None if x is None else x.flatten(0, 1) for name, x in own.items()}
        ids, mask, segments, positions, vectors = given
        if segments is not None and "token_type_ids" in self.architecture.inputs:  # several a token
            own, segments = {**own, "token_type_ids": segments}, None
        if segments is not None and not self.backbone.typed:
            raise InvalidInput(f"{type(self).__name__} has no token types; leave token_type_ids out.")
        read = pack_inputs(
            ids,
            vectors,
            mask,
            positions=positions,
            segments=segments,
            cache=past_key_values,
            device=self.device,
            restarts=self.backbone.causal and not use_cache and (self._is_headless or self.head_type.generates),
        )
        check_counted(read, past_key_values, self.architecture.reads_positions)
        if len(read.layout.runs) > read.layout.shape[0]:
            use_cache = False  # of several sequences in a row, none goes on
        check_cache_position(place, past_key_values, read.layout.shape[1])
        if self.config.placeholder_token_ids and read.ids is not None:
            refuse_placeholders(self.config, read.ids.tolist())
        memory = past_key_values
        if memory is None and (self._returns_cache if use_cache is None else use_cache):
            memory = self.new_cache(len(read.layout.runs))
        capture = self._capture(output_hidden_states, output_attentions)
        capture.routers = [] if routers else None
        hidden, context = self._run(self.backbone, read, memory, capture, self._pack_extra_inputs(own, read.layout))
        seen = self.backbone.filled(read.layout, context)
        if isinstance(logits_to_keep, Tensor) or logits_to_keep:
            hidden, context, seen = select_columns(hidden, context, seen, logits_to_keep)
        fields = self._postprocess(hidden, context, seen, known)
        fields = {**fields, **self._output_fields(capture, read.layout, memory, "hidden_states", "attentions")}
        fields = self._with_balance(fields, capture)
        return self._make_output(
            {"last_hidden_state": seen.unpack(hidden)} if self._is_headless else {}, fields, return_dict
        )

    @property
    def _returns_cache(self) -> bool:
        """True if `forward` returns a KV cache by default, as the reference's decoders do."""
        if not self._option("use_cache", None, True) or (self.training and self.is_gradient_checkpointing):
            return False
        if self.head_suffix in ("ForCausalLM", "LMHeadModel", "MTModel"):
            return True
        return self.backbone.remembers and (self._is_headless or not self.backbone.causal)

    @property
    def _is_headless(self) -> bool:
        return self.head_type.output is HiddenOutput

    def new_cache(self, texts: int, encoder_output: EncoderOutput | None = None) -> BatchCache:
        """Return an empty cache for this many sequences."""
        return BatchCache.of(self.backbone.memories(), texts, encoder_output, self.backbone.by_length)

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the head scores; the source of an encoder-decoder may have another."""
        return getattr(self.config, "decoder_vocab_size", None) or self.config.vocab_size

    @property
    def max_positions(self) -> int | None:
        """Tokens that the decoder has learned positions for; None where positions are computed, not learned."""
        learned = learned_positions(getattr(self.backbone, "decoder", self.backbone))
        return learned if learned is None or self.masked_next is None else learned - 1  # the mask takes one

    @property
    def by_length(self) -> Sequence[LengthDependent]:
        """Rotary positions whose frequencies depend on the length of the sequence."""
        return self.backbone.by_length

    def memories(self) -> list[LayerCache]:
        """Return an empty cache for each layer, for texts that are continued."""
        masked = self.masked_next
        return self.backbone.memories() if masked is None else masked.memories(len(self.backbone.layers))

    @property
    def masked_next(self) -> MaskedNext | None:
        """The mask behind a text whose scores are those of the next token; None where the last token has them."""
        return getattr(self.backbone, "masked_next", None)

    def read(
        self,
        ids: Tensor,
        runs: SequenceLayout,
        memory: BatchCache,
        capture: OutputCapture | None = None,
        last: Sequence[int] | None = None,
        inputs: Mapping[str, Any] = MappingProxyType({}),
        segments: Tensor | None = None,
    ) -> Tensor:
        """Read ids (tokens,) into a cache and return the last hidden states (tokens, width).

        Args:
            last: number of last tokens of each sequence whose states count; the others' may be zero, where last
                layers can do without. None for all.
            inputs: the family's own inputs, as `ForwardContext.extra_inputs` holds them.
            segments: types of the tokens, (tokens,).
        """
        selected = None
        if (
            last is not None
            and capture is None
            and sum(last) < len(ids)
            and getattr(self.backbone, "num_borrowing", None)
        ):
            selected = SelectedTokens.lasts(runs, last, ids.device)
        context = ForwardContext(
            memory.places(runs, ids.device), runs, ids=ids, segments=segments, encoder_output=memory.encoder_output,
            cache=memory, attend=self.attend, capture=capture or OutputCapture(), extra_inputs=inputs,
            selected=selected,
        )  # fmt: skip
        states = self.backbone(self.backbone.embed.look_up(ids), context)
        if selected is None:
            return states
        return states.new_zeros(len(ids), states.shape[1]).index_copy(0, selected.rows, states)

    def score_states(self, states: Tensor) -> Tensor:
        """Return logits (rows, vocabulary) of the next token, from last hidden states (rows, width)."""
        if type(self.head) is LanguageModel and self.head.packed is not None and not is_hooked(self.head):
            return self.head.exact(states)
        rows = SequenceLayout.packed((states.shape[0],))
        return self.head(states, ForwardContext(positions_in_sequences(rows, states.device), rows))  # type: ignore[misc]

    @in_turn
    def run(
        self,
        texts: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None = None,
        at: Sequence[int] | None = None,
    ) -> PackedOutput:
        """Run a forward pass over lists of ids without padding, as pipelines do.

        Args:
            segments: token types, in the shape of `texts`.
            at: places in the run whose words alone are scored; empty for no scores; None for the head's scores of all.
        """
        for text in texts:
            refuse_placeholders(self.config, text)
        ids, runs = pack_token_lists(texts, self.device)
        types = None if segments is None else pack_token_lists(segments, self.device)[0]
        context = ForwardContext(
            positions_in_sequences(runs, self.device), runs, segments=types, ids=ids, attend=self.attend
        )
        hidden = self.backbone(self.backbone.embed.look_up(ids), context)
        return self.apply_head(hidden, context, at)

    def apply_head(self, hidden: Tensor, context: ForwardContext, at: Sequence[int] | None) -> PackedOutput:
        """Apply the head to last hidden states (tokens, width); see `run`."""
        scores: Any = None
        if at is not None:
            rows = torch.tensor(at, dtype=torch.long, device=hidden.device)
            scores = self.score_states(hidden[rows]) if len(at) else None
        elif self.head is not None:
            scores = self.head(hidden, context)
        return PackedOutput(hidden, scores, self.backbone.output_runs(context))

    def _pack_extra_inputs(self, given: Mapping[str, Tensor | None], layout: Layout) -> dict[str, Any]:
        """Pack the family's own inputs."""
        packs = self.architecture.inputs
        return {name: packs[name](x.to(self.device), layout) for name, x in given.items() if x is not None}

    def _run(
        self,
        stack: Any,
        read: PackedInputs,
        memory: BatchCache | None,
        capture: OutputCapture,
        extra_inputs: Mapping[str, Any] = MappingProxyType({}),
    ) -> tuple[Tensor, ForwardContext]:
        context = ForwardContext(
            read.positions, read.layout.runs, segments=read.segments, ids=read.ids, extra_inputs=extra_inputs,
            encoder_output=None if memory is None else memory.encoder_output, cache=memory, attend=self.attend,
            capture=capture, custom_positions=read.custom_positions,
        )  # fmt: skip
        return run_with_cache(stack, read, context), context

    def _capture(self, hidden: bool | None, attentions: bool | None) -> OutputCapture:
        hidden = self._option("output_hidden_states", hidden)
        attentions = self._option("output_attentions", attentions)
        return OutputCapture([] if hidden else None, [] if attentions else None, [] if attentions else None)

    @property
    def _label_names(self) -> tuple[str, ...]:
        return (*self.head_type.labels, *((COUNT,) if self.accepts_loss_kwargs else ()))

    @property
    def accepts_loss_kwargs(self) -> bool:
        """True if `forward` takes `num_items_in_batch`; else the reference's Trainer divides the mean of a batch."""
        return self.head_type.counts_labels

    def _labels(self, given: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        names = (*self._label_names, *UNUSED)
        wrong = [name for name, x in given.items() if name not in (self._label_names if x is not None else names)]
        if wrong:
            names = (*self._label_names, *self.architecture.inputs)
            takes = f"; in addition to the usual inputs it takes {', '.join(names)}" if names else ""
            raise TypeError(f"{type(self).__name__} takes no {', '.join(wrong)}{takes}.")
        return {name: to_int64(torch.as_tensor(x, device=self.device)) for name, x in given.items() if x is not None}

    def _postprocess(
        self, hidden: Tensor, context: ForwardContext, layout: Layout, labels: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        if self.head is None:
            return {}
        return self.head_type.postprocess(self.head(hidden, context), layout, labels, self.config)

    def _output_fields(
        self, capture: OutputCapture, layout: Layout, memory: BatchCache | None, hidden: str, attentions: str
    ) -> dict[str, Any]:
        """Return the output fields that a caller asked for, padded."""
        shown: dict[str, Any] = {}
        if memory is not None:
            shown["past_key_values"] = memory.owner or memory
        if capture.hidden is not None:
            shown[hidden] = tuple(layout.unpack(x) for x in capture.hidden)
        if capture.attentions is not None:
            shown[attentions] = tuple(pad_attentions(x, layout) for x in capture.attentions)
        if capture.routers is not None:
            shown["router_logits"] = tuple(layout.unpack(x).flatten(0, 1) for x in capture.routers)
        return shown

    @property
    def _routes(self) -> bool:
        """True if outputs may show the scores of experts: of bare models and of those that write."""
        declared = hasattr(type(self.config), "output_router_logits")  # an entry of other families' files is none
        return declared and (self._is_headless or self.head_type.generates)

    def _shows_routers(self, asked: Any) -> bool:
        return self._routes and bool(self.config.output_router_logits if asked is None else asked)

    def _with_balance(self, fields: dict[str, Any], capture: OutputCapture) -> dict[str, Any]:
        """Return output fields with the load-balancing loss, if the family has one and scores of experts are shown."""
        # declared, since an entry that a family does not read is none
        weight = self.config.router_aux_loss_coef if hasattr(type(self.config), "router_aux_loss_coef") else None
        if not capture.routers or weight is None or self._is_headless:
            return fields
        aux, loss = losses.load_balance(capture.routers, self.config.num_experts_per_tok), fields.get("loss")
        return {**fields, "loss": None if loss is None else loss + weight * aux, "aux_loss": aux}

    def _make_output(self, states: dict[str, Any], fields: dict[str, Any], return_dict: bool | None) -> Any:
        names = {**states, **fields}
        if self._is_headless:
            names["advice"] = self._advice()
        output = self._output_class()(**names)
        return output if self._option("return_dict", return_dict, True) else output.to_tuple()

    def _output_class(self) -> Callable[..., Output]:
        return self.head_type.output

    def _advice(self) -> str:
        _, saved = find_class((self.config.architectures or [""])[0]) or ("", "")
        types = {suffix: self.architecture.head_type(suffix) for suffix in self.architecture.heads}
        if saved != self.head_suffix and saved in types and types[saved].auto:
            return f"The checkpoint was saved with a head for them: load it with {types[saved].auto}."
        others = [kind.auto for kind in types.values() if kind.output is not HiddenOutput and kind.auto]
        return f"For scores, load the model with {' or '.join(dict.fromkeys(others))}."
