"""Uploads of a training run to its repository on the hub: checkpoints while it trains, and the model at its end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

from ..errors import warn
from ..hub.upload import UploadOptions, create_repository, upload_folder
from .arguments import TrainingArguments
from .callbacks import Event
from .checkpointing.folders import MANIFEST, PREFIX, RUN_FILE
from .checkpointing.run_state import RANDOM_STATE, STATE_TENSORS, WEIGHTS
from .distributed.process_group import ProcessGroup
from .state import STATE_FILE, TrainerState

STAGE = ".upload-"  # begin of the names of folders that are being uploaded
IGNORED = ("_*", ".*", f"{PREFIX}*", "*.tmp")  # of the output folder
RUN_STATE = (MANIFEST, RUN_FILE, STATE_FILE, STATE_TENSORS, WEIGHTS)  # files of a checkpoint that are no model's
LAST = "last-checkpoint"  # folder of the repository, as the reference names it


class UploadingRun(Protocol):
    """Attributes of a `Trainer` that its uploads use."""

    args: TrainingArguments
    state: TrainerState
    process_group: ProcessGroup

    @property
    def output_dir(self) -> Path: ...
    def notify(self, event: Event, **values: Any) -> None: ...


class HubUploads:
    """Uploads of one Trainer, one after another, by the first process.

    Attributes:
        repo: full name of the repository, once it is known to be there.
        active: the model is being saved for an upload, so that saving it does not ask for another one.
    """

    def __init__(self, run: UploadingRun) -> None:
        self.run = run
        self.repo: str | None = None
        self.active = False
        self._thread: ThreadPoolExecutor | None = None
        self._pending: list[Future[Any]] = []

    def options(self, **changes: Any) -> UploadOptions:
        """Return the options of an upload that the training arguments name; None changes nothing."""
        args = self.run.args
        options = UploadOptions(token=args.hub_token, private=args.hub_private_repo, revision=args.hub_revision)
        return replace(options, **{name: value for name, value in changes.items() if value is not None})

    def open(self, options: UploadOptions) -> None:
        """Make the repository, in the first process. Its default name is that of the output folder."""
        if self.run.process_group.is_first and self.repo is None:
            name = self.run.args.hub_model_id or self.run.output_dir.resolve().name
            self.repo = create_repository(name, options)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Mark that the model is saved for an upload."""
        self.active = True
        try:
            yield
        finally:
            self.active = False

    def output(self, options: UploadOptions, *, blocking: bool) -> Any:
        """Upload the output folder without its checkpoints, after all earlier uploads.

        Returns:
            The address of the commit; without `blocking`, a Future of it. None but in the first process.
        """
        if not self.run.process_group.is_first:
            return None
        self.wait()
        assert self.repo is not None
        repo, folder = self.repo, self.run.output_dir
        if blocking:
            return upload_folder(folder, repo, options, ignore=IGNORED)
        return self._begin(lambda: upload_folder(folder, repo, options, ignore=IGNORED))

    def checkpoint(self, folder: Path) -> None:
        """Upload a checkpoint in the background, as `hub_strategy` says, unless the one before is not yet there."""
        args, state = self.run.args, self.run.state
        if not args.push_to_hub or args.hub_strategy == "end" or not self.run.process_group.is_first:
            return
        if not args.hub_always_push and any(not upload.done() for upload in self._pending):
            return
        self._report()
        self.run.notify("on_push_begin")
        at = f"step {state.global_step}" if args.save_strategy == "steps" else f"epoch {int(state.epoch)}"
        options = self.options(commit_message=f"Training in progress, {at}")
        stage = self._link(folder)
        whole = {"checkpoint": LAST, "all_checkpoints": folder.name}.get(args.hub_strategy)
        repo = self.repo
        assert repo is not None

        def upload() -> None:
            try:
                upload_folder(stage, repo, options, ignore=(*RUN_STATE, f"{RANDOM_STATE}*", "*/*"))
                if whole is not None:
                    more = replace(options, commit_message=f"{options.commit_message}, checkpoint")
                    upload_folder(stage, repo, more, path_in_repo=whole)
            finally:
                shutil.rmtree(stage, ignore_errors=True)

        self._begin(upload)

    def _link(self, folder: Path) -> Path:
        """Return a folder of links to the files of a checkpoint, which the limit of checkpoints does not delete."""
        stage = Path(mkdtemp(prefix=STAGE, dir=self.run.output_dir))
        shutil.copytree(folder, stage, copy_function=_link_or_copy, dirs_exist_ok=True)
        return stage

    def _begin(self, upload: Callable[[], Any]) -> Future[Any]:
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="multihead-upload")
        self._pending.append(self._thread.submit(upload))
        return self._pending[-1]

    def wait(self) -> None:
        """Wait for all uploads; one that failed is a warning, since training goes on without it."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None
        self._report()

    def _report(self) -> None:
        for upload in [one for one in self._pending if one.done()]:
            self._pending.remove(upload)
            if (error := upload.exception()) is not None:
                warn(f"An upload to {self.repo} failed: {error}")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def card_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of the reference's `create_model_card` as fields of `RunSummary`; others stay as they are."""
    found = {name: value for name, value in facts.items() if name not in REFERENCE_FACTS}
    for name, (field, many) in REFERENCE_FACTS.items():
        value = facts.get(name)
        if value is None:
            continue
        values = [value] if isinstance(value, str) else list(value)
        if values:
            found[field] = [*found.get(field, ()), *values] if many else values[0]
    return found


# arguments of the reference's cards -> fields of `RunSummary`, and whether these are lists
REFERENCE_FACTS: Mapping[str, tuple[str, bool]] = {
    "language": ("languages", True),
    "tags": ("tags", True),
    "model_name": ("name", False),
    "finetuned_from": ("base_model", False),
    "tasks": ("task", False),
    "dataset_tags": ("datasets", True),
    "dataset": ("datasets", True),
    "dataset_args": ("dataset_parts", True),
}
