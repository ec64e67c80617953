"""PreTrainedModel: loading, saving, generating and resizing, on top of `BaseModel`'s forward pass."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from ..config import Config, is_open
from ..errors import InvalidInput, MissingHead
from ..nn.modes import evaluating
from .base_model import BaseModel
from .loading import load_model
from .model_config import config_options, load_config_of
from .resize_embeddings import resize
from .saving import save_and_push


class PreTrainedModel(BaseModel):
    """A model of one family with one head. `class_factory` makes its subclasses, such as `BertForMaskedLM`.

    Args:
        config: of the family. Weights are initialized at random; `from_pretrained` loads them.
    """

    config_class: ClassVar[type[Config]]

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str] | None, **options: Any) -> Any:
        """Return a model with a checkpoint's weights; see `multihead.modeling.loading.load_model` for the options."""
        if is_open(cls.config_class) and options.get("config") is None:
            options["config"] = load_config_of(cls.config_class, name, **config_options(options))
        return load_model(name, lambda config: cls, default_type=cls.architecture.config.model_type, **options)

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write config.json and model.safetensors (in shards past `max_shard_size`), as the reference reads them.

        A model with adapters writes only these, as the peft library reads them: one into the folder itself, several
        into folders of their names, but for "default". See `multihead.modeling.saving.save` for the options; with
        `push_to_hub=True`, those of `push_to_hub` and `repo_id` (default: the folder's name) too.
        """
        save_and_push(self, Path(folder), options)

    def generate(self, inputs: Any = None, generation_config: Any = None, **options: Any) -> Any:
        """Generate sequences of tokens; see `multihead.generation.generate`.

        Raises:
            MissingHead: this class scores no next tokens. UnsupportedConfig: its attention sees later tokens.
        """
        from ..generation.checks import check_causal  # the engine is loaded where it is used
        from ..generation.generate import generate
        from ..generation.streaming import stop_on_error

        if not self.head_type.generates:
            types = [self.architecture.head_type(suffix) for suffix in self.architecture.heads]
            able = {head_type.auto for head_type in types if head_type.generates}
            advice = f"Load it with {' or '.join(sorted(able))}." if able else "Its family has none."
            raise MissingHead(f"{type(self).__name__} has no head that scores next words. {advice}")
        check_causal(self)
        with evaluating(self, options.get("assistant_model")), stop_on_error(options.get("streamer")):
            return generate(self, inputs, generation_config, **options)

    def compute_transition_scores(
        self, sequences: Tensor, scores: Sequence[Tensor], beam_indices: Any = None, normalize_logits: bool = False
    ) -> Tensor:
        """Return the scores of the generated tokens; see `multihead.generation.outputs.transition_scores`."""
        from ..generation.outputs import transition_scores

        return transition_scores(sequences, scores, beam_indices, normalize_logits)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
    ) -> nn.Module:
        """Change the number of tokens in place: embedding tables, output embeddings, their bias, and the config.

        A new row is the mean of the old ones, so new tokens are at first as likely as the others are on average.

        Args:
            new_num_tokens: rows; None for as many as now. pad_to_multiple_of: rounds up to its next multiple.

        Returns:
            The input embedding table.

        Raises:
            InvalidInput: no such number; the model was prepared or has adapters.
            UnsupportedOption: encoder and decoder have separate vocabularies, or the weights are sharded over devices.
        """
        words = self.word_tables()[0].num_embeddings if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            if (
                isinstance(pad_to_multiple_of, bool)
                or not isinstance(pad_to_multiple_of, int)
                or pad_to_multiple_of < 1
            ):
                raise InvalidInput(f"pad_to_multiple_of is a whole number above 0, not {pad_to_multiple_of!r}.")
            words = -(-words // pad_to_multiple_of) * pad_to_multiple_of
        self.resized = self.word_tables()[0].num_embeddings != words or getattr(self, "resized", False)
        resize(self, words)
        return self.get_input_embeddings()
