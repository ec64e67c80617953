"""Tokenizers from scratch: one trained like an old one, and WordPiece, BPE and Unigram from their parts."""

from tokenizers.models import BPE, Unigram, WordPiece
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers

code = ["def add(a, b):\n    return a + b\n", "class Film:\n    def __init__(self):\n        self.good = True\n"] * 5
old = AutoTokenizer.from_pretrained(f"{models}/gpt2")
new = old.train_new_from_iterator((code[n : n + 2] for n in range(0, 10, 2)), 300)
new.save_pretrained(f"{work}/new")
new = AutoTokenizer.from_pretrained(f"{work}/new")
pieces = Tokenizer(WordPiece(unk_token="[UNK]"))
pieces.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
pieces.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
pieces.train_from_iterator(code, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False))
cls, sep = pieces.token_to_id("[CLS]"), pieces.token_to_id("[SEP]")
pieces.post_processor = processors.TemplateProcessing(
    single="[CLS]:0 $A:0 [SEP]:0",
    pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
    special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
)
pieces.decoder = decoders.WordPiece(prefix="##")
wrapped = PreTrainedTokenizerFast(
    tokenizer_object=pieces,
    unk_token="[UNK]",
    pad_token="[PAD]",
    cls_token="[CLS]",
    sep_token="[SEP]",
    mask_token="[MASK]",
)
unigram = Tokenizer(Unigram())
unigram.pre_tokenizer = pre_tokenizers.Metaspace()
unigram.train_from_iterator(
    code,
    trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>", "<pad>"], unk_token="<unk>", show_progress=False),
)
unigram.decoder = decoders.Metaspace()
other = PreTrainedTokenizerFast(tokenizer_object=unigram, pad_token="<pad>", unk_token="<unk>", padding_side="left")
pairs = Tokenizer(BPE())
pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
pairs.train_from_iterator(
    code, trainers.BpeTrainer(vocab_size=280, special_tokens=["<|endoftext|>"], show_progress=False)
)
pairs.decoder, pairs.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
last = PreTrainedTokenizerFast(tokenizer_object=pairs, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
# Texts, not ids: pieces of equal counts come in any order from a training.
text = "def good(a):\n    return a"
answer = {
    "old": old.tokenize(text),
    "new": new.tokenize(text),
    "size": len(new),
    "wrapped": wrapped.decode(wrapped(text, "Film")["input_ids"]),
    "other": [other.decode(other(text)["input_ids"]), len(other([text, "a"], padding=True)["input_ids"])],
    "last": last.decode(last(text)["input_ids"]),
}
