"""Hooks that make batches: data loaders, samplers, columns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, RandomSampler, Sampler, SequentialSampler

from ...errors import InvalidInput, UnsupportedOption
from ..training_names import has_length
from .hooks import HookState

LOADER_SETTINGS = ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor")


class DataLoaderHooks(HookState):
    """Data loaders of a `HookTrainer`; a subclass may override each method."""

    def get_train_dataloader(self) -> Any:
        """Return the loader of the training rows, in the order of `_get_train_sampler`. Raises InvalidInput."""
        if self.train_dataset is None:
            raise InvalidInput("There is nothing to train on: give train_dataset.")
        return self._get_dataloader(
            self.train_dataset, "Training", self.args.train_batch_size, self._get_train_sampler, is_training=True
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return the loader of a data set, of one of several by name, or of `eval_dataset`. Raises InvalidInput."""
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise InvalidInput("There is nothing to evaluate on: give eval_dataset.")
        return self._get_dataloader(dataset, "Evaluation", self.args.eval_batch_size, self._get_eval_sampler)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """Return the loader of rows to predict."""
        return self._get_dataloader(test_dataset, "test", self.args.eval_batch_size, self._get_eval_sampler)

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, sampler_fn: Callable[[Any], Any] | None = None,
        is_training: bool = False, dataloader_key: str | None = None,
    ) -> Any:  # fmt: skip
        """Return a loader that accelerate prepares: batches arrive on the device of the model."""
        collate = self.data_collator
        if hasattr(dataset, "column_names") and hasattr(dataset, "remove_columns") and has_length(dataset):
            dataset = self._remove_unused_columns(dataset, description=description)
        else:
            collate = self._get_collator_with_removed_columns(collate, description=description)
        settings = {name: getattr(self.args, f"dataloader_{name}") for name in LOADER_SETTINGS}
        settings |= {"batch_size": batch_size, "collate_fn": collate}
        settings["pin_memory"] &= self.args.device.type != "cpu"
        if not isinstance(dataset, IterableDataset):
            sampler = sampler_fn(dataset) if sampler_fn is not None else None
            settings |= {"drop_last": self.args.dataloader_drop_last} | ({"sampler": sampler} if sampler else {})
        return self.accelerator.prepare(DataLoader(dataset, **settings))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """Return the order of the training rows; None for a stream. Raises UnsupportedOption."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not has_length(dataset):
            return None
        if self.args.train_sampling_strategy == "sequential":
            return SequentialSampler(dataset)
        if self.args.train_sampling_strategy != "random":
            raise UnsupportedOption(
                f"train_sampling_strategy={self.args.train_sampling_strategy!r} is not computed for a Trainer whose "
                "hooks are overridden: override _get_train_sampler."
            )
        return RandomSampler(dataset)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int] | None:
        """Return the order of rows of an evaluation."""
        return SequentialSampler(eval_dataset) if has_length(eval_dataset) else None

    def _set_signature_columns_if_needed(self) -> None:
        """Set `_signature_columns`: the columns that `forward` takes, and those of labels."""
        if self._signature_columns is None:
            names = list(inspect.signature(self.inner_model.forward).parameters)
            self._signature_columns = [*names, *dict.fromkeys(["label", "label_ids", *self.label_names])]

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        """Return a data set without the columns that `forward` does not take. Raises InvalidInput if none is left."""
        if not self.args.remove_unused_columns:
            return dataset
        self._set_signature_columns_if_needed()
        known = self._signature_columns or []
        unused = [name for name in dataset.column_names if name not in known]
        if len(unused) == len(dataset.column_names):
            raise InvalidInput(
                f"forward takes none of the columns {', '.join(unused)}: it takes {', '.join(known)}. Tokenize the "
                "data first, or set remove_unused_columns=False for a collator that reads these columns."
            )
        return dataset.remove_columns(unused)

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        """Return a collator that drops the columns that `forward` does not take from rows that are dicts."""
        if not self.args.remove_unused_columns:
            return data_collator
        self._set_signature_columns_if_needed()
        known = frozenset(self._signature_columns or ())

        def collate(rows: list[Any]) -> Any:
            return data_collator(
                [{k: v for k, v in row.items() if k in known} if isinstance(row, Mapping) else row for row in rows]
            )

        return collate

    def num_examples(self, dataloader: Any) -> int:
        """Return the number of rows of a loader."""
        dataset = getattr(dataloader, "dataset", None)
        if dataset is not None and has_length(dataset):
            return len(dataset)
        return len(dataloader) * int(self.args.per_device_train_batch_size)
