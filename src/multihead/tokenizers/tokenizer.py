"""A tokenizer as users know it: one call from text to ids, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, UnsupportedOption
from .decoding import tidy
from .encodings import Encodings
from .framed import Framed
from .guards import Lock, plain, readable, readable_ids, settable
from .idioms import Idioms
from .special import MORE, ROLES, added, content, listed

if TYPE_CHECKING:
    from tokenizers.processors import PostProcessor

    import tokenizers

    from .words import Words

INPUTS = ("input_ids", "attention_mask")
NO_LIMIT = int(1e30)
NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # options of save_pretrained that change nothing -> with these values
    "legacy_format": (None, False), "filename_prefix": (None, ""), "push_to_hub": (None, False),
    "save_format": (None, "hf"), "save_jinja_files": (None, True),
}  # fmt: skip


def refuse(options: Mapping[str, Any], call: str) -> None:
    """Raises UnsupportedOption for options that a call does not have here."""
    for name, value in options.items():
        raise UnsupportedOption(f"{call} does not take {name} = {value!r} here.")


class Tokenizer(Framed, Idioms):
    """Text to ids and back.

    Args:
        backend: the `tokenizers` library's own. special: role (`bos_token`, ...) -> token.
        options: the entries of tokenizer_config.json: `model_max_length`, `padding_side`, `chat_template`, ...
        more: special tokens without a role. named: name -> token, of those that have a name of their own.
        target: of the other side, for translation models that write another vocabulary.
        files: name -> bytes of the family's own files, where these and no tokenizer.json are saved again.
        words: what cuts texts in Python, and is in the backend already; None where the library does.

    One tokenizer may be used by several threads, copied and pickled.
    """

    is_fast = True

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special: Mapping[str, str],
        options: Mapping[str, Any] | None = None,
        *,
        more: Sequence[str] = (),
        named: Mapping[str, str] | None = None,
        target: Tokenizer | None = None,
        files: Mapping[str, bytes] | None = None,
        words: Words | None = None,
        name_or_path: str = "",
    ) -> None:
        self.backend, self.special, self.more, self.named = backend, dict(special), list(more), dict(named or {})
        self.options, self.target, self.name_or_path = dict(options or {}), target, name_or_path
        self.files, self.words = dict(files or {}), words
        self.model_max_length: int = int(self.options.get("model_max_length") or NO_LIMIT)
        self.padding_side: str = self.options.get("padding_side", "right")
        self.truncation_side: str = self.options.get("truncation_side", "right")
        self.model_input_names: list[str] = list(self.options.get("model_input_names") or INPUTS)
        self.chat_template: Any = self.options.get("chat_template")
        self.pad_token_type_id: int = int(self.options.get("pad_token_type_id", 0))
        self.clean_up_tokenization_spaces = bool(self.options.get("clean_up_tokenization_spaces", False))
        self.split_special_tokens = bool(self.options.get("split_special_tokens", False))
        self._written: PostProcessor | None = None  # frames labels, where tgt_lang says how
        self._lock = Lock()
        backend.no_padding()
        backend.no_truncation()

    def __call__(self, text: Any = None, text_pair: Any = None, text_target: Any = None, **options: Any) -> Encodings:
        """Encodes a text, a pair, a batch or a batch of pairs; see `encode.Options` for the options.

        Args:
            text: a string, a list of strings, or (is_split_into_words) words. text_pair: likewise.
            text_target: encoded as labels, with the target side's vocabulary or language where there is one.

        Raises:
            InvalidInput: inputs that are no texts, or do not fit the options. UnsupportedOption: an unknown option.
        """
        from .encode import encode

        if text is None and text_target is None:
            raise InvalidInput("There is nothing to encode: text is None.")
        if text is None:
            return encode(self.target or self, text_target, None, options, written=True)
        found = encode(self, text, text_pair, options)
        if text_target is not None:
            found["labels"] = encode(self.target or self, text_target, None, options, written=True)["input_ids"]
        return found

    def run(
        self,
        inputs: Sequence[Any],
        *,
        words: bool,
        special: bool,
        limits: Mapping[str, Any] | None,
        written: bool = False,
        split: bool | None = None,
    ) -> list[Any]:
        """The library's encodings of a batch.

        Args:
            limits: truncation, for this call only. written: frames texts as the model writes them.
            split: reads special tokens in texts as any other text; as `split_special_tokens` says, when left out.

        Raises:
            InvalidInput: inputs that are no texts, or options that do not fit them.
        """
        frame = self._written if written else None
        with self._lock, readable(inputs):
            read = self.backend.post_processor
            try:
                if frame is not None:
                    self.backend.post_processor = frame
                if limits is not None:
                    self.backend.enable_truncation(**limits)
                self.backend.encode_special_tokens = self.split_special_tokens if split is None else split
                return self.backend.encode_batch(inputs, is_pretokenized=words, add_special_tokens=special)
            finally:
                if frame is not None:
                    self.backend.post_processor = read
                if limits is not None:
                    self.backend.no_truncation()

    def encode_ids(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, special: bool = True
    ) -> list[list[int]]:
        """Ids of many texts at once, in parallel, without padding or offsets: what pipelines use.

        Raises:
            InvalidInput: what are no texts.
        """
        inputs: Sequence[Any] = texts if pairs is None else list(zip(texts, pairs, strict=True))
        with self._lock, readable(inputs):
            self.backend.encode_special_tokens = self.split_special_tokens
            found = self.backend.encode_batch_fast(list(inputs), add_special_tokens=special)
        return [encoding.ids for encoding in found]

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> list[int]:
        """The ids of one text or pair."""
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """The tokens of a text."""
        given = text if pair is None else (text, pair)
        return self.run([given], words=False, special=add_special_tokens, limits=None)[0].tokens

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """The text of ids; a list of texts for a list of such lists.

        Args:
            clean_up_tokenization_spaces: takes out spaces before punctuation, except in BPE's text, where they are the
                text's own; as the tokenizer says, when left out.

        Raises:
            InvalidInput: what are no ids.
        """
        ids = plain(token_ids)
        ids = [ids] if isinstance(ids, int) else ids
        if ids and not isinstance(ids[0], int):
            return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in ids]
        side = self.target or self
        with readable_ids():
            text = side.backend.decode(ids, skip_special_tokens=skip_special_tokens)
        clean = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        return tidy(text) if clean and not side.keeps_spaces else text

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """The texts of many lists, rows of a tensor or of an array; one text for ids that are not in rows."""
        rows = plain(sequences)
        rows = [rows] if isinstance(rows, int) or (rows and isinstance(rows[0], int)) else rows
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in rows]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """An id for a token, a list for a list; the unknown token's where it is not known (None without one)."""
        if isinstance(tokens, str):
            found = self.backend.token_to_id(tokens)
            return self.unk_token_id if found is None else found
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """A token for an id, a list for a list."""
        if isinstance(ids, int):
            return self.backend.id_to_token(ids)
        rows = ids.tolist() if hasattr(ids, "tolist") else ids
        hidden = set(self.all_special_ids) if skip_special_tokens else set()
        return [self.backend.id_to_token(i) for i in rows if i not in hidden]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of tokens."""
        decoder = self.backend.decoder
        with readable_ids():
            return " ".join(tokens) if decoder is None else decoder.decode(list(tokens))

    def pad(self, encoded_inputs: Any, **options: Any) -> Encodings:
        """Pads rows of ids (and masks, types) that were encoded apart; see `encode.pad_rows` for the options."""
        from .encode import pad_rows

        return pad_rows(self, encoded_inputs, **options)

    def get_special_tokens_mask(
        self, token_ids_0: Any, token_ids_1: Any = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """1 for each id that is a special token's, else 0.

        Raises:
            UnsupportedOption: ids that have no special tokens yet; the call tells theirs.
        """
        if not already_has_special_tokens or token_ids_1 is not None:
            raise UnsupportedOption(
                "get_special_tokens_mask takes one list of ids with its special tokens, and "
                "already_has_special_tokens=True; for texts, pass return_special_tokens_mask=True to the call."
            )
        special = set(self.all_special_ids)
        return [int(number in special) for number in plain(token_ids_0)]

    def get_vocab(self) -> dict[str, int]:
        """token -> id, added tokens included."""
        return self.backend.get_vocab(with_added_tokens=True)

    @property
    def keeps_spaces(self) -> bool:
        """Whether spaces before punctuation are the text's own, as BPE's are: nothing takes them out."""
        from tokenizers.models import BPE

        even = self.options.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
        return isinstance(self.backend.model, BPE) and not even

    @property
    def limit(self) -> int | None:
        """`model_max_length`, None where nobody has set a limit."""
        return self.model_max_length if self.model_max_length < NO_LIMIT // 10**10 else None

    @property
    def vocab(self) -> dict[str, int]:
        return self.get_vocab()

    @property
    def vocab_size(self) -> int:
        """Tokens without those that were added."""
        return self.backend.get_vocab_size(with_added_tokens=False)

    def __len__(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self.backend.num_special_tokens_to_add(pair)

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Adds tokens that are not there yet; gives how many. A model's embeddings must grow with them."""
        listed = new_tokens if isinstance(new_tokens, (list, tuple)) else [new_tokens]
        tokens = [added(token, special=special_tokens) for token in listed]
        if self.target is not None:
            self.target.add_tokens(tokens, special_tokens)
        with self._lock:
            return self.backend.add_special_tokens(tokens) if special_tokens else self.backend.add_tokens(tokens)

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_extra_special_tokens: bool = True, **options: Any
    ) -> int:
        """Gives roles to tokens (`{"pad_token": "[PAD]"}`), adding those that are not there; gives how many were added.

        Args:
            replace_extra_special_tokens: a list of tokens without a role stands for the one before, whose tokens stay
                in the vocabulary; also by its older name, `replace_additional_special_tokens`.

        Raises:
            UnsupportedOption: a role or an option that does not exist.
        """
        replace = options.pop("replace_additional_special_tokens", replace_extra_special_tokens)
        refuse(options, "add_special_tokens")
        count = 0
        for role, token in special_tokens_dict.items():
            if role in MORE:
                tokens, names = listed(token)
                self.named.update(names)
                old = [] if replace and tokens else self.more
                texts = [*self.named.values(), *old, *(text for text in map(content, tokens) if text)]
                self.more = list(dict.fromkeys(texts))
                count += self.add_tokens(tokens, special_tokens=True)
            elif role in ROLES:
                self.special[role] = content(token) or ""
                count += self.add_tokens([token], special_tokens=True)
            else:
                raise UnsupportedOption(f"{role!r} is no role of a special token; roles: {', '.join(ROLES)}.")
        return count

    def __getattr__(self, name: str) -> Any:
        role = name.removesuffix("_id")
        named = self.__dict__.get("named", {})
        if role not in ROLES and role not in named:
            raise AttributeError(f"A tokenizer has no {name!r}.")
        token = named[role] if role in named else self.__dict__.get("special", {}).get(role)
        return token if name == role or token is None else self.backend.token_to_id(token)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ROLES:
            self.special.pop(name, None)
            if value is not None:
                self.add_special_tokens({name: value})
        elif name.removesuffix("_id") in ROLES:
            setattr(self, name.removesuffix("_id"), None if value is None else self.backend.id_to_token(value))
        else:
            settable(type(self), name)
            object.__setattr__(self, name, value)

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """role -> token."""
        return {**self.special, **({"additional_special_tokens": list(self.more)} if self.more else {})}

    @property
    def all_special_tokens(self) -> list[str]:
        return list(dict.fromkeys([*self.special.values(), *self.more]))

    @property
    def all_special_ids(self) -> list[int]:
        return [self.convert_tokens_to_ids(token) for token in self.all_special_tokens]

    @property
    def additional_special_tokens(self) -> list[str]:
        return list(self.more)

    extra_special_tokens = additional_special_tokens

    def apply_chat_template(self, conversation: Any, tools: Any = None, documents: Any = None, **options: Any) -> Any:
        """A conversation as the model was taught to read it; see `chat.apply` for the options."""
        from .chat import apply

        return apply(self, conversation, tools, documents, **options)

    def get_chat_template(self, chat_template: str | None = None, tools: Any = None) -> str:
        """The template of this name, or the one for tools where there are both. Raises ChatTemplateError."""
        from .chat import chosen

        return chosen(self, chat_template, tools)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> tuple[str, ...]:
        """Writes tokenizer.json, tokenizer_config.json and the chat template, as the reference reads them.

        Raises:
            UnsupportedOption: an option that would ask for other files, or for an upload.
        """
        from .save import save

        refuse(
            {name: value for name, value in options.items() if value not in NEUTRAL.get(name, ())}, "save_pretrained"
        )
        return save(self, Path(save_directory))

    def written(self) -> str:
        """tokenizer.json; without what only Python code does."""
        if self.words is None:
            return self.backend.to_str(pretty=True)
        from .words import detach

        with self._lock:
            detach(self.backend)
            try:
                return self.backend.to_str(pretty=True)
            finally:
                self.words.attach(self.backend)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ if self.words is None else self.__dict__ | {"backend": self.written()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.backend, str):
            import tokenizers

            self.__dict__["backend"] = tokenizers.Tokenizer.from_str(self.backend)
            if self.words is not None:
                self.words.attach(self.backend)

    def __repr__(self) -> str:
        return f"<Tokenizer of {len(self)} tokens from {self.name_or_path or 'memory'}>"
