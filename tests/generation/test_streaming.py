"""Text as it comes: whole characters only, all of it, in order."""

from __future__ import annotations

import asyncio
import io
import queue
import threading

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tokenizers
from multihead import (
    AsyncTextIteratorStreamer,
    AutoModelForCausalLM,
    AutoTokenizer,
    TextCallbackStreamer,
    TextIteratorStreamer,
    TextStreamer,
)
from multihead.errors import InvalidInput
from multihead.generation.streaming import Detokenizer
from multihead.tokenizers.tokenizer import Tokenizer
from tests.tokenizers import folders
from tests.tokenizers.folders import TEXTS

TEXT = "Grüße 👨‍👩‍👧 an 日本語 und 🇧🇷!  Two  spaces\n\nand lines"


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Byte-level, SentencePiece with bytes, WordPiece."""
    root = tmp_path_factory.mktemp("readers")
    for name in ("bytes", "pieces", "words"):
        (root / name).mkdir()
    folders.bytes_bpe(root / "bytes", "GPT2")
    train = {"byte_fallback": True, "vocab_size": 600}
    folders.pieces(root / "pieces", "tokenizer.model", "Llama", "bpe", train=train)
    folders.wordpiece(root / "words")
    return {p.name: AutoTokenizer.from_pretrained(p) for p in root.iterdir()}


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A model of as many tokens as the readers have."""
    folder = tmp_path_factory.mktemp("wide")
    config = transformers.GPT2Config(vocab_size=600, n_positions=64, n_embd=8, n_layer=1, n_head=1)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.add(token) for token in ids), detokenizer.finish()]


@pytest.mark.parametrize("kind", ["bytes", "pieces", "words"])
@pytest.mark.parametrize("text", [TEXT, *TEXTS])
def test_the_pieces_are_the_whole_text_and_never_half_a_character(readers, kind, text):
    tokenizer = readers[kind]
    ids = tokenizer(text, add_special_tokens=False).input_ids
    parts = streamed(tokenizer, ids)
    assert "".join(parts) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert all("\ufffd" not in part for part in parts) or "\ufffd" in text
    if kind == "bytes" and text == TEXT:
        assert len(ids) > len(text)  # characters did come in several tokens
        assert "".join(parts) == text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30))
def test_any_text_streams_as_it_is(readers, text):
    for kind in ("bytes", "pieces"):
        ids = readers[kind](text, add_special_tokens=False).input_ids
        assert "".join(streamed(readers[kind], ids)) == readers[kind].decode(ids)


def test_bytes_that_never_become_a_character_do_not_hold_the_text_back_for_ever(readers):
    tokenizer = readers["bytes"]
    broken = tokenizer.convert_tokens_to_ids("Ã")  # the first byte of a character, and then none
    ids = [broken, *tokenizer(" plain words follow").input_ids]
    parts = streamed(tokenizer, ids)
    assert "".join(parts) == tokenizer.decode(ids)
    assert parts[2]


def test_a_streamer_prints_what_generate_gives(llama, capsys):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    inputs = tokenizer("The quick", return_tensors="pt")
    torch.manual_seed(0)
    written = io.StringIO()
    streamer = TextStreamer(tokenizer, skip_prompt=True, file=written)
    for _ in range(2):  # a streamer serves again
        ids = model.generate(**inputs, streamer=streamer, max_new_tokens=20, do_sample=True, top_k=0)
        assert written.getvalue() == tokenizer.decode(ids[0, inputs.input_ids.shape[1] :]) + "\n"
        written.truncate(0)
        written.seek(0)
    model.generate(**inputs, streamer=TextStreamer(tokenizer), max_new_tokens=1)
    assert capsys.readouterr().out.startswith("The quick")
    with pytest.raises(InvalidInput, match="one text"):
        model.generate(inputs.input_ids.repeat(2, 1), streamer=streamer, max_new_tokens=2)


def test_an_iterator_gives_the_text_while_another_thread_writes_it(llama):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    inputs = tokenizer("The quick", return_tensors="pt")
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
    options = {**inputs, "streamer": streamer, "max_new_tokens": 12, "do_sample": False}
    writer = threading.Thread(target=model.generate, kwargs=options)
    writer.start()
    pieces = list(streamer)
    writer.join()
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert len(pieces) > 1
    assert "".join(pieces) == tokenizer.decode(ids[0, inputs.input_ids.shape[1] :])
    with pytest.raises(queue.Empty):
        next(iter(TextIteratorStreamer(tokenizer, timeout=0.01)))


def test_an_async_iterator_and_a_callback_get_the_same_text(llama):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    options = {**tokenizer("The quick", return_tensors="pt"), "max_new_tokens": 12, "do_sample": False}

    async def read(**changes):
        streamer = AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
        writer = asyncio.create_task(asyncio.to_thread(model.generate, streamer=streamer, **{**options, **changes}))
        try:
            return [piece async for piece in streamer]
        finally:
            await asyncio.gather(writer, return_exceptions=True)

    called = []
    model.generate(streamer=TextCallbackStreamer(tokenizer, called.append, skip_prompt=True), **options)
    pieces = asyncio.run(read())
    assert len(pieces) > 1
    assert pieces == called
    with pytest.raises(InvalidInput, match="temperature"):
        asyncio.run(read(temperature=-1.0))


def test_an_iterator_raises_what_its_generate_raised(llama):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    streamer = TextIteratorStreamer(tokenizer, timeout=60)

    def stop(ids, scores):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        model.generate(torch.tensor([[5, 6]]), streamer=streamer, stopping_criteria=[stop], max_new_tokens=3)
    with pytest.raises(RuntimeError, match="no more"):
        list(streamer)


def test_a_streamer_does_not_go_with_beams(llama):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    with pytest.raises(InvalidInput, match="beam search"):
        model.generate(torch.tensor([[5, 6]]), streamer=TextStreamer(tokenizer), num_beams=2, max_new_tokens=3)


def test_decoders_that_drop_a_leading_space_keep_the_spaces_between_words():
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"▁a": 0, "▁b": 1, "c": 2}, []))
    backend.decoder = tokenizers.decoders.Metaspace()
    assert streamed(Tokenizer(backend, {}), [0, 1, 2, 0]) == ["a", " b", "c", " a", ""]


def test_a_special_token_that_is_left_out_takes_no_space_with_it():
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"▁a": 0, "▁b": 1, "<s>": 2}, []))
    backend.decoder = tokenizers.decoders.Metaspace()
    backend.add_special_tokens(["<s>"])
    detokenizer = Detokenizer(Tokenizer(backend, {}), skip_special_tokens=True)
    assert [detokenizer.add(token) for token in (2, 0, 2, 2, 1, 0)] == ["", "a", "", "", " b", " a"]


def test_after_a_generate_that_failed_a_streamer_still_leaves_the_prompt_out(llama):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    inputs, shown = tokenizer("The quick", return_tensors="pt"), []
    streamer = TextCallbackStreamer(tokenizer, shown.append, skip_prompt=True)

    def stop(ids, scores):
        raise RuntimeError("no more")

    for options, error in (({"max_length": 1}, InvalidInput), ({"stopping_criteria": [stop]}, RuntimeError)):
        with pytest.raises(error):
            model.generate(**inputs, **options, streamer=streamer)
    shown.clear()
    ids = model.generate(**inputs, max_new_tokens=4, streamer=streamer)
    assert "".join(shown) == tokenizer.decode(ids[0, inputs.input_ids.shape[1] :])


@pytest.mark.parametrize(
    ("text", "stop"), [("xé more", "é"), ("你好。再见", "。"), ("你好。再见", "好。"), ("x😀y", "😀"), ("hello", "lo"),
    ("aab", "bx"), ("x€€y", "€y")],
)  # fmt: skip
def test_a_stop_string_ends_a_text_in_whatever_tokens_it_comes(text, stop, readers, wide):
    tokenizer = readers["bytes"]
    wanted = tokenizer(text, add_special_tokens=False).input_ids

    def says(number, ids):
        return [wanted[len(ids) - 1]] if len(ids) <= len(wanted) else [3]

    options = {"max_new_tokens": len(wanted), "eos_token_id": [], "pad_token_id": 0}
    ids = wide.generate(
        torch.tensor([[5]]), prefix_allowed_tokens_fn=says, stop_strings=[stop], tokenizer=tokenizer, **options
    )
    written, before = tokenizer.decode(ids[0, 1:]), tokenizer.decode(ids[0, 1:-1])
    assert stop not in before
    assert stop in written if stop in text else written == text
