"""From files to a tokenizer."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import read_json
from ..errors import CorruptFile, InvalidInput, ModelNotFound, UnsupportedTokenizer, nearest
from .languages import ENGLISH, known
from .special import added, more_special, roles
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .recipes import Built

TEMPLATE = "chat_template.jinja"
TEMPLATES = "additional_chat_templates"
SIDES = ("source.spm", "target.spm")
PAIR = (*SIDES, "vocab.json")
TYPED = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {  # stem of the tokenizer's class -> settings that files may leave out
    "Bert": TYPED,
    "Electra": TYPED,
    "Albert": TYPED,
    "XLNet": {**TYPED, "padding_side": "left", "pad_token_type_id": 3},
    "Llama": {"padding_side": "left"},
    "MBart": {"legacy_behaviour": True},
    "PLBart": {"legacy_behaviour": True},
}


def load_tokenizer(path: Path, *, name_or_path: str = "", **changes: Any) -> Tokenizer:
    """The tokenizer of a folder, or of a GGUF file.

    Args:
        changes: entries of tokenizer_config.json that go before the folder's.

    Raises:
        ModelNotFound: no tokenizer files. CorruptFile: files that cannot be read.
        UnsupportedTokenizer: files of a kind that is not built here.
    """
    changes.pop("use_fast", None)  # there is only this one
    if path.is_file() or (not (path / "tokenizer.json").is_file() and len(list(path.glob("*.gguf"))) == 1):
        tokenizer = from_file(path if path.is_file() else next(path.glob("*.gguf")), changes)
    else:
        tokenizer = from_folder(path, changes)
    tokenizer.name_or_path = name_or_path or str(path)
    return tokenizer


def from_file(path: Path, changes: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer in a GGUF file."""
    from ..checkpoints import gguf
    from .gguf import from_gguf

    if path.suffix != ".gguf":
        raise ModelNotFound(f"{path} is no folder and no GGUF file; a tokenizer is read from one of these.")
    return from_gguf(gguf.read(path).metadata, **changes)


def from_folder(folder: Path, changes: Mapping[str, Any]) -> Tokenizer:
    settings = {**settings_of(folder), **changes}
    stem = family(folder, settings)
    special = optional(folder / "special_tokens_map.json")
    target: Built | None = None
    files: dict[str, bytes] = {}
    single = (folder / "tokenizer.json").is_file()
    if all((folder / name).is_file() for name in PAIR) and (not single or stem in ("", "Marian")):
        built, target, files = marian(folder, settings)  # a tokenizer.json beside them has one side alone
        backend, found, more = built.backend, built.special, list(built.more)
    elif single:
        backend, found, more = from_json(folder, stem, settings, special)
    else:
        built = from_parts(folder, stem, {**special, **settings})
        backend, found, more = built.backend, built.special, list(built.more)
    more += [token for token in more_special(special, settings) if token not in more]
    old = optional(folder / "added_tokens.json")
    for side in (backend, *([target.backend] if target is not None else [])):
        rest = [token for token in more if side.token_to_id(token) is None]
        side.add_special_tokens([added(token, special=True) for token in rest])
        grow(side, settings, old)
    named = {"tokenizer_class": f"{stem}Tokenizer"} if stem else {}
    settings = {**DEFAULTS.get(stem, {}), **named, **settings}
    other = None if target is None else Tokenizer(target.backend, target.special, settings)
    tokenizer = Tokenizer(backend, found, settings, more=more, target=other, files=files)
    spoken(tokenizer, stem, changes)
    return tokenizer


def spoken(tokenizer: Tokenizer, stem: str, changes: Mapping[str, Any]) -> None:
    """Frames texts in the languages that a call or the files name.

    Raises:
        InvalidInput: a language that the tokenizer does not know.
    """
    asked = [what for what in ("src_lang", "tgt_lang") if tokenizer.options.get(what) is not None]
    multilingual = bool(asked) and bool(known(tokenizer))
    for what in asked:
        if multilingual or what in changes:
            setattr(tokenizer, what, tokenizer.options[what])
    if "src_lang" not in asked and stem in ENGLISH:
        with contextlib.suppress(InvalidInput):  # a vocabulary without English keeps the frame in its file
            tokenizer.face("en")


def settings_of(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, with the chat templates that lie beside it."""
    settings = optional(folder / "tokenizer_config.json")
    template = settings.get("chat_template")
    if isinstance(template, list):
        settings["chat_template"] = {row["name"]: row["template"] for row in template}
    if (folder / TEMPLATE).is_file():
        settings["chat_template"] = (folder / TEMPLATE).read_text(encoding="utf-8")
    more = sorted((folder / TEMPLATES).glob("*.jinja"))
    if more:
        own = settings.get("chat_template")
        named = {"default": own} if isinstance(own, str) else dict(own or {})
        settings["chat_template"] = {**named, **{p.stem: p.read_text(encoding="utf-8") for p in more}}
    return settings


def optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def family(folder: Path, settings: Mapping[str, Any]) -> str:
    """The stem of the tokenizer's class (`Bert`), empty where nothing tells it."""
    from .recipes import FAMILIES

    name = settings.get("tokenizer_class") or optional(folder / "config.json").get("tokenizer_class")
    if isinstance(name, str):
        return re.sub(r"Tokenizer(Fast)?$", "", name)
    kind = optional(folder / "config.json").get("model_type")
    return FAMILIES.get(kind, "") if isinstance(kind, str) else ""


def from_json(
    folder: Path, stem: str, settings: dict[str, Any], special: Mapping[str, Any]
) -> tuple[Any, dict[str, str], list[str]]:
    """tokenizer.json, with what a family's settings say otherwise."""
    import tokenizers

    from . import recipes

    path = folder / "tokenizer.json"
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise CorruptFile(f"{path} is no tokenizer of the tokenizers library: {error}.") from error
    found = roles(special, settings)
    if not found and list(folder.glob("vocab.*.spm")):
        return small_marian(backend)
    if stem in recipes.WORDPIECE and isinstance(backend.normalizer, tokenizers.normalizers.BertNormalizer):
        backend.normalizer = recipes.bert_normalizer(settings)
    tokens = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    rest = [t for t in found.values() if t not in tokens or not tokens[t].special]
    backend.add_special_tokens([added(token, special=True) for token in rest])
    if "add_bos_token" in settings or "add_eos_token" in settings:
        recipes.bound(backend, found, bool(settings.get("add_bos_token")), bool(settings.get("add_eos_token")))
    return backend, found, []


def small_marian(backend: Any) -> tuple[Any, dict[str, str], list[str]]:
    """A tokenizer.json beside Marian's small models holds the vocabulary only."""
    from . import recipes

    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    backend.add_special_tokens([added(token, special=True) for token in special.values()])
    recipes.framed(backend, "$A </s>", "$A $B </s>", ["</s>"])
    return backend, special, []


def marian(folder: Path, settings: Mapping[str, Any]) -> tuple[Built, Built, dict[str, bytes]]:
    """Source and target of a Marian pair in the Hugging Face format, and its files as they are."""
    from . import recipes, spm

    other = "target_vocab.json"
    names = [*PAIR, *([other] if settings.get("separate_vocabs") and (folder / other).is_file() else [])]
    built = [
        recipes.marian_sides(read_json(folder / words), spm.read(folder / name), settings)
        for name, words in zip(SIDES, ("vocab.json", names[-1]), strict=True)
    ]
    return built[0], built[1], {name: (folder / name).read_bytes() for name in names}


def from_parts(folder: Path, stem: str, settings: Mapping[str, Any]) -> Built:
    """A vocabulary in older files, by the family's recipe."""
    from . import recipes, spm

    if (folder / "vocab.txt").is_file():
        return wordpieces(folder / "vocab.txt", settings)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        build = recipes.BPES.get(stem or "GPT2")
        if build is None:
            raise unknown(stem, recipes.BPES, "vocab.json and merges.txt")
        return pairs(folder, build, settings)
    models = sorted([*folder.glob("*.model"), *folder.glob("*.spm")])
    if len(models) == 1:
        if models[0].name.startswith("vocab.") and not stem:
            return recipes.marian_small(spm.read(models[0]), settings)
        if stem not in recipes.SPM:
            raise unknown(stem, recipes.SPM, models[0].name)
        return recipes.SPM[stem](spm.read(models[0]), settings)
    raise ModelNotFound(
        f"{folder} has no tokenizer: no tokenizer.json, vocab.txt, vocab.json with merges.txt, SentencePiece model or "
        "GGUF file."
    )


def unknown(stem: str, known: Mapping[str, Any], files: str) -> UnsupportedTokenizer:
    what = f"{stem}Tokenizer" if stem else "A tokenizer of unknown class (no tokenizer_class, no model_type)"
    return UnsupportedTokenizer(f"{what} cannot be built from {files} here. {nearest(stem, known)}")


def wordpieces(path: Path, settings: Mapping[str, Any]) -> Built:
    """vocab.txt: a token a line, its number the line's."""
    from . import recipes

    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path} is no UTF-8 text: {error}.") from error
    tokens = [line.rstrip("\r") for line in (lines[:-1] if lines and not lines[-1] else lines)]
    vocab = {token: number for number, token in enumerate(tokens)}
    if not vocab or ("" in vocab and len(tokens) == 1):
        raise CorruptFile(f"{path} is empty; it holds a token a line.")
    return recipes.wordpiece(vocab, settings)


def pairs(folder: Path, build: Any, settings: Mapping[str, Any]) -> Built:
    """vocab.json and merges.txt: a merge a line, after a first line that may say the version."""
    vocab = read_json(folder / "vocab.json")
    if not all(isinstance(number, int) for number in vocab.values()):
        raise CorruptFile(f"{folder / 'vocab.json'} must map tokens to numbers.")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#version")]
    wrong = next((merge for merge in merges if len(merge) != 2), None)
    if wrong is not None:
        raise CorruptFile(f"{folder / 'merges.txt'} has the line {' '.join(wrong)!r}, which is no pair of tokens.")
    try:
        return build(vocab, merges, settings)
    except Exception as error:
        if isinstance(error, UnsupportedTokenizer):
            raise
        raise CorruptFile(f"{folder}: vocab.json and merges.txt do not fit each other: {error}.") from error


def grow(backend: Any, settings: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    """Adds the tokens that a folder lists beside its vocabulary, in the order of their ids."""
    listed = settings.get("added_tokens_decoder") or {}
    entries = sorted(
        [(int(n), token) for n, token in listed.items()] + [(int(n), t) for t, n in old.items()], key=lambda x: x[0]
    )
    have = {token.content for token in backend.get_added_tokens_decoder().values()}
    for _, token in entries:
        text = token["content"] if isinstance(token, dict) else token
        if text not in have:
            special = bool(token.get("special")) if isinstance(token, dict) else False
            (backend.add_special_tokens if special else backend.add_tokens)([added(token, special=special)])
