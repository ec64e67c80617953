"""Language modelling: no token is lost in packing, masks have their rates, only what shall be learned is."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import multihead
from multihead.errors import ChatTemplateError, InvalidInput
from multihead.training.data import causal_lm as causal
from multihead.training.data import masked_lm as masked
from multihead.training.data.causal_lm import CausalLMOptions
from multihead.training.data.masked_lm import NO_WORD, MaskedLMOptions, Masking, mask_tokens
from multihead.training.data.source import Rows
from tests.tokenizers import folders

TEXT = st.text("abc .,foxdog", min_size=1, max_size=60).filter(str.strip)
TEXTS = st.lists(TEXT, min_size=1, max_size=8)


def learned(tokenizer, example):
    """The text of the tokens that are learned."""
    return tokenizer.decode([i for i in example["labels"].tolist() if i != -100])


def group_texts(rows, size):
    """The field's script: all tokens end to end, in blocks, the rest dropped."""
    flat = [i for row in rows for i in row]
    return [flat[i : i + size] for i in range(0, len(flat) // size * size, size)]


@given(TEXTS, st.integers(4, 20), st.booleans())
@settings(max_examples=60, deadline=None)
def test_blocks_are_those_of_group_texts_and_lose_no_token(bytes_bpe, their_bytes, rows, size, append):
    options = CausalLMOptions(max_length=size, packing="blocks", append_eos=append)
    features = causal.prepare(rows, bytes_bpe, options)
    end = [their_bytes.eos_token_id] if append else []
    theirs = [ids + end for ids in their_bytes(rows)["input_ids"]]
    found = [example["input_ids"].tolist() for example in features]
    whole = group_texts(theirs, size)
    assert found[: len(whole)] == whole
    assert [i for block in found for i in block] == [i for ids in theirs for i in ids]
    assert all(example["labels"].tolist() == example["input_ids"].tolist() for example in features)


@given(TEXTS, st.integers(4, 20))
@settings(max_examples=40, deadline=None)
def test_documents_stay_apart_and_lose_no_token(bytes_bpe, rows, size):
    features = causal.prepare(rows, bytes_bpe, CausalLMOptions(max_length=size))
    again = collections.defaultdict(list)
    for number, example in zip(features.row.tolist(), features, strict=True):
        again[number] += example["input_ids"].tolist()
        assert len(example["input_ids"]) <= size
    assert [again[n] for n in range(len(rows))] == [[*bytes_bpe.encode(t), bytes_bpe.eos_token_id] for t in rows]


def test_texts_may_be_cut_instead(bytes_bpe):
    features = causal.prepare(["dog " * 9, "fox"], bytes_bpe, CausalLMOptions(max_length=5, overlong="truncate"))
    assert [len(example["input_ids"]) for example in features] == [5, len(bytes_bpe.encode("fox")) + 1]
    assert features.notes == ["1 of 2 texts are longer than 5 tokens and were cut."]


def test_learned_texts_share_their_store_with_their_labels(bytes_bpe):
    features = causal.prepare(["The fox jumps."] * 50, bytes_bpe, CausalLMOptions())
    assert features.ragged["labels"].flat is features.ragged["input_ids"].flat


def test_a_file_may_be_one_text(tmp_path, bytes_bpe):
    text = "First Citizen:\nSpeak, speak.\n\nAll:\nSpeak!\n"
    (tmp_path / "input.txt").write_text(text)
    whole = causal.prepare(tmp_path / "input.txt", bytes_bpe, CausalLMOptions(whole_file=True, append_eos=False))
    assert bytes_bpe.decode([i for example in whole for i in example["input_ids"].tolist()]) == text
    lines = causal.prepare(tmp_path / "input.txt", bytes_bpe, CausalLMOptions())
    assert len(lines) == 4
    assert lines.notes == ["1 of 5 rows have an empty text and were left out."]
    assert lines.location(2) == "line 4 of input.txt"
    with pytest.raises(InvalidInput, match="give their path"):
        causal.prepare(Rows.of(tmp_path / "input.txt"), bytes_bpe, CausalLMOptions(whole_file=True))


def test_of_a_prompt_only_the_completion_is_learned(bytes_bpe, t5):
    rows = [{"prompt": "The fox ", "completion": "jumps."}]
    features = causal.prepare(rows, bytes_bpe, CausalLMOptions())
    assert bytes_bpe.decode(features[0]["input_ids"].tolist()) == "The fox jumps.<|endoftext|>"
    assert learned(bytes_bpe, features[0]) == "jumps.<|endoftext|>"
    assert learned(bytes_bpe, causal.prepare(rows, bytes_bpe, CausalLMOptions(append_eos=False))[0]) == "jumps."
    everything = causal.prepare(rows, bytes_bpe, CausalLMOptions(learn="all"))
    assert learned(bytes_bpe, everything[0]) == "The fox jumps.<|endoftext|>"
    framed = causal.prepare(rows, t5, CausalLMOptions())[0]
    assert framed["labels"].tolist()[-1] == t5.eos_token_id
    assert framed["input_ids"].tolist().count(t5.eos_token_id) == 1


CHAT = [
    {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The fox."},
    {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Over the dog."},
]  # fmt: skip


@pytest.mark.parametrize("row", [
    {"messages": CHAT},
    {"conversations": [{"from": "human" if m["role"] == "user" else "gpt", "value": m["content"]} for m in CHAT]},
])  # fmt: skip
def test_of_a_conversation_only_the_assistant_is_learned(bytes_bpe, row):
    features = causal.prepare([row], bytes_bpe, CausalLMOptions(max_length=500))
    whole = bytes_bpe.apply_chat_template(CHAT, tokenize=False)
    assert bytes_bpe.decode(features[0]["input_ids"].tolist()) == whole
    assert learned(bytes_bpe, features[0]) == "The fox.<|end|>\nOver the dog.<|end|>\n"
    everything = causal.prepare([row], bytes_bpe, CausalLMOptions(max_length=500, learn="all"))
    assert learned(bytes_bpe, everything[0]) == whole


MARKED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think>{% generation %}{{ m.content }}!"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %} {% endfor %}({{ messages | length }})"
)


def test_the_marks_of_a_template_say_what_is_learned(bytes_bpe):
    """Also of one that writes a conversation's end otherwise than its middle."""
    options = CausalLMOptions(max_length=500, chat_template=MARKED)
    features = causal.prepare([{"messages": CHAT}], bytes_bpe, options)
    assert learned(bytes_bpe, features[0]) == "The fox.!Over the dog.!"
    found = bytes_bpe.apply_chat_template(CHAT, chat_template=MARKED, return_assistant_tokens_mask=True)
    mask = [int(label != -100) for label in features[0]["labels"].tolist()]
    assert (features[0]["input_ids"].tolist(), mask) == (found["input_ids"], found["assistant_masks"])
    whole = causal.prepare(
        [{"messages": CHAT}], bytes_bpe, CausalLMOptions(max_length=500, chat_template=MARKED, learn="all")
    )
    assert learned(bytes_bpe, whole[0]) == bytes_bpe.apply_chat_template(CHAT, chat_template=MARKED, tokenize=False)


def test_of_marked_messages_only_the_completions_are_learned(bytes_bpe):
    row = {"prompt": CHAT[:3], "completion": CHAT[3:]}
    options = CausalLMOptions(max_length=500, chat_template=MARKED.replace("({{ messages | length }})", ""))
    assert learned(bytes_bpe, causal.prepare([row], bytes_bpe, options)[0]) == "Over the dog.!"


def test_prompts_of_messages_learn_the_completions_messages_only(bytes_bpe):
    row = {"prompt": CHAT[:3], "completion": CHAT[3:]}
    features = causal.prepare([row], bytes_bpe, CausalLMOptions(max_length=500))
    assert learned(bytes_bpe, features[0]) == "Over the dog.<|end|>\n"


@pytest.mark.parametrize(("row", "options", "error", "message"), [
    ({"messages": CHAT[:1]}, {}, InvalidInput, "Row 1 has no message of the assistant"),
    ({"messages": []}, {}, InvalidInput, "Row 1 must have a list of messages"),
    ({"messages": [{"role": "user"}]}, {}, InvalidInput, "Row 1 has a message 0 that is no"),
    ({"messages": CHAT}, {"chat_template": "{{ messages|length }}"}, InvalidInput,
     r"Row \d: the chat template writes the conversation up to message 1 otherwise"),
    ({"messages": [{"role": "oracle", "content": "x"}]},
     {"chat_template": "{{ raise_exception('no') if messages[0].role == 'oracle' }}", "learn": "all"},
     ChatTemplateError, "Row 1: .*refuses"),
    ({"messages": None}, {}, InvalidInput, "Row 1 has no messages"),
    ({"messages": CHAT[:1]}, {"chat_template": MARKED}, InvalidInput, "Row 1 has nothing inside .*generation"),
    ({"messages": [{"role": "oracle", "content": "x"}]},
     {"chat_template": "{% if messages[0].role == 'oracle' %}{% set x %} {% generation %} a {% endgeneration %}"
                       "{% endset %}{{ x | trim }}{% else %}{% generation %}a{% endgeneration %}{% endif %}"},
     ChatTemplateError, "Row 1: .*marks"),
])  # fmt: skip
def test_conversations_that_cannot_be_learned_are_named(bytes_bpe, row, options, error, message):
    with pytest.raises(error, match=message):
        causal.prepare([{"messages": CHAT}, row], bytes_bpe, CausalLMOptions(max_length=500, **options))


def test_examples_with_nothing_to_learn_are_left_out_and_told_of(bytes_bpe):
    rows = [{"prompt": "dog " * 30, "completion": "fox"}, {"prompt": "a ", "completion": "b"}]
    features = causal.prepare(rows, bytes_bpe, CausalLMOptions(max_length=12))
    assert features.row.tolist() == [1]
    assert "1 of 2 examples have nothing to learn within 12 tokens" in features.notes[1]
    windows = causal.prepare(rows, bytes_bpe, CausalLMOptions(max_length=12, overlong="windows"))
    assert learned(bytes_bpe, windows[0]).endswith("fox<|endoftext|>")
    with pytest.raises(InvalidInput, match=r"Nothing is left to learn.*1 of 1"):
        causal.prepare(rows[:1], bytes_bpe, CausalLMOptions(max_length=12))


@pytest.mark.parametrize(("source", "options", "message"), [
    ([{"prompt": "a", "completion": ""}], {}, "Row 0 has an empty completion"),
    ([{"prompt": "a", "completion": None}], {}, "Row 0 has no completion"),
    ([{"words": "a"}], {}, "is the text.*There are words"),
    ([{"text": " "}, {"text": "a"}], {"skip_empty": False}, "Row 0 has an empty text"),
    ([{"text": " "}], {}, "Nothing is left to learn"),
    ([{"text": "a"}], {"packing": "boxes"}, "packing must be one of documents, blocks"),
    ([{"text": "a"}], {"overlong": "drop"}, "overlong must be one of None, windows, truncate"),
    ([{"text": "a"}], {"learn": "some"}, "learn must be one of"),
])  # fmt: skip
def test_what_no_language_model_learns_is_refused(bytes_bpe, source, options, message):
    with pytest.raises(InvalidInput, match=message):
        causal.prepare(source, bytes_bpe, CausalLMOptions(**options))


@given(TEXTS, st.integers(5, 16), st.sampled_from(["texts", "blocks"]))
@settings(max_examples=40, deadline=None)
def test_chunks_for_masking_are_framed_and_lose_no_token(wordpiece, rows, size, packing):
    features = masked.prepare(rows, wordpiece, MaskedLMOptions(max_length=size, packing=packing))
    first, last = wordpiece.cls_token_id, wordpiece.sep_token_id
    inner = []
    for example in features:
        ids, words = example["input_ids"].tolist(), example["word_ids"].tolist()
        assert (ids[0], ids[-1], words[0], words[-1]) == (first, last, NO_WORD, NO_WORD)
        assert len(ids) == len(words) <= size
        assert NO_WORD not in words[1:-1]
        inner += ids[1:-1]
    assert inner == [i for text in rows for i in wordpiece.encode(text, add_special_tokens=False)]


def test_word_numbers_are_the_tokenizers(wordpiece, their_wordpiece):
    text = "supercalifragilistic foxes don't jump"
    features = masked.prepare([text], wordpiece, MaskedLMOptions())
    theirs = [NO_WORD if w is None else w for w in their_wordpiece(text).word_ids()]
    assert features[0]["word_ids"].tolist() == theirs


@pytest.fixture
def long_example(wordpiece):
    text = " ".join(["supercalifragilistic", "fox", "dog", "München"] * 300)
    return masked.prepare([text], wordpiece, MaskedLMOptions(max_length=20_000))[0]


@pytest.mark.parametrize("whole", [False, True])
def test_masks_have_their_rates(wordpiece, long_example, whole):
    masking = Masking.of(wordpiece, whole_words=whole)
    counts = collections.Counter()
    ids, words = long_example["input_ids"].astype(int), long_example["word_ids"]
    for epoch in range(8):
        read, labels = mask_tokens(long_example, (0, epoch, 0), masking)
        chosen = labels != -100
        counts["all"] += int((words != NO_WORD).sum())
        counts["chosen"] += int(chosen.sum())
        counts["hidden"] += int((read[chosen] == masking.mask_id).sum())
        counts["kept"] += int((read[chosen] == ids[chosen]).sum())
        assert (labels[chosen] == ids[chosen]).all()
        assert (read[~chosen] == ids[~chosen]).all()
        assert not chosen[words == NO_WORD].any()
    assert counts["chosen"] / counts["all"] == pytest.approx(0.15, abs=0.02)
    assert counts["hidden"] / counts["chosen"] == pytest.approx(0.8, abs=0.03)
    assert counts["kept"] / counts["chosen"] == pytest.approx(0.1, abs=0.03)


@given(st.integers(0, 2**31), st.lists(st.integers(1, 5), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_whole_words_are_chosen_whole_and_at_least_one(seed, sizes):
    words = np.array([NO_WORD, *np.repeat(np.arange(len(sizes)), sizes), NO_WORD])
    example = {"input_ids": np.arange(len(words)) + 10, "word_ids": words}
    labels = mask_tokens(example, (seed,), Masking(mask_id=1, vocabulary=9, whole_words=True))[1]
    chosen = {int(word) for word in words[labels != -100]}
    assert chosen
    assert all((labels[words == word] != -100).all() for word in chosen)
    assert NO_WORD not in chosen


def test_the_same_seed_hides_the_same_words_and_another_epoch_others(wordpiece, long_example):
    masking = Masking.of(wordpiece)
    before = long_example["input_ids"].copy()
    first, again, other = (mask_tokens(long_example, seed, masking)[0] for seed in ((1, 2, 3), (1, 2, 3), (1, 3, 3)))
    assert (first == again).all()
    assert (first != other).any()
    assert (long_example["input_ids"] == before).all()


def test_masking_that_cannot_be_is_refused(wordpiece, bytes_bpe):
    with pytest.raises(InvalidInput, match="no mask token"):
        Masking.of(bytes_bpe)
    with pytest.raises(InvalidInput, match="probability must be between"):
        Masking.of(wordpiece, probability=1.5)
    with pytest.raises(InvalidInput, match="shares of a whole"):
        Masking.of(wordpiece, hidden=0.9, replaced=0.2)
    with pytest.raises(InvalidInput, match="packing must be one of"):
        masked.prepare(["a"], wordpiece, MaskedLMOptions(packing="x"))
    ids, labels = mask_tokens({"input_ids": [2, 3], "word_ids": [-1, -1]}, (0,), Masking.of(wordpiece))
    assert (ids.tolist(), labels.tolist()) == ([2, 3], [-100, -100])


LATER = (  # as Qwen3's: what was thought is written of the last answer alone
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }};{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_what_an_assistant_says_last_can_be_learned_alone(bytes_bpe):
    """Also of a template that writes earlier turns otherwise, as the error for it says."""
    rows = [{"messages": CHAT[:2]}, {"messages": CHAT}]
    with pytest.raises(InvalidInput, match="learn='last'"):
        causal.prepare(rows, bytes_bpe, CausalLMOptions(chat_template=LATER))
    found = causal.prepare(rows, bytes_bpe, CausalLMOptions(chat_template=LATER, learn="last"))
    last = [chat["messages"][-1]["content"] for chat in rows]
    assert [learned(bytes_bpe, one) for one in found] == [f"<think></think>{text};" for text in last]
    marked = causal.prepare(rows, bytes_bpe, CausalLMOptions(chat_template=MARKED, learn="last"))
    assert [learned(bytes_bpe, one) for one in marked] == [f"{text}!" for text in last]


def test_an_end_that_is_not_learned_is_told(bytes_bpe):
    told = "does not learn where to stop."
    texts = [{"text": "the fox"}]
    assert not any(told in note for note in causal.prepare(texts, bytes_bpe, CausalLMOptions()).notes)
    assert told in causal.prepare(texts, bytes_bpe, CausalLMOptions(append_eos=False)).notes[-1]
    note = causal.prepare([{"messages": CHAT}], bytes_bpe, CausalLMOptions(chat_template=MARKED)).notes[-1]
    assert note.startswith("1 of 1 examples learn no end-of-text token")


@pytest.mark.parametrize("row", [{"text": "{}the fox"}, {"prompt": "{}the", "completion": " fox"}])
def test_a_text_has_one_begin_token(row, tmp_path):
    tokenizer = multihead.AutoTokenizer.from_pretrained(folders.pieces(tmp_path, "tokenizer.model", "Llama"))
    begin = tokenizer.bos_token
    found = {}
    for name, start in (("plain", ""), ("framed", begin)):
        rows = [{key: value.format(start) for key, value in row.items()}]
        found[name] = causal.prepare(rows, tokenizer, CausalLMOptions())
    for features in found.values():
        assert features[0]["input_ids"].tolist().count(tokenizer.bos_token_id) == 1
    assert len(found["plain"][0]["labels"]) == len(found["plain"][0]["input_ids"])
    assert any("begin with" in note for note in found["framed"].notes)
    assert not any("begin with" in note for note in found["plain"].notes)
