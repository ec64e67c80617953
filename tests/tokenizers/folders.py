"""Small tokenizers in every kind of file, trained on the spot; the reference reads the same folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sentencepiece

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind at all.",
    "Schöne Grüße aus München: die Straße ist naß, der Kaffee heiß.",
    "Le garçon a mangé une pêche; où est-elle ? C'était très bon…",
    "素早い茶色の狐 敏捷的棕色狐狸 빠른 갈색 여우 быстрая лиса γρήγορη αλεπού",
    "In 1969, 21.5 kilograms of rock came back; 3 people flew 384,400 km.",
    "هذا نص عربي قصير، وذلك سطر آخر. זה טקסט קצר בעברית.",
] * 4

TEXTS = [
    "",
    " ",
    "   ",
    "Hello world!",
    "  two  spaces  and\ttabs\nnew lines\r\n ",
    "Schöne Grüße, où est le garçon ? CAPITALS naïve",
    "素早い茶色の狐 and 敏捷的棕色狐狸 mixed日本語text",
    "emoji 😀 family 👨‍👩‍👧‍👦 flag 🇧🇷 skin 👍🏽",
    "control \x00 \x07 zero\u200bwidth \u200d joiner \ufeff bom \u00ad soft",
    "combining e\u0301 a\u0308 o\u0302\u0323 n\u0303",
    "x" * 300,
    "supercalifragilistic" * 20,
    "numbers 1234567890 3.14159 1,000,000 ½ ²",
    "don't can't we've I'm she'll `` quoted '' text",
    "العربية עברית हिन्दी ไทย",
    "under_score kebab-case CamelCase path/to/file.txt a@b.co #tag",
    "\u3000full\u3000width　ＡＢＣ１２３ ﬁ ligature",
]


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), encoding="utf-8"
    )


def wordpiece(folder: Path, **settings: Any) -> Path:
    """vocab.txt, as BERT's."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=settings.get("do_lower_case", True))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    vocab = sorted(backend.get_vocab().items(), key=lambda item: item[1])
    write(folder, "vocab.txt", "\n".join(token for token, _ in vocab) + "\n")
    write(folder, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": 64, **settings})
    return folder


def bytes_bpe(folder: Path, kind: str, **settings: Any) -> Path:
    """vocab.json and merges.txt, as GPT-2's or RoBERTa's."""
    special = ["<|endoftext|>"] if kind == "GPT2" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend = tokenizers.ByteLevelBPETokenizer()
    backend.train_from_iterator(CORPUS, vocab_size=400, special_tokens=special, show_progress=False)
    backend.save_model(str(folder))
    write(folder, "tokenizer_config.json", {"tokenizer_class": f"{kind}Tokenizer", "model_max_length": 64, **settings})
    return folder


def pieces(folder: Path, name: str, kind: str | None, model: str = "unigram", **settings: Any) -> Path:
    """A SentencePiece model, as ALBERT's, T5's, XLNet's, XLM-R's or Llama's."""
    train(folder / name, model, **settings.pop("train", {}))
    if kind is not None:
        write(
            folder, "tokenizer_config.json", {"tokenizer_class": f"{kind}Tokenizer", "model_max_length": 64, **settings}
        )
    return folder


def train(path: Path, model: str = "unigram", **options: Any) -> None:
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=file,
            model_type=model,
            vocab_size=options.pop("vocab_size", 380),
            hard_vocab_limit=False,
            minloglevel=2,
            **options,
        )


def marian(folder: Path) -> Path:
    """source.spm, target.spm and a vocab.json that joins them."""
    train(folder / "source.spm", vocab_size=300)
    train(folder / "target.spm", vocab_size=340)
    models_ = [
        sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm")) for side in ("source", "target")
    ]
    words = ["</s>", "<unk>", ">>fr<<"]
    for model in models_:
        words += [w for w in (model.id_to_piece(i) for i in range(model.get_piece_size())) if w not in {*words, "<s>"}]
    write(folder, "vocab.json", {word: number for number, word in enumerate([*words, "<pad>"])})
    settings = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "fr", "model_max_length": 512}
    write(folder, "tokenizer_config.json", settings)
    return folder


def marian_apart(folder: Path) -> Path:
    """A Marian pair whose target has a vocabulary of its own."""
    marian(folder)
    words = list(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))
    words = [*words[:2], *reversed(words[2:-1]), words[-1]]
    write(folder, "target_vocab.json", {word: number for number, word in enumerate(words)})
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    write(folder, "tokenizer_config.json", {**settings, "separate_vocabs": True})
    return folder


def translator(folder: Path, kind: str) -> Path:
    """A translator (MBart, MBart50, Nllb) whose settings name no language; its tokenizer.json frames French."""
    import transformers

    words = ["▁hello", "▁world", "▁the", "▁", *"helowrdta"]
    rows = [(word, -float(number)) for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])]
    made: Any = getattr(transformers, f"{kind}Tokenizer")
    if kind == "Nllb":
        made = made(vocab={word: number for number, (word, _) in enumerate(rows)}, merges=[])
    else:
        made = made(vocab=rows)
    made.src_lang = "fra_Latn" if kind == "Nllb" else "fr_XX"
    made.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    write(folder, "tokenizer_config.json", {k: v for k, v in settings.items() if k not in ("src_lang", "tgt_lang")})
    return folder
