"""Loading of tokenizer files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import read_json
from ..errors import InvalidInput, ModelNotFound, UnsupportedTokenizer, read_errors, warn
from ..gguf_names import models
from . import defaults
from .frames import ENDS, set_special_tokens
from .languages import ENGLISH, language_tokens
from .older import (
    PLAIN,
    class_stem,
    from_parts,
    optional,
    read_counted_merges,
    read_text,
    read_vocab_json,
    stem_of_model_type,
)
from .prefix import BYTES, with_prefix_space
from .settings import FSMT_FILES, MARIAN_FILES, MARIAN_SIDES, TEMPLATE_FILE, TEMPLATE_FOLDER, check, check_merges, ids
from .special import (
    ROLES,
    exact_special_tokens,
    extra_special_tokens,
    named_tokens,
    special_roles,
    to_added_token,
    token_objects,
    token_text,
)
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .parts import BuiltTokenizer
    from .words import WordSplitter


def load_tokenizer(path: Path, *, name_or_path: str = "", **changes: Any) -> Tokenizer:
    """Load the tokenizer of a folder or of a GGUF file.

    Args:
        changes: entries of tokenizer_config.json that go before the folder's.

    Raises:
        ModelNotFound: no tokenizer files. CorruptFile: files that cannot be read.
        UnsupportedTokenizer: files of a kind that is not built here.
    """
    changes.pop("use_fast", None)  # there is only this one
    check(changes, "from_pretrained")
    with read_errors(path):
        files = [] if path.is_file() else models(file.name for file in path.glob("[!.]*.gguf"))
        if path.is_file() or (not (path / "tokenizer.json").is_file() and len(files) == 1):
            tokenizer = from_file(path if path.is_file() else path / files[0], changes)
        else:
            tokenizer = from_folder(path, changes)
    tokenizer.name_or_path = name_or_path or str(path)
    return tokenizer


def from_file(path: Path, changes: Mapping[str, Any]) -> Tokenizer:
    """Load the tokenizer of a GGUF file."""
    from ..checkpoints import gguf
    from .gguf import from_gguf

    if path.suffix != ".gguf":
        raise ModelNotFound(f"{path} is no folder and no GGUF file; a tokenizer is read from one of these.")
    return from_gguf(gguf.read(path).metadata, **changes)


def from_folder(folder: Path, changes: Mapping[str, Any]) -> Tokenizer:
    settings = {**settings_of(folder), **changes}
    settings.setdefault("model_max_length", settings.get("max_len"))  # its name in folders of 2019
    stem = class_stem(folder, settings)
    special = optional(folder / "special_tokens_map.json")
    check(special, folder / "special_tokens_map.json")
    old = optional(folder / "added_tokens.json")
    ids(old, folder / "added_tokens.json")
    target: BuiltTokenizer | None = None
    words: WordSplitter | None = None
    files: Mapping[str, bytes] = {}
    single = (folder / "tokenizer.json").is_file()
    stem = stem_of_model_type(folder) if not single and stem in PLAIN else stem
    pair = vocabulary_pair(folder, stem, single)
    if pair is not None:
        built, target, files = pair(folder, settings)
        backend, found, more, words = built.backend, built.special, list(built.more), built.words
    elif single:
        backend, found, more, words = from_json(folder, stem, settings, special, changes)
    else:
        built = from_parts(folder, stem, merge_settings(settings, special, old, changes))
        backend, found, more, words, files = built.backend, built.special, list(built.more), built.words, built.files
    if stem == "Tapas" and not single:  # whose class reads vocab.txt alone
        files = {"vocab.txt": (folder / "vocab.txt").read_bytes()}
    role_tokens, flags = extra_special_tokens(special, settings), token_objects(special, settings)
    more = list(dict.fromkeys([*role_tokens, *more] if single else [*more, *role_tokens]))
    for side in (backend, *([target.backend] if target is not None else [])):
        rest = [flags.get(token, token) for token in more if side.token_to_id(token) is None]
        if not single:
            add_listed_tokens(side, settings, old, strict=True)
        side.add_special_tokens([to_added_token(token, special=True) for token in rest])
        if single:
            add_listed_tokens(side, settings, old, strict=False)
    named = {"tokenizer_class": f"{stem}Tokenizer"} if stem else {}
    settings = {**defaults.SETTINGS.get(stem, {}), **named, **settings}
    other = None if target is None else Tokenizer(target.backend, target.special, settings, words=target.words)
    names = named_tokens(special, settings)
    kind = table_tokenizer() if stem == "Tapas" else Tokenizer
    tokenizer = kind(backend, found, settings, more=more, named=names, target=other, files=files, words=words)
    apply_begin_end(tokenizer, single, changes)
    apply_languages(tokenizer, stem, changes)
    return tokenizer


def table_tokenizer() -> type[Tokenizer]:
    """Return the class of tokenizers of tables."""
    from .tables import TableTokenizer

    return TableTokenizer


def apply_begin_end(tokenizer: Tokenizer, single: bool, changes: Mapping[str, Any]) -> None:
    """Apply add_bos_token and add_eos_token; tokenizer.json takes precedence over tokenizer_config.json.

    Args:
        single: whether tokenizer.json says how texts are framed.
    """
    for name in ENDS:
        if changes.get(name) is not None:
            setattr(tokenizer, name, changes[name])
        elif single and tokenizer.options.get(name) is True and not getattr(tokenizer, name):
            warn(
                f"tokenizer_config.json says {name}: true, tokenizer.json puts no {ENDS[name]} there; tokenizer.json "
                f"is followed, as the reference does. To have it, set tokenizer.{name} = True."
            )


def apply_languages(tokenizer: Tokenizer, stem: str, changes: Mapping[str, Any]) -> None:
    """Set the languages that the call or the files name.

    Raises:
        InvalidInput: a language that the tokenizer does not know.
    """
    asked = [what for what in ("src_lang", "tgt_lang") if tokenizer.options.get(what) is not None]
    multilingual = bool(asked) and bool(language_tokens(tokenizer))
    for what in asked:
        if multilingual or what in changes:
            setattr(tokenizer, what, tokenizer.options[what])
    if "src_lang" not in asked and stem in ENGLISH:
        with contextlib.suppress(InvalidInput):  # a vocabulary without English keeps the frame in its file
            tokenizer.face("en")


def settings_of(folder: Path) -> dict[str, Any]:
    """Read tokenizer_config.json and the chat templates beside it."""
    settings = optional(folder / "tokenizer_config.json")
    check(settings, folder / "tokenizer_config.json")
    template = settings.get("chat_template")
    if isinstance(template, list):
        settings["chat_template"] = {row["name"]: row["template"] for row in template}
    if (folder / TEMPLATE_FILE).is_file():
        settings["chat_template"] = read_text(folder / TEMPLATE_FILE)
    more = sorted((folder / TEMPLATE_FOLDER).glob("[!.]*.jinja"))
    if more:
        own = settings.get("chat_template")
        named = {"default": own} if isinstance(own, str) else dict(own or {})
        settings["chat_template"] = {**named, **{p.stem: read_text(p) for p in more}}
    return settings


def from_json(
    folder: Path, stem: str, settings: dict[str, Any], special: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[Any, dict[str, str], list[str], WordSplitter | None]:
    """Load tokenizer.json and apply the class's settings."""
    import tokenizers

    from . import recipes
    from .words import Jieba

    path = folder / "tokenizer.json"
    check_merges(path)
    with read_errors(f"{path}: the tokenizers library says that it"):
        backend = tokenizers.Tokenizer.from_file(str(path))
    known = {
        role: token for role, token in defaults.ROLES.get(stem, {}).items() if backend.token_to_id(token) is not None
    }
    found = special_roles(known, special, settings)
    copy_padding(backend, found, settings)
    if not special_roles(special, settings) and list(folder.glob("vocab.*.spm")):
        return *small_marian(backend), None
    if stem in recipes.WORDPIECE and isinstance(backend.normalizer, tokenizers.normalizers.BertNormalizer):
        backend.normalizer = recipes.bert_normalizer(settings)
    space = changes.get("add_prefix_space", settings.get("add_prefix_space") if stem in BYTES else None)
    if isinstance(space, bool):
        backend = with_prefix_space(backend, space)
    backend = exact_special_tokens(backend, found.values())
    tokens = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    rest = [t for t in found.values() if t not in tokens or not tokens[t].special]
    flags = token_objects(special, settings)
    backend.add_special_tokens([to_added_token(flags.get(token, token), special=True) for token in rest])
    words = Jieba(backend.get_vocab(with_added_tokens=False)) if stem == "RoFormer" else None
    if words is not None:  # the file cannot say that jieba cuts the words
        words.attach(backend)
    more = [token for token in defaults.MORE.get(stem, ()) if backend.token_to_id(token) is not None]
    return backend, found, more, words


def merge_settings(
    settings: Mapping[str, Any], special: Mapping[str, Any], old: Mapping[str, int], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings that older files are read with: special_tokens_map.json goes before tokenizer_config.json, unless
    that lists its added tokens; roles' tokens are as the list describes them.

    Args:
        old: added_tokens.json, whose tokens join the list. changes: entries that a call gives.
    """
    listed = settings.get("added_tokens_decoder")
    found = {**special, **settings} if listed else {**settings, **special}
    flags = {entry["content"]: entry for entry in (listed or {}).values() if isinstance(entry, Mapping)}
    for role in ROLES:
        text = token_text(found.get(role))
        if text in flags:
            found[role] = flags[text]
    whole = {**{str(number): token for token, number in old.items()}, **(listed or {})}
    return {**found, "added_tokens_decoder": whole, **changes}


def copy_padding(backend: Any, found: dict[str, str], settings: dict[str, Any]) -> None:
    """Copy padding and truncation of tokenizer.json into settings that lack them, in place."""
    padding, truncation = backend.padding, backend.truncation
    if padding is not None:
        if "pad_token" not in settings:
            found.setdefault("pad_token", padding["pad_token"])
        settings.setdefault("padding_side", padding["direction"])
    if truncation is not None:
        settings.setdefault("truncation_side", truncation["direction"])


def small_marian(backend: Any) -> tuple[Any, dict[str, str], list[str]]:
    """Load Marian's small models, whose tokenizer.json holds only the vocabulary."""
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    backend.add_special_tokens([to_added_token(token, special=True) for token in special.values()])
    set_special_tokens(backend, "$A </s>", "$A $B </s>", ["</s>"])
    return backend, special, []


def vocabulary_pair(folder: Path, stem: str, single: bool) -> Any:
    """Return the function that loads a pair of vocabularies, or None where the folder holds none."""
    if all((folder / name).is_file() for name in MARIAN_FILES) and (not single or stem in ("", "Marian")):
        return marian  # a tokenizer.json beside them has one side alone
    return fsmt if stem == "FSMT" and all((folder / name).is_file() for name in FSMT_FILES) else None


def fsmt(folder: Path, settings: Mapping[str, Any]) -> tuple[BuiltTokenizer, BuiltTokenizer, dict[str, bytes]]:
    """Load source and target of FSMT, with its files unchanged."""
    from . import moses

    settings = {**optional(folder / "special_tokens_map.json"), **settings}
    source, target = (read_vocab_json(folder, name) for name in FSMT_FILES[:2])
    with read_errors(f"{folder}: vocabularies with merges.txt"):
        built = moses.fsmt(source, target, read_counted_merges(folder), settings)
    return *built, {name: (folder / name).read_bytes() for name in FSMT_FILES}


def marian(folder: Path, settings: Mapping[str, Any]) -> tuple[BuiltTokenizer, BuiltTokenizer, dict[str, bytes]]:
    """Load source and target of a Marian pair in the Hugging Face format, with its files unchanged."""
    from . import recipes, spm

    other = "target_vocab.json"
    names = [*MARIAN_FILES, *([other] if settings.get("separate_vocabs") and (folder / other).is_file() else [])]
    built = [
        recipes.marian_sides(read_json(folder / words), spm.read(folder / name), settings)
        for name, words in zip(MARIAN_SIDES, ("vocab.json", names[-1]), strict=True)
    ]
    return built[0], built[1], {name: (folder / name).read_bytes() for name in names}


def add_listed_tokens(backend: Any, settings: Mapping[str, Any], old: Mapping[str, Any], *, strict: bool) -> None:
    """Add the tokens that a folder lists beside its vocabulary, in the order of their ids.

    Args:
        old: the entries of added_tokens.json. strict: their ids must be those that they get.

    Raises:
        UnsupportedTokenizer: tokens whose ids do not follow the vocabulary.
    """
    decoder = settings.get("added_tokens_decoder") or {}
    entries = sorted([*((int(n), token) for n, token in decoder.items()), *((int(n), t) for t, n in old.items())],
                     key=lambda entry: entry[0])  # fmt: skip
    have = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    for number, token in entries:
        text = token["content"] if isinstance(token, Mapping) else token
        own, given = have.get(text), to_added_token(token, special=False)
        if own is None or (isinstance(token, Mapping) and not strict and matches_differently(own, given)):
            special = given.special or (own is not None and own.special)
            entry = {**token, "special": special} if isinstance(token, Mapping) else token
            backend.add_tokens([to_added_token(entry, special=special)])
        got = backend.token_to_id(text)
        if strict and got != number:
            raise UnsupportedTokenizer(
                f"The files give the added token {text!r} the id {number}; after the vocabulary it has {got}. "
                "Vocabularies with gaps are not built here: save the tokenizer as tokenizer.json where it was made."
            )


def matches_differently(own: Any, given: Any) -> bool:
    """Return True if tokenizer.json matches a token in another way than tokenizer_config.json says."""
    flags = ("lstrip", "rstrip", "single_word") + (() if given.special or own.special else ("normalized",))
    return given.special > own.special or any(getattr(own, flag) != getattr(given, flag) for flag in flags)
