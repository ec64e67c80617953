"""Trainer methods that upload the model and write its card."""

from __future__ import annotations

import os
from inspect import signature
from pathlib import Path
from typing import Any

from ..files import write_text
from .arguments import TrainingArguments
from .callbacks import Event
from .distributed.process_group import ProcessGroup
from .hub_uploads import HubUploads, card_facts
from .reporting.model_card import model_card
from .reporting.run_summary import summarize_run


class HubMethods:
    """Methods that upload to the hub."""

    args: TrainingArguments
    process_group: ProcessGroup
    uploads: HubUploads
    model: Any

    @property
    def hub_model_id(self) -> str | None:
        """Full name of the repository, once it is known to be there."""
        return self.uploads.repo

    def notify(self, event: Event, **values: Any) -> None:
        """Call an event of all callbacks."""
        raise NotImplementedError

    @property
    def save_model(self) -> Any:
        """Method that writes the model."""
        raise NotImplementedError

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository `hub_model_id` where there is none. Raises as `push_to_hub` does."""
        self.uploads.open(self.uploads.options(token=token, private=private))

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **facts: Any,
    ) -> Any:
        """Save the model, the tokenizer and a model card into the output folder, and upload it without checkpoints.

        Args:
            blocking: wait for the end of the upload. facts: of the model card; see `create_model_card`.

        Returns:
            The address of the commit; without `blocking`, a Future of it. None but in the first process.

        Raises:
            AccessDenied: no token, or one that may not write. NetworkUnavailable: offline, or no answer.
        """
        self.notify("on_push_begin")
        options = self.uploads.options(commit_message=commit_message, token=token, revision=revision, private=private)
        self.uploads.open(options)
        save, folder = self.save_model, str(self.args.output_dir)
        with self.uploads.saving():
            save(folder, **({"_internal_call": True} if "_internal_call" in signature(save).parameters else {}))
        if self.process_group.is_first:
            known = facts.get("tags") or []
            tags = [*([known] if isinstance(known, str) else known), *getattr(self.model, "model_tags", ())]
            name = (self.uploads.repo or "").rpartition("/")[2]
            self.create_model_card(**{"model_name": name, **facts, "tags": list(dict.fromkeys(tags))})
        return self.uploads.output(options, blocking=blocking)

    def create_model_card(self, folder: str | os.PathLike[str] | None = None, **facts: Any) -> Path:
        """Write the model card README.md into a folder (default: the output folder) and return its path.

        Args:
            facts: fields of `model_card.RunSummary`, such as license="apache-2.0", that replace those of the run; or
                the reference's names of them: `language`, `model_name`, `finetuned_from`, `tasks`, `dataset_tags`,
                `dataset`, `dataset_args`.
        """
        path = Path(folder or self.args.output_dir) / "README.md"
        text = model_card(summarize_run(self, **card_facts(facts)))  # type: ignore[arg-type]
        if self.process_group.is_first:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        return path
