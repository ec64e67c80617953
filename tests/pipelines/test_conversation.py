"""Conversations: the answers of the pipeline, only new tokens read, and turns that no longer fit."""

from __future__ import annotations

import shutil

import pytest
import torch
import transformers

import multihead
from multihead import TextIteratorStreamer
from multihead.errors import ChatTemplateError, InvalidInput, TextTooLong, UnsupportedOption
from multihead.pipelines.conversation import SUMMARY_TITLE
from multihead.pipelines.generation_base import REPETITION_GUARD, guard_repetition

from .conftest import exact

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content.split('</think>')[-1] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE


@pytest.fixture
def pipe(llama):
    made = exact("text-generation", llama, max_position_embeddings=10_000, max_new_tokens=6)
    made.tokenizer.chat_template = TEMPLATE
    made.model.decode_runner = "eager"  # a token a pass, so that they can be counted
    return made


def written(pipe, text):
    """A processor that lets the model write this text and then end."""
    wanted = [*pipe.tokenizer(text, add_special_tokens=False)["input_ids"], pipe.tokenizer.eos_token_id]
    said = []

    def force(ids, scores):
        said.append(len(ids[0]))
        scores = torch.full_like(scores, -torch.inf)
        scores[:, wanted[min(len(ids[0]) - said[0], len(wanted) - 1)]] = 0.0
        return scores

    return [force]


def read_tokens(conversation, ask):
    """The reply, and the number of tokens that were read before its first one."""
    engine, _ = conversation.session._open()
    runner, count = engine.runner(), []
    forward = runner.forward
    runner.forward = lambda batch: count.append(sum(map(len, batch.tokens))) or forward(batch)
    try:
        reply = ask()
    finally:
        del runner.forward
    return reply, sum(count) - (reply.new_tokens - 1)


def test_turns_say_what_the_pipeline_says_of_the_whole_list(pipe):
    chat = pipe.conversation(system="Be brief.")
    for text in ("The fox", "A dog?", "and more"):
        before = [*chat.messages, {"role": "user", "content": text}]
        reply = chat.send(text)
        (record,) = pipe(before, return_finish_reason=True, **REPETITION_GUARD)
        assert chat.messages == record["generated_text"]
        assert (reply.text, reply.finish_reason) == (chat.messages[-1]["content"], record["finish_reason"])
    assert [message["role"] for message in chat.messages] == ["system", *["user", "assistant"] * 3]
    plain = pipe.conversation(dry_multiplier=0.0)
    plain.send("The fox")
    assert plain.messages == pipe([plain.messages[0]])[0]["generated_text"]  # the reference's numbers


def test_a_turn_reads_its_new_tokens_alone(pipe):
    chat = pipe.conversation(system="Be brief.", max_new_tokens=20)
    chat.send("The fox", logits_processor=written(pipe, "jumps over"))
    known = len(pipe.chat_ids(chat.messages[:2])) + len(pipe.tokenizer.encode_ids(["jumps over"], special=False)[0])
    reply, read = read_tokens(chat, lambda: chat.send("A dog", logits_processor=written(pipe, "sleeps")))
    assert reply.text == "sleeps"
    assert read == reply.prompt_tokens - reply.cached_tokens
    assert reply.cached_tokens >= known - 1
    _, read = read_tokens(chat, chat.retry)
    assert read == 1
    chat.undo()
    reply, read = read_tokens(chat, lambda: chat.send("A dog sleeps", logits_processor=written(pipe, "yes")))
    assert reply.cached_tokens >= known - 1
    chat.load([{"role": "system", "content": "Be brief."}])
    reply, _ = read_tokens(chat, lambda: chat.send("The fox"))
    assert reply.cached_tokens == len(pipe.chat_ids(chat.messages[:2])) - 1
    chat.close()
    assert chat.send("The fox").cached_tokens == 0


def test_a_template_that_hides_thoughts_reads_the_answer_again(pipe):
    chat = pipe.conversation(max_new_tokens=30)
    chat.send("The fox", logits_processor=written(pipe, "dogs jump</think>jumps"))
    reply = chat.send("A dog", logits_processor=written(pipe, "sleeps"))
    assert reply.text == "sleeps"
    assert 0 < reply.cached_tokens <= len(pipe.chat_ids(chat.messages[:1]))


def test_one_generation_option_goes_before_the_guard_against_repetition(pipe):
    chat = pipe.conversation()
    asked = lambda **options: chat.config(chat.pipe.resolve_options(**options))  # noqa: E731
    assert (asked().dry_multiplier, asked().max_new_tokens) == (1.0, 6)
    assert asked(max_new_tokens=3).dry_multiplier == 1.0
    for options in ({"repetition_penalty": 1.0}, {"dry_multiplier": 0.0}, {"do_sample": True}, {"num_beams": 2}):
        given = asked(**options)
        assert given.dry_allowed_length is None, options
        assert guard_repetition(given) is given
    pipe.model.generation_config.repetition_penalty = 1.1  # the checkpoint's own
    assert asked().dry_multiplier is None


def test_old_turns_are_dropped_whole_with_a_notice_or_refused(pipe):
    talk = [{"role": "system", "content": "Be"}]
    for n in range(3):
        talk += [{"role": "user", "content": f"fox {n}"}, {"role": "assistant", "content": f"dog {n}"}]
    most = len(pipe.chat_ids([*talk, {"role": "user", "content": "A dog"}])) + 6
    fits = pipe.conversation(talk, history="error", context_length=most)
    assert fits.send("A dog").notices == ()
    full = pipe.conversation(talk, history="error", context_length=most - 1)
    with pytest.raises(TextTooLong, match=r"history=.drop."):
        full.send("A dog")
    assert full.messages == talk
    chat = pipe.conversation(talk, history="drop", context_length=most - 1)
    reply = chat.send("A dog")
    assert "turns are no longer read" in reply.notices[0]
    assert len(chat.messages) == len(talk) + 2  # nothing is lost
    read = chat.context
    assert read[0] == talk[0]
    assert read[1]["role"] == "user"
    assert read[1:] == chat.messages[chat.first :]
    assert reply.prompt_tokens + 6 <= most - 1 - (most - 1) // 4  # the next turns fit too
    assert reply.text == pipe(read[:-1], return_full_text=False, **REPETITION_GUARD)[0]["generated_text"]
    for _ in range(9):
        reply = chat.send("A dog and more")
        assert reply.prompt_tokens + 6 <= most - 1
        assert [m["role"] for m in chat.context[1:]] == ["user", "assistant"] * (len(chat.context) // 2)
    with pytest.raises(TextTooLong, match="last question"):
        chat.send("The quick brown fox " * 30)
    assert chat.messages[-1]["role"] == "assistant"
    for _ in range(20):
        try:
            chat.undo()
        except InvalidInput:
            break
    assert chat.messages == chat.context == talk[:1]


def test_old_turns_are_summarized_in_the_system_message(pipe, monkeypatch):
    asked = []

    def summarized(model, prompts, config, extras):
        asked.append((pipe.tokenizer.decode(prompts[0]), config))
        return [pipe.tokenizer(f"They met {len(asked)}.", add_special_tokens=False)["input_ids"]]

    monkeypatch.setattr("multihead.pipelines.conversation.generate_tokens", summarized)
    talk = [{"role": "user", "content": "My name is Ada"}, {"role": "assistant", "content": "Hello Ada"}]
    chat = pipe.conversation(talk, system="Be brief.", history="summarize", context_length=400)
    first = None
    for _ in range(24):
        reply = chat.send("The quick brown fox")
        assert reply.prompt_tokens + 6 <= 400
        first = first or (reply.notices and reply)
    assert "are now summarized" in first.notices[0]
    assert "User: My name is Ada\nAssistant: Hello Ada" in asked[0][0]
    assert chat.context[0] == {"role": "system", "content": f"Be brief.\n\n{SUMMARY_TITLE}\n{chat.summary}"}
    assert any(f"{SUMMARY_TITLE} They met 1." in text for text, _ in asked[1:])  # the next one knows the last one
    assert all(config.max_new_tokens == 400 // 8 for _, config in asked)
    assert chat.messages[0]["content"] == "Be brief."
    chat.load([])
    assert chat.context == []
    pipe.tokenizer.chat_template = NO_SYSTEM
    silent = pipe.conversation(history="summarize", context_length=400)
    with pytest.raises(ChatTemplateError):
        [silent.send("The quick brown fox") for _ in range(24)]
    assert silent.messages[-1]["role"] == "assistant"
    assert silent.summary == ""


def test_a_summary_is_the_models_own(pipe):
    chat = pipe.conversation(history="summarize", context_length=200)
    notices = [notice for _ in range(10) for notice in chat.send("The quick brown fox").notices]
    assert notices
    assert chat.context[0]["content"].startswith(SUMMARY_TITLE)


def test_an_answer_is_stopped_continued_and_streamed(pipe):
    chat = pipe.conversation()

    class Stops(TextIteratorStreamer):
        def put(self, ids):
            super().put(ids)
            if ids.numel() == 1:
                chat.stop()

    reply = chat.send("The fox", Stops(pipe.tokenizer))
    assert (reply.finish_reason, reply.new_tokens) == ("abort", 1)
    assert chat.messages[-1] == {"role": "assistant", "content": reply.text}
    streamer = TextIteratorStreamer(pipe.tokenizer, skip_prompt=True, skip_special_tokens=True)
    more = chat.proceed(streamer)
    assert chat.messages[-1]["content"] == reply.text + more.text
    assert "".join(streamer) == more.text
    assert streamer.finish_reason == more.finish_reason == "length"


def test_a_stop_sequence_is_cut_from_streams_and_messages_if_asked(pipe):
    chat = pipe.conversation(max_new_tokens=20)
    options = {"stop_sequence": " fox", "include_stop_str_in_output": False}
    streamer = TextIteratorStreamer(pipe.tokenizer, skip_prompt=True)
    reply = chat.send("Hi", streamer, logits_processor=written(pipe, "The quick fox jumps"), **options)
    assert reply.text == "".join(streamer) == chat.messages[-1]["content"] == "The quick"
    assert reply.finish_reason == "stop"


def test_wrong_turns_and_options_change_nothing(pipe, marian):
    with pytest.raises(UnsupportedOption, match="history is one of"):
        pipe.conversation(history="forget")
    for wrong in (0, "8", 1.5):
        with pytest.raises(InvalidInput, match="context_length"):
            pipe.conversation(context_length=wrong)
    with pytest.raises(UnsupportedOption, match="return_tensors"):
        pipe.conversation(return_tensors=True)
    for cut in ({"truncation": True}, {"handle_long_generation": "hole"}):
        with pytest.raises(UnsupportedOption, match=r"history=.drop."):
            pipe.conversation(**cut)
    with pytest.raises(UnsupportedOption, match="max_new_token"):
        pipe.conversation(max_new_token=3)
    chat = pipe.conversation([{"role": "assistant", "content": "Hi"}])
    for call, message in ((chat.undo, "take back"), (chat.retry, "ask again"), (chat.proceed, "go on with"),
                          (chat.answer, "no question")):  # fmt: skip
        with pytest.raises(InvalidInput, match=message):
            call()
    for text in (None, 3, ["a"], "\udc80"):
        with pytest.raises(InvalidInput):
            chat.send(text)
    with pytest.raises(InvalidInput, match="Message 0"):
        chat.load([{"role": "user"}])
    with pytest.raises(UnsupportedOption):
        chat.set(nothing=3)
    with pytest.raises(InvalidInput, match="temperature"):
        chat.set(temperature=-1.0)
    with pytest.raises(InvalidInput, match="one answer"):
        chat.send("Hi", do_sample=True, num_return_sequences=2)
    assert chat.messages == [{"role": "assistant", "content": "Hi"}]
    assert chat.options == {}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("fox " * 400, {}),
        ("\udc80", {}),
        ("Hi", {"nothing": 3}),
        ("Hi", {"num_beams": 2}),
        ("Hi", {"logits_processor": [lambda ids, scores: scores[:, :0]]}),
    ],
)
def test_the_reader_of_a_stream_gets_the_error_of_a_turn_once(pipe, text, options):
    chat = pipe.conversation(context_length=300)
    streamer = TextIteratorStreamer(pipe.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=5)
    with pytest.raises(Exception) as sent:  # noqa: PT011
        chat.send(text, streamer, **options)
    with pytest.raises(type(sent.value)):
        list(streamer)
    assert chat.messages == []
    for ask in (chat.retry, chat.proceed, chat.answer):
        with pytest.raises(InvalidInput):
            ask(streamer)
        with pytest.raises(InvalidInput):
            list(streamer)
    assert chat.send("Hi", streamer).text == "".join(streamer)


def test_a_turn_that_fails_or_is_taken_back_drops_nothing(pipe):
    def fails(ids, scores):
        raise RuntimeError("boom")

    talk = [{"role": "user", "content": "fox " * 20}, {"role": "assistant", "content": "dog"}]
    most = len(pipe.chat_ids([*talk, {"role": "user", "content": "fox " * 20}])) + 5  # one token is missing
    chat = pipe.conversation(talk, history="drop", context_length=most)
    with pytest.raises(RuntimeError, match="boom"):
        chat.send("fox " * 20, logits_processor=[fails])
    assert chat.context == chat.messages == talk
    assert "no longer read" in chat.send("fox " * 20).notices[0]
    assert chat.context == chat.messages[2:]
    chat.undo()
    assert chat.context == chat.messages == talk  # the first exchange fits again


def test_messages_without_a_text_are_no_traceback(pipe):
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": []}]
    with pytest.raises(ChatTemplateError):
        pipe.conversation(talk).proceed()


def test_conversations_of_one_pipeline_do_not_mix(pipe, llama):
    one, other = (pipe.conversation() for _ in range(2))
    alone = [pipe([{"role": "user", "content": text}], **REPETITION_GUARD)[0] for text in ("The fox", "A dog")]
    one.send("The fox")
    other.send("A dog")
    assert [one.messages, other.messages] == [answer["generated_text"] for answer in alone]
    one.send("and")
    assert pipe("The fox") == exact("text-generation", llama, max_new_tokens=6)("The fox")


def test_the_default_model_is_guarded_and_a_named_one_gives_the_references_numbers(llama, tmp_path, monkeypatch):
    folder = tmp_path / "default"
    shutil.copytree(llama, folder)
    monkeypatch.setattr(multihead.pipelines.pipeline, "default_model", lambda *given: (str(folder), ""))
    own = multihead.pipeline("text-generation", dtype="float32", max_new_tokens=12)
    assert own("The fox") == exact("text-generation", llama, max_new_tokens=12)("The fox", **REPETITION_GUARD)
    assert "dry_multiplier=0" in own("The fox").metadata.note
    theirs = transformers.pipeline("text-generation", str(llama))("The fox", max_new_tokens=12, do_sample=False)
    assert own("The fox", dry_multiplier=0.0) == theirs == exact("text-generation", llama)("The fox", max_new_tokens=12)
