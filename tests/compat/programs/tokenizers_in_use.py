"""Tokenizers: padding, truncation, words, offsets, special tokens, decoding."""

from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(f"{models}/bert")
text = "Anna lives in Berlin, and works."
encoding = tokenizer(text, return_offsets_mapping=True)
pair = tokenizer("Where does Anna live?", text, truncation="only_second", max_length=12)
batch = tokenizer([text, "A film."], padding="max_length", max_length=14, truncation=True, return_tensors="np")
words = tokenizer(text.split(), is_split_into_words=True)
answer = {
    "tokens": encoding.tokens(),
    "words": encoding.word_ids(),
    "offsets": encoding["offset_mapping"],
    "chars": [encoding.char_to_token(n) for n in (0, 5, 14)],
    "span": list(encoding.word_to_chars(3)),
    "pair": [pair["input_ids"], pair["token_type_ids"]],
    "batch": [batch["input_ids"].tolist(), batch["attention_mask"].tolist()],
    "split": words.word_ids(),
    "fast": tokenizer.is_fast,
    "special": [tokenizer.mask_token, tokenizer.mask_token_id, tokenizer.model_max_length, tokenizer.vocab_size],
    "decoded": tokenizer.decode(encoding["input_ids"], skip_special_tokens=True),
    "many": tokenizer.batch_decode([encoding["input_ids"], [5, 6]]),
    "mask": tokenizer(text, return_special_tokens_mask=True)["special_tokens_mask"],
}
