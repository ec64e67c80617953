"""Cached prompts of a model in a file, from one run of the server to the next."""

from __future__ import annotations

import logging
from hashlib import blake2b
from pathlib import Path

from ...errors import ModelNotFound, MultiheadError, UnsupportedOption
from ...generation.engine_thread import EngineThread

log = logging.getLogger("multihead.serving")


def cache_file(folder: Path, name: str) -> Path:
    """Return the file of a model, whose name may have characters that file names cannot have."""
    plain = "".join(character if character.isalnum() or character in "-_." else "_" for character in name)[-64:]
    return folder / f"{plain.lstrip('.')}-{blake2b(name.encode(), digest_size=4).hexdigest()}.safetensors"


def restore_prompts(engine: EngineThread, folder: Path, name: str) -> None:
    """Load the cached prompts of a model if there are any; a file of another model or version is only reported."""
    try:
        blocks = engine.load_cache(cache_file(folder, name))
    except (ModelNotFound, UnsupportedOption):  # no file yet, or a model that keeps none
        return
    except MultiheadError as error:
        log.warning("The prompt cache of %s is not used: %s", name, error)
    else:
        log.info("%s knows %d blocks of earlier prompts", name, blocks)


def keep_prompts(engine: EngineThread, folder: Path, name: str) -> None:
    """Save the cached prompts of a model that ends; a failure is only reported."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        engine.save_cache(cache_file(folder, name))
    except UnsupportedOption:
        pass
    except (MultiheadError, OSError) as error:
        log.warning("The prompt cache of %s is not saved: %s", name, error)
