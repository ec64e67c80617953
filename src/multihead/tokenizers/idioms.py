"""What programs ask of a tokenizer besides texts and ids, under the names that they know."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import InvalidInput
from .decoding import tidy
from .special import ROLES

if TYPE_CHECKING:
    from tokenizers.decoders import Decoder

    import tokenizers
    from tokenizers import AddedToken

    from .tokenizer import Tokenizer


class Idioms:
    """The part of a tokenizer that shows what it is made of, and trains another like it."""

    backend: tokenizers.Tokenizer
    options: dict[str, Any]
    special: dict[str, str]
    name_or_path: str
    model_max_length: int
    SPECIAL_TOKENS_ATTRIBUTES = list(ROLES)
    vocab_files_names = {"tokenizer_file": "tokenizer.json"}

    @property
    def _own(self) -> Tokenizer:
        return cast("Tokenizer", self)

    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer:
        """The `tokenizers` library's tokenizer."""
        return self.backend

    @property
    def decoder(self) -> Decoder | None:
        """What makes text of tokens, the library's own."""
        return self.backend.decoder

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """id -> token, of those that are found in texts as they stand."""
        return dict(sorted(self.backend.get_added_tokens_decoder().items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """token -> id, of those that are found in texts as they stand."""
        return {token.content: number for number, token in self.added_tokens_decoder.items()}

    def get_added_vocab(self) -> dict[str, int]:
        """As `added_tokens_encoder`."""
        return self.added_tokens_encoder

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """The entries of tokenizer_config.json, a copy."""
        return {**self.options, **self.special, "name_or_path": self.name_or_path}

    @property
    def add_prefix_space(self) -> bool:
        """Whether a space is put before texts, as tokenizer_config.json says."""
        return bool(self.options.get("add_prefix_space"))

    @property
    def max_len_single_sentence(self) -> int:
        """Tokens of a text that the model takes, without special ones."""
        return self.model_max_length - self.backend.num_special_tokens_to_add(False)

    @property
    def max_len_sentences_pair(self) -> int:
        """Tokens of a pair that the model takes, without special ones."""
        return self.model_max_length - self.backend.num_special_tokens_to_add(True)

    @property
    def deprecation_warnings(self) -> dict[str, bool]:
        """Nothing: programs switch warnings off here that there are none of."""
        return {}

    def clean_up_tokenization(self, text: str) -> str:
        """A text without the spaces before punctuation and inside contractions that joining tokens leaves."""
        return tidy(text)

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Writes the library's files of the vocabulary alone; gives their paths. Raises InvalidInput without a folder.

        What a tokenizer is besides its vocabulary is saved by `save_pretrained`.
        """
        if not Path(save_directory).is_dir():
            raise InvalidInput(f"{save_directory} is no folder.")
        return tuple(self.backend.model.save(str(save_directory), filename_prefix))

    def encode_message_with_chat_template(
        self, message: Mapping[str, Any], conversation_history: Sequence[Any] | None = None, **options: Any
    ) -> list[int]:
        """The ids that a message adds to those of the conversation before it; see `chat.apply` for the options."""
        from .chat import appended

        return appended(self._own, message, conversation_history, options)

    def train_new_from_iterator(
        self,
        text_iterator: Iterable[Any],
        vocab_size: int,
        length: int | None = None,
        new_special_tokens: Sequence[Any] | None = None,
        special_tokens_map: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Tokenizer:
        """A tokenizer of the same kind with a vocabulary from other texts; see `retraining.retrained`."""
        from .retraining import retrained

        return retrained(
            self._own, text_iterator, vocab_size, length=length, new=new_special_tokens or (),
            renamed=special_tokens_map or {}, options=options,
        )  # fmt: skip
