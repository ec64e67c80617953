"""What stands around texts, as properties that a user sets: languages, the begin and the end token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from tokenizers.processors import PostProcessor

    import tokenizers

    from .guards import Lock
    from .tokenizer import Tokenizer


class Framed:
    """The part of a tokenizer that frames texts."""

    backend: tokenizers.Tokenizer
    options: dict[str, Any]
    target: Tokenizer | None
    _lock: Lock
    _written: PostProcessor | None

    @property
    def _whole(self) -> Tokenizer:
        return cast("Tokenizer", self)

    @property
    def src_lang(self) -> str | None:
        """The language of what a translator reads, which frames each text; None where nobody said it.

        Raises:
            InvalidInput: when set, a language that the tokenizer does not know.
        """
        return self.options.get("src_lang")

    @src_lang.setter
    def src_lang(self, language: str) -> None:
        self.options["src_lang"] = self.face(language)

    @property
    def tgt_lang(self) -> str | None:
        """The language of what a translator writes, which frames `text_target`; as `src_lang` for None."""
        return self.options.get("tgt_lang")

    @tgt_lang.setter
    def tgt_lang(self, language: str | None) -> None:
        from .languages import framing

        code, frame = (None, None) if language is None else framing(self._whole, language, "tgt_lang")
        self.options["tgt_lang"], self._written = code, frame

    @property
    def add_bos_token(self) -> bool:
        """Whether each text begins with the begin token. Setting it changes that, and nothing at the text's end."""
        from .frames import stands

        return stands(self._whole, "add_bos_token")

    @add_bos_token.setter
    def add_bos_token(self, wanted: bool) -> None:
        self._bound("add_bos_token", wanted)

    @property
    def add_eos_token(self) -> bool:
        """Whether each text ends with the end token. Setting it changes that, and nothing at the text's beginning."""
        from .frames import stands

        return stands(self._whole, "add_eos_token")

    @add_eos_token.setter
    def add_eos_token(self, wanted: bool) -> None:
        self._bound("add_eos_token", wanted)

    def _bound(self, name: str, wanted: bool) -> None:
        from .frames import changed

        made = changed(self._whole, name, wanted)
        if made is not None:
            with self._lock:
                self.backend.post_processor = made
        if self.target is not None:
            setattr(self.target, name, wanted)

    def face(self, language: str) -> str:
        """Frames each text as the model reads this language; gives its code. Raises InvalidInput."""
        from .languages import framing

        code, frame = framing(self._whole, language, "src_lang")
        with self._lock:
            self.backend.post_processor = frame
        return code
