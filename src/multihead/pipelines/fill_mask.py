"""fill-mask: the likeliest words for each mask in a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..errors import InvalidInput, UnsupportedTokenizer, warn
from ..tokenizers.tokenizer import Tokenizer
from .base import ForwardPipeline, PipelineOptions, packed_positions, text_of, token_types_of
from .streaming_batcher import ModelInput, Preprocessed
from .text_checks import NamedText, is_empty


@dataclass(frozen=True, kw_only=True)
class FillMaskOptions(PipelineOptions):
    """Options of fill-mask.

    Args:
        top_k: words for each mask. targets: a word or words; only these are scored.
        truncation: reads the beginning of a text that is too long, instead of refusing it.
        tokenizer_kwargs: the reference's form of `{"truncation": True}`.
    """

    top_k: int = 5
    targets: Any = None
    truncation: bool = False
    tokenizer_kwargs: Any = None

    def check(self) -> None:
        super().check()
        if not isinstance(self.top_k, int) or self.top_k < 1:
            raise InvalidInput(f"top_k is a number of words from 1, not {self.top_k!r}.")
        if set(self.tokenizer_kwargs or {}) - {"truncation"}:
            raise InvalidInput("tokenizer_kwargs takes truncation only.")


class FillMask(ForwardPipeline):
    """Returns a list of `{"score", "token", "token_str", "sequence"}`; for several masks a list of such lists."""

    auto = "AutoModelForMaskedLM"
    Options: ClassVar[type[PipelineOptions]] = FillMaskOptions

    def validate(self, item: Any, o: FillMaskOptions) -> str:
        text = text_of(item)
        if self.mask[0] not in text:
            raise InvalidInput(f"has no mask: write {self.mask[0]} where words are to be found.")
        return text

    def texts(self, item: str, o: Any) -> Sequence[NamedText]:
        """Return what surrounds the masks; a mask alone is a valid text."""
        context = item.replace(self.mask[0], " ")
        return [] if is_empty(context) else [NamedText("", context)]

    def preprocess(self, items: Sequence[str], o: FillMaskOptions) -> list[Preprocessed]:
        truncation = o.truncation or bool((o.tokenizer_kwargs or {}).get("truncation"))
        return [self._add_positions(encoded) for encoded in self.encode(items, truncation)]

    def _add_positions(self, encoded: Preprocessed) -> Preprocessed:
        """Return the model input with the positions of its masks as `note`."""
        if not isinstance(encoded, list):
            return encoded
        ids, types = encoded[0].ids, encoded[0].token_types
        positions = [position for position, token in enumerate(ids) if token == self.mask[1]]
        if not positions:
            return InvalidInput("has no mask left once it is cut to the model's length.")
        return [ModelInput(ids, types, positions)]

    def forward_batch(self, inputs: Sequence[ModelInput], o: FillMaskOptions) -> Sequence[Any]:
        """Return the best words of each mask, for each model input: (scores, tokens), both (masks, top_k)."""
        at = packed_positions(inputs, [each.note for each in inputs])
        scores = self.model.run([each.ids for each in inputs], token_types_of(inputs), at).scores
        probabilities = scores.float().softmax(-1)
        if o.targets is not None:
            targets = torch.tensor(self.target_tokens(o.targets), device=probabilities.device)
            best, order = probabilities[:, targets].topk(min(o.top_k, len(targets)))
            tokens = targets[order]
        else:
            best, tokens = probabilities.topk(min(o.top_k, probabilities.shape[1]))
        counts = [len(each.note) for each in inputs]
        return list(zip(best.cpu().split(counts), tokens.cpu().split(counts), strict=True))

    def postprocess(self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: FillMaskOptions) -> Any:
        ids, positions, (scores, tokens) = inputs[0].ids, inputs[0].note, outputs[0]
        masks = []
        for position, values, words in zip(positions, scores.tolist(), tokens.tolist(), strict=True):
            rows = []
            for score, token in zip(values, words, strict=True):
                text = [*ids[:position], token, *ids[position + 1 :]]
                # other masks are special tokens too, and must stay in the text
                sequence = self.tokenizer.decode(text, skip_special_tokens=len(positions) == 1)
                word = self.tokenizer.decode([token])
                rows.append({"score": score, "token": token, "token_str": word, "sequence": sequence})
            masks.append(rows)
        return masks[0] if len(masks) == 1 else masks

    def format_list(self, answers: list[Any], o: Any) -> Any:
        return answers[0] if len(answers) == 1 else answers

    @property
    def mask(self) -> tuple[str, int]:
        """The mask token and its id. Raises UnsupportedTokenizer if the tokenizer has none."""
        token, number = self.tokenizer.mask_token, self.tokenizer.mask_token_id
        if token is None or number is None:
            raise UnsupportedTokenizer(f"The tokenizer of {self.tokenizer.name_or_path} has no mask token to fill.")
        return token, number

    def target_tokens(self, targets: Any) -> list[int]:
        """Return the tokens of target words."""
        return tokens_of([targets] if isinstance(targets, str) else list(targets), self.tokenizer)


class Text2TextFillMask(FillMask):
    """Fills masks with an encoder-decoder that repeats its source (BART)."""

    auto = "AutoModelForSeq2SeqLM"


def tokens_of(words: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    """Return one token for each word: the word itself, or its first token, with a warning.

    Raises:
        InvalidInput: no word has a token.
    """
    vocabulary, tokens = tokenizer.get_vocab(), []
    for word in words:
        token = vocabulary.get(word)
        if token is None:
            ids = tokenizer.encode_ids([word], special=False)[0]
            if not ids:
                continue
            token = ids[0]
            if len(ids) > 1 or tokenizer.decode(ids).strip() != word.strip():
                warn(f"The target {word!r} is no token; {tokenizer.convert_ids_to_tokens(token)!r} is scored instead.")
        tokens.append(token)
    if not tokens:
        raise InvalidInput(f"targets has no word that the tokenizer knows: {list(words)!r}.")
    return list(dict.fromkeys(tokens))
