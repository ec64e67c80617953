"""Tiny checkpoints of the reference for programs: `python -m tests.compat.tiny_models FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers
from tokenizers.processors import TemplateProcessing

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = [
    "The film was a joy from the first scene to the last.",
    "A dull plot, and a cast that does not care.",
    "Where does the river begin? It begins in the mountains of the north.",
    "Anna lives in Berlin and works for a bank in Paris.",
    "To bake bread, mix flour, water, salt and yeast, and wait.",
    "Translate the sentence: the house is small.",
    "I would watch it again tomorrow; the music alone is worth it.",
    "user assistant system : what is the capital of France? Paris.",
] * 4
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def word_pieces() -> transformers.PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer with BERT's special tokens."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    raw.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    ids = [(token, raw.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    raw.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return transformers.BertTokenizerFast(tokenizer_object=raw, model_max_length=64, **names)


def byte_pairs() -> transformers.PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with a chat template."""
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=128
    )
    made.chat_template = TEMPLATE
    return made


def main(folder: Path) -> None:
    """Write a model of each kind into a folder."""
    pieces, pairs = word_pieces(), byte_pairs()
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # so that training can be compared
    bert = {"vocab_size": len(pieces), "max_position_embeddings": 64, "initializer_range": 0.2, **SIZES, **still}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": len(pairs)}
    llama = transformers.LlamaConfig(num_key_value_heads=2, max_position_embeddings=128, **SIZES, **ids)
    gpt2 = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=128, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ids
    )
    t5 = transformers.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=len(pairs), decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=2, dropout_rate=0.0,
    )  # fmt: skip
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    tags = dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC")))
    kinds = {"id2label": tags, "label2id": {name: number for number, name in tags.items()}}
    config = transformers.BertConfig
    for name, made, tokenizer in (
        ("bert", transformers.BertForMaskedLM(config(**bert)), pieces),
        ("classifier", transformers.BertForSequenceClassification(config(**bert, **names)), pieces),
        ("ranker", transformers.BertForSequenceClassification(config(**bert, num_labels=1)), pieces),
        ("tagger", transformers.BertForTokenClassification(config(**bert, **kinds)), pieces),
        ("reader", transformers.BertForQuestionAnswering(config(**bert)), pieces),
        ("llama", transformers.LlamaForCausalLM(llama), pairs),
        ("gpt2", transformers.GPT2LMHeadModel(gpt2), pairs),
        ("t5", transformers.T5ForConditionalGeneration(t5), pairs),
    ):
        made.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
