"""The tokenizer that users call: text to padded ids and back, chat templates, saving."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, UnsupportedOption
from ..hub.push import PushToHub, pop_upload
from . import chat
from .core import TokenizerCore, refuse
from .decoding import clean_up_spaces
from .encode import encode, pad_rows
from .encodings import Encodings
from .frames import change_begin_end, has_begin_end
from .guards import id_errors, to_plain_ids
from .languages import language_processor
from .older_calls import OlderCalls
from .response_parser import ResponseParser, own_template, parse_responses
from .retraining import train_new
from .save import save
from .special import ROLES

if TYPE_CHECKING:
    from tokenizers.decoders import Decoder

    import tokenizers
    from tokenizers import AddedToken

NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # options of save_pretrained that change nothing -> with these values
    "legacy_format": (None, False), "filename_prefix": (None, ""),
    "save_format": (None, "hf"), "save_jinja_files": (None, True),
}  # fmt: skip


class Tokenizer(TokenizerCore, OlderCalls, PushToHub):
    """Text to ids and back; the arguments are those of `TokenizerCore`."""

    is_fast = True
    loader = "AutoTokenizer"
    SPECIAL_TOKENS_ATTRIBUTES = list(ROLES)
    vocab_files_names = {"tokenizer_file": "tokenizer.json"}

    def __call__(self, text: Any = None, text_pair: Any = None, text_target: Any = None, **options: Any) -> Encodings:
        """Encode a text, a pair, a batch or a batch of pairs; see `encode.Options` for the options.

        Args:
            text: a string, a list of strings, or (is_split_into_words) words. text_pair: likewise.
            text_target: encoded as labels, with the target side's vocabulary or language where there is one.

        Raises:
            InvalidInput: inputs that are no texts, or do not fit the options. UnsupportedOption: an unknown option.
        """
        if self._writes_targets and text_target is None:
            text, text_target = None, text
        if text is None and text_target is None:
            raise InvalidInput("There is nothing to encode: text is None.")
        if text is None:
            return encode(self.target or self, text_target, None, options, as_target=True)
        found = encode(self, text, text_pair, options)
        if text_target is not None:
            found["labels"] = encode(self.target or self, text_target, None, options, as_target=True)["input_ids"]
        return found

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> list[int]:
        """Return the ids of one text or pair."""
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """Return the tokens of a text."""
        given = text if pair is None else (text, pair)
        return self.run([given], words=False, special=add_special_tokens, limits=None)[0].tokens

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """Decode many lists, or rows of a tensor or array; ids that are not in rows give one text."""
        rows = to_plain_ids(sequences)
        rows = [rows] if isinstance(rows, int) or (rows and isinstance(rows[0], int)) else rows
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in rows]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Join tokens to a text."""
        decoder = self.backend.decoder
        with id_errors():
            return " ".join(tokens) if decoder is None else decoder.decode(list(tokens))

    def pad(self, encoded_inputs: Any, **options: Any) -> Encodings:
        """Pad rows of ids (and masks, types) that were encoded separately; see `encode.pad_rows` for the options."""
        return pad_rows(self, encoded_inputs, **options)

    def get_special_tokens_mask(
        self, token_ids_0: Any, token_ids_1: Any = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Return 1 for each id of a special token, else 0.

        Raises:
            UnsupportedOption: ids that have no special tokens yet; the call tells theirs.
        """
        if not already_has_special_tokens or token_ids_1 is not None:
            raise UnsupportedOption(
                "get_special_tokens_mask takes one list of ids with its special tokens, and "
                "already_has_special_tokens=True; for texts, pass return_special_tokens_mask=True to the call."
            )
        special = set(self.all_special_ids)
        return [int(number in special) for number in to_plain_ids(token_ids_0)]

    @property
    def vocab(self) -> dict[str, int]:
        return self.get_vocab()

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary without added tokens."""
        return self.backend.get_vocab_size(with_added_tokens=False)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self.backend.num_special_tokens_to_add(pair)

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """role -> token."""
        return {**self.special, **({"additional_special_tokens": list(self.more)} if self.more else {})}

    @property
    def additional_special_tokens(self) -> list[str]:
        return list(self.more)

    extra_special_tokens = additional_special_tokens

    def apply_chat_template(self, conversation: Any, tools: Any = None, documents: Any = None, **options: Any) -> Any:
        """Render a conversation in the model's format; see `chat.apply` for the options."""
        return chat.apply(self, conversation, tools, documents, **options)

    def get_chat_template(self, chat_template: str | None = None, tools: Any = None) -> str:
        """Return the template of a name, or the one for tools where both exist. Raises ChatTemplateError."""
        return chat.select_template(self, chat_template, tools)

    def parse_response(
        self, response: Any, schema: Mapping[str, Any] | None = None, *, prefix: Any = None, tools: Any = None
    ) -> Any:
        """Return the message that an answer is, or a list for a batch, as the response template divides it.

        Args:
            response: text or ids that a model has written; a list of such is a batch. schema: a response template; the
                tokenizer's own when left out. prefix: the prompt, or one for each answer. tools: functions or JSON
                schemas, whose types the arguments of calls get.

        Raises:
            ChatTemplateError: no template, or a broken one. InvalidInput: text that the template cannot read, or no
                prefix.
        """
        return parse_responses(self, response, schema, prefix, tools)

    def get_response_parser(
        self, response_template: Mapping[str, Any] | None = None, *, prefix: Any = None, tools: Any = None
    ) -> ResponseParser:
        """Return the parser of an answer that arrives in pieces; the arguments are those of `parse_response`."""
        text = prefix if prefix is None or isinstance(prefix, str) else self.decode(prefix)
        return ResponseParser(own_template(self, response_template), text, tools=tools)

    @property
    def response_template(self) -> Any:
        """Description of what the model writes, for `parse_response`; None where the tokenizer has none."""
        return self.options.get("response_template")

    @response_template.setter
    def response_template(self, template: Mapping[str, Any] | None) -> None:
        self.options["response_template"] = template

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> tuple[str, ...]:
        """Write tokenizer.json, tokenizer_config.json and the chat template in the reference's format.

        Args:
            options: `push_to_hub=True` uploads them, with the options of `push_to_hub` and `repo_id`.

        Raises:
            UnsupportedOption: an option that would ask for other files.
        """
        upload = pop_upload(options, save_directory)
        refuse(
            {name: value for name, value in options.items() if value not in NEUTRAL.get(name, ())}, "save_pretrained"
        )
        files = save(self, Path(save_directory))
        if upload is not None:
            self.push_to_hub(**upload)
        return files

    def __repr__(self) -> str:
        return f"<Tokenizer of {len(self)} tokens from {self.name_or_path or 'memory'}>"

    @property
    def src_lang(self) -> str | None:
        """Source language of a translation model, which decides the tokens around each text; None where not set.

        Raises:
            InvalidInput: when set, a language that the tokenizer does not know.
        """
        return self.options.get("src_lang")

    @src_lang.setter
    def src_lang(self, language: str) -> None:
        self.options["src_lang"] = self.face(language)

    @property
    def tgt_lang(self) -> str | None:
        """Target language of a translation model, which decides the tokens around `text_target`; None where not set."""
        return self.options.get("tgt_lang")

    @tgt_lang.setter
    def tgt_lang(self, language: str | None) -> None:
        code, frame = (None, None) if language is None else language_processor(self, language, "tgt_lang")
        self.options["tgt_lang"], self._target_processor = code, frame

    @property
    def add_bos_token(self) -> bool:
        """True if each text gets the begin token. Setting it does not change the end of a text."""
        return has_begin_end(self, "add_bos_token")

    @add_bos_token.setter
    def add_bos_token(self, wanted: bool) -> None:
        self._bound("add_bos_token", wanted)

    @property
    def add_eos_token(self) -> bool:
        """True if each text gets the end token. Setting it does not change the beginning of a text."""
        return has_begin_end(self, "add_eos_token")

    @add_eos_token.setter
    def add_eos_token(self, wanted: bool) -> None:
        self._bound("add_eos_token", wanted)

    def _bound(self, name: str, wanted: bool) -> None:
        made = change_begin_end(self, name, wanted)
        if made is not None:
            with self._lock:
                self.backend.post_processor = made
        if self.target is not None:
            setattr(self.target, name, wanted)

    def face(self, language: str) -> str:
        """Add the special tokens of a source language to each text; return its code. Raises InvalidInput."""
        code, frame = language_processor(self, language, "src_lang")
        with self._lock:
            self.backend.post_processor = frame
        return code

    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer of the `tokenizers` library."""
        return self.backend

    @property
    def decoder(self) -> Decoder | None:
        """The library's decoder, which joins tokens to text."""
        return self.backend.decoder

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Added tokens as id -> token."""
        return dict(sorted(self.backend.get_added_tokens_decoder().items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """Added tokens as token -> id."""
        return {token.content: number for number, token in self.added_tokens_decoder.items()}

    def get_added_vocab(self) -> dict[str, int]:
        """Return `added_tokens_encoder`."""
        return self.added_tokens_encoder

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """A copy of the entries of tokenizer_config.json."""
        return {**self.options, **self.special, "name_or_path": self.name_or_path}

    @property
    def add_prefix_space(self) -> bool:
        """True if tokenizer_config.json adds a space before texts."""
        return bool(self.options.get("add_prefix_space"))

    @property
    def max_len_single_sentence(self) -> int:
        """Longest text in tokens, without special tokens."""
        return self.model_max_length - self.backend.num_special_tokens_to_add(False)

    @property
    def max_len_sentences_pair(self) -> int:
        """Longest pair in tokens, without special tokens."""
        return self.model_max_length - self.backend.num_special_tokens_to_add(True)

    @property
    def deprecation_warnings(self) -> dict[str, bool]:
        """An empty dict: programs switch off warnings here that do not exist."""
        return {}

    def clean_up_tokenization(self, text: str) -> str:
        """Remove the spaces before punctuation and inside contractions that joining tokens leaves."""
        return clean_up_spaces(text)

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write the vocabulary files alone and return their paths. Raises InvalidInput without a folder.

        What a tokenizer is besides its vocabulary is saved by `save_pretrained`.
        """
        if not Path(save_directory).is_dir():
            raise InvalidInput(f"{save_directory} is no folder.")
        return tuple(self.backend.model.save(str(save_directory), filename_prefix))

    def encode_message_with_chat_template(
        self, message: Mapping[str, Any], conversation_history: Sequence[Any] | None = None, **options: Any
    ) -> list[int]:
        """Return the ids that a message adds to a conversation; see `chat.apply` for the options."""
        return chat.message_ids(self, message, conversation_history, options)

    def train_new_from_iterator(
        self,
        text_iterator: Iterable[Any],
        vocab_size: int,
        length: int | None = None,
        new_special_tokens: Sequence[Any] | None = None,
        special_tokens_map: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Tokenizer:
        """Train a tokenizer of the same kind on other texts; see `retraining.train_new`."""
        return train_new(
            self, text_iterator, vocab_size, length=length, new=new_special_tokens or (),
            renamed=special_tokens_map or {}, options=options,
        )  # fmt: skip
