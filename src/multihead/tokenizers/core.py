"""The state of a tokenizer and its direct operations: text to ids, ids to text, special tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedOption
from .decoding import clean_up_spaces
from .guards import Lock, check_settable, input_errors, library_error, to_plain_ids
from .special import MORE, ROLES, listed_tokens, to_added_token, token_text

if TYPE_CHECKING:
    from tokenizers.processors import PostProcessor

    import tokenizers

    from .words import WordSplitter

INPUTS = ("input_ids", "attention_mask")
NO_LIMIT = int(1e30)


def refuse(options: Mapping[str, Any], call: str) -> None:
    """Raise UnsupportedOption for options that a call does not have here."""
    for name, value in options.items():
        raise UnsupportedOption(f"{call} does not take {name} = {value!r} here.")


class TokenizerCore:
    """A tokenizer without the calls that other modules of this room implement; those take it as an argument.

    Args:
        backend: the tokenizer of the `tokenizers` library. special: role (`bos_token`, ...) -> token.
        options: entries of tokenizer_config.json: `model_max_length`, `padding_side`, `chat_template`, ...
        more: special tokens without a role. named: name -> token, for special tokens with a name of their own.
        target: tokenizer of the target side, for translation models with two vocabularies.
        files: name -> bytes of the family's own files, where these and no tokenizer.json are saved again.
        words: the Python word splitter, already attached to the backend; None where the library splits words.

    One tokenizer may be used by several threads, copied and pickled.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special: Mapping[str, str],
        options: Mapping[str, Any] | None = None,
        *,
        more: Sequence[str] = (),
        named: Mapping[str, str] | None = None,
        target: TokenizerCore | None = None,
        files: Mapping[str, bytes] | None = None,
        words: WordSplitter | None = None,
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
        self._target_processor: PostProcessor | None = None  # adds the special tokens of targets; None: as for sources
        self._lock = Lock()
        backend.no_padding()
        backend.no_truncation()

    def run(
        self,
        inputs: Sequence[Any],
        *,
        words: bool,
        special: bool,
        limits: Mapping[str, Any] | None,
        as_target: bool = False,
        split: bool | None = None,
    ) -> list[Any]:
        """Encode a batch with the `tokenizers` library.

        Args:
            limits: truncation, for this call only. as_target: add the special tokens of a target.
            split: reads special tokens in texts as any other text; as `split_special_tokens` says, when left out.

        Raises:
            InvalidInput: inputs that are no texts, or options that do not fit them.
        """
        frame = self._target_processor if as_target else None
        with self._lock, input_errors(inputs):
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
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, special: bool = True, controls: bool = True
    ) -> list[list[int]]:
        """Encode many texts at once, in parallel, without padding or offsets. Pipelines use it.

        Args:
            special: adds special tokens. controls: False reads special tokens that a text holds as plain text.

        Raises:
            InvalidInput: what are no texts.
        """
        inputs: Sequence[Any] = texts if pairs is None else list(zip(texts, pairs, strict=True))
        with self._lock, input_errors(inputs):
            self.backend.encode_special_tokens = self.split_special_tokens or not controls
            found = self.backend.encode_batch_fast(list(inputs), add_special_tokens=special)
        return [encoding.ids for encoding in found]

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Decode ids to text, or a list of id lists to a list of texts.

        Args:
            clean_up_tokenization_spaces: takes out spaces before punctuation, except in BPE's text, where they are the
                text's own; as the tokenizer says, when left out.

        Raises:
            InvalidInput: what are no ids.
        """
        ids = to_plain_ids(token_ids)
        ids = [ids] if isinstance(ids, int) else ids
        if ids and not isinstance(ids[0], int):
            return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in ids]
        side = self.target or self
        try:  # no context manager, which takes as long as the decoding of a token
            text = side.backend.decode(ids, skip_special_tokens=skip_special_tokens)
        except BaseException as error:
            raise library_error("The ids cannot be decoded", error) from error
        clean = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        return clean_up_spaces(text) if clean and not side.keeps_spaces else text

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Return the id of a token, or a list for a list; an unknown token gives the id of unk_token, or None."""
        if isinstance(tokens, str):
            found = self.backend.token_to_id(tokens)
            return self.unk_token_id if found is None else found
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Return the token of an id, or a list for a list."""
        if isinstance(ids, int):
            return self.backend.id_to_token(ids)
        rows = ids.tolist() if hasattr(ids, "tolist") else ids
        hidden = set(self.all_special_ids) if skip_special_tokens else set()
        return [self.backend.id_to_token(i) for i in rows if i not in hidden]

    def get_vocab(self) -> dict[str, int]:
        """Return token -> id, added tokens included."""
        return self.backend.get_vocab(with_added_tokens=True)

    @property
    def keeps_spaces(self) -> bool:
        """True if spaces before punctuation belong to the text, as in BPE, so that decoding never removes them."""
        from tokenizers.models import BPE

        even = self.options.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
        return isinstance(self.backend.model, BPE) and not even

    @property
    def limit(self) -> int | None:
        """`model_max_length`, or None where no limit is set."""
        return self.model_max_length if self.model_max_length < NO_LIMIT // 10**10 else None

    def __len__(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add new tokens and return their number. The model's embeddings must grow with them."""
        listed = new_tokens if isinstance(new_tokens, (list, tuple)) else [new_tokens]
        tokens = [to_added_token(token, special=special_tokens) for token in listed]
        if self.target is not None:
            self.target.add_tokens(tokens, special_tokens)
        with self._lock:
            return self.backend.add_special_tokens(tokens) if special_tokens else self.backend.add_tokens(tokens)

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_extra_special_tokens: bool = True, **options: Any
    ) -> int:
        """Set tokens of roles (`{"pad_token": "[PAD]"}`), add the new ones, and return how many were added.

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
                tokens, names = listed_tokens(token)
                self.named.update(names)
                old = [] if replace and tokens else self.more
                texts = [*self.named.values(), *old, *(text for text in map(token_text, tokens) if text)]
                self.more = list(dict.fromkeys(texts))
                count += self.add_tokens(tokens, special_tokens=True)
            elif role in ROLES:
                self.special[role] = token_text(token) or ""
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
            check_settable(type(self), name)
            object.__setattr__(self, name, value)

    @property
    def all_special_tokens(self) -> list[str]:
        return list(dict.fromkeys([*self.special.values(), *self.more]))

    @property
    def all_special_ids(self) -> list[int]:
        return [self.convert_tokens_to_ids(token) for token in self.all_special_tokens]

    def to_json(self) -> str:
        """Return the text of tokenizer.json, without the steps that only Python code does."""
        if self.words is None:
            return self.backend.to_str(pretty=True)
        from .words import detach_splitter

        with self._lock:
            detach_splitter(self.backend)
            try:
                return self.backend.to_str(pretty=True)
            finally:
                self.words.attach(self.backend)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ if self.words is None else self.__dict__ | {"backend": self.to_json()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.backend, str):
            import tokenizers

            self.__dict__["backend"] = tokenizers.Tokenizer.from_str(self.backend)
            if self.words is not None:
                self.words.attach(self.backend)
