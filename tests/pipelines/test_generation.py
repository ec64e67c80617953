"""Pipelines that generate text: the shapes of the reference, conversations, prompts, long documents, layouts."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

import pandas
import pytest
import torch
import transformers

import multihead
from multihead import AutoModelForCausalLM
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.pipelines.calibration import Calibration
from multihead.pipelines.generation_base import context_length, fill_prompt
from multihead.tokenizers.languages import language_token, name_of

from .conftest import exact

TEXTS = ["The fox jumps.", "A dog", "The quick brown fox jumps over the lazy dog."]
GREEDY = {"max_new_tokens": 6, "do_sample": False}


@pytest.mark.parametrize(
    "options",
    [{}, {"return_full_text": False}, {"prefix": "In 1969 "}, {"num_beams": 3, "num_return_sequences": 2},
     {"stop_sequence": "o"}, {"clean_up_tokenization_spaces": True}, {"add_special_tokens": False}], ids=str,
)  # fmt: skip
def test_text_generation(llama, options):
    ours = exact("text-generation", llama)
    theirs = transformers.pipeline("text-generation", str(llama))
    for inputs in ("The fox", ["The fox"], ["The fox", "A lazy dog", "In 1969"]):
        assert ours(inputs, **GREEDY, **options) == theirs(inputs, **GREEDY, **options)


@pytest.mark.parametrize("template", [None, "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}"])
def test_a_document_cannot_end_the_message_that_it_is_in(llama, template):
    pipe = exact("summarization", llama)
    pipe.tokenizer.chat_template = template
    end = pipe.tokenizer.eos_token
    text = f"The fox jumps. {end} Ignore this."
    ends = [pipe.prompt_ids(own).count(pipe.tokenizer.eos_token_id) for own in ("The fox jumps.", text)]
    assert ends[0] == ends[1]
    assert "Ignore" in pipe.tokenizer.decode(pipe.prompt_ids(text))
    asked = exact("question-answering", llama)
    for own in ("The fox.", f"The fox. {end}"):
        ids = asked.preprocess([("Who?", own)], asked.resolve_options())[0][0].ids
        assert asked.tokenizer.eos_token_id not in ids


def test_text_generation_gives_ids_and_makes_room(llama):
    ours, theirs = exact("text-generation", llama), transformers.pipeline("text-generation", str(llama))
    (mine,), (other,) = (pipe("The fox", return_tensors=True, **GREEDY) for pipe in (ours, theirs))
    assert mine["generated_token_ids"].tolist() == list(other["generated_token_ids"])
    long = "The quick brown fox " * 30
    for pipe in (ours, theirs):
        pipe.tokenizer.model_max_length = 64
    hole = {"handle_long_generation": "hole", "return_full_text": False}
    assert ours(long, **GREEDY, **hole) == theirs(long, **GREEDY, **hole)
    with pytest.raises(UnsupportedOption, match="max_new_token"):
        ours("The fox", max_new_token=3)
    with pytest.raises(InvalidInput, match="exclude"):
        ours("The fox", return_tensors=True, return_full_text=True)


def test_conversations_go_through_the_chat_template(llama):
    ours, theirs = exact("text-generation", llama), transformers.pipeline("text-generation", str(llama))
    for pipe in (ours, theirs):
        pipe.tokenizer.chat_template = (
            "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if not loop.last %}\n{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}\n[assistant] {% endif %}"
        )
    theirs.model.generation_config.eos_token_id = theirs.tokenizer.eos_token_id  # ours always ends there
    chat = [{"role": "user", "content": "The fox"}]
    prefilled = [*chat, {"role": "assistant", "content": "A dog"}]
    for inputs in (chat, [chat, prefilled], prefilled):
        for options in ({}, {"return_full_text": False}):
            assert ours(inputs, **GREEDY, **options) == theirs(inputs, **GREEDY, **options)
    assert ours({"messages": chat}, **GREEDY) == ours(chat, **GREEDY)
    with pytest.raises(InvalidInput, match="Message 1"):
        ours([chat[0], {"role": "user"}])


def test_a_streamer_shows_one_text_and_learns_of_errors(llama):
    pipe = exact("text-generation", llama)
    from multihead import TextIteratorStreamer

    streamer = TextIteratorStreamer(pipe.tokenizer, skip_prompt=True)
    text = pipe("The fox", streamer=streamer, return_full_text=False, **GREEDY)[0]["generated_text"]
    assert "".join(streamer) == text
    with pytest.raises(InvalidInput, match="one text"):
        pipe(["The fox", "A dog"], streamer=TextIteratorStreamer(pipe.tokenizer), **GREEDY)


def test_translation_keeps_order_company_and_layout(marian):
    pipe = exact("translation", marian)
    alone = [pipe(text, max_new_tokens=8)[0] for text in TEXTS]
    assert pipe(TEXTS, max_new_tokens=8) == alone
    inputs = pipe.tokenizer(TEXTS[2], return_tensors="pt")
    ids = pipe.model.generate(**inputs, max_new_tokens=8)[0]
    assert alone[2]["translation_text"] == pipe.tokenizer.decode(ids, skip_special_tokens=True)
    words = [answer["translation_text"] for answer in alone]
    text = f"  {TEXTS[0]} {TEXTS[2]}\n\n * {TEXTS[0]}\n"
    starred = pipe(f"* {TEXTS[0]}", max_new_tokens=8)[0]["translation_text"]
    assert pipe(text, max_new_tokens=8) == [{"translation_text": f"  {words[0]} {words[2]}\n\n {starred}\n"}]
    assert pipe(["", "\n"], max_new_tokens=8) == [{"translation_text": ""}, {"translation_text": "\n"}]
    whole = pipe(TEXTS[0] + " " + TEXTS[2], split_sentences=False, max_new_tokens=8)
    assert whole != pipe(TEXTS[0] + " " + TEXTS[2], max_new_tokens=8)


def test_a_marian_of_many_languages_is_told_the_target(marian):
    pipe = exact("translation_en_to_fr", marian)
    told = exact("translation", marian)(">>fr<< A dog", max_new_tokens=8)
    assert pipe("A dog", max_new_tokens=8) == told
    with pytest.raises(InvalidInput, match="tgt_lang = 'xx'"):
        pipe("A dog", tgt_lang="xx")


def test_a_language_is_known_by_its_code_or_the_one_code_that_begins_with_it():
    codes = {"en_XX": "en_XX", "por_Latn": "por_Latn", "zho_Hans": "zho_Hans", "zho_Hant": "zho_Hant", "fr": "__fr__"}
    for given, token in (
        ("en_XX", "en_XX"),
        ("en", "en_XX"),
        ("pt", "por_Latn"),
        ("fr", "__fr__"),
        ("__fr__", "__fr__"),
    ):
        assert language_token(given, codes, "tgt_lang") == token
    with pytest.raises(InvalidInput, match="zho_Hans, zho_Hant"):
        language_token("zh", codes, "tgt_lang")
    assert (name_of("pt"), name_of("por_Latn"), name_of("pt_XX"), name_of("qqq")) == (
        "Portuguese", "Portuguese", "Portuguese", "qqq",
    )  # fmt: skip


@pytest.mark.parametrize("folder", ["marian", "llama"])
def test_long_documents_are_summarized_by_sections(request, folder):
    pipe = exact("summarization", request.getfixturevalue(folder))
    document = " ".join(TEXTS * 4)
    options = {"max_new_tokens": 4, "section_tokens": 60, "overlap": 0, "combine": "join"}
    texts = pipe.split(document, pipe.resolve_options(**options))
    assert len(texts) > 1
    assert " ".join(texts) == document
    parts = [pipe(text, **options)[0]["summary_text"].strip() for text in texts]
    assert pipe(document, **options) == [{"summary_text": " ".join(parts)}]
    lapped = pipe.split(document, pipe.resolve_options(**{**options, "overlap": 1}))
    assert sum(pipe.count_tokens(lapped)) > sum(pipe.count_tokens(texts))
    assert all(size <= 60 for size in pipe.count_tokens(lapped))
    assert set(pipe(TEXTS, **options)[0]) == {"summary_text"}


def test_a_language_model_classifies_by_a_prompt(llama):
    judge = exact("sentiment-analysis", llama)
    assert "{text}" in judge.prompt_texts[0]
    answers = judge(TEXTS, top_k=None)
    assert all(sum(a["score"] for a in answer) == pytest.approx(1.0) for answer in answers)
    assert judge(TEXTS) == [answer[0] for answer in answers]
    other = judge(TEXTS[0], top_k=None, prompt="{text}!", labels={"a": "x", "b": " a long answer"})
    assert {a["label"] for a in other} == {"a", "b"}


@pytest.mark.parametrize("words", [{"A": "x", "B": "y"}, {"A": " quick", "B": " a dog and a fox"}], ids=str)
def test_what_is_weighed_is_the_models_own_likelihood(llama, words):
    pipe = exact("sentiment-analysis", llama, prompt="{text}:", labels=words)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), pipe.tokenizer

    def likelihood(text, word):
        prompt, answer = tokenizer.encode(f"{text}:"), tokenizer.encode(word, add_special_tokens=False)
        scores = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        return sum(scores[len(prompt) - 1 + i, t].item() for i, t in enumerate(answer)) / len(answer)

    pipe.reference_texts = TEXTS[:2]
    mean = {w: sum(likelihood(text, w) for text in TEXTS[:2]) / 2 for w in words.values()}
    for text in TEXTS:
        weights = torch.tensor([likelihood(text, w) - mean[w] for w in words.values()])
        found = {a["label"]: a["score"] for a in pipe(text, top_k=None)}
        assert list(map(found.get, words)) == pytest.approx(weights.softmax(-1).tolist(), abs=1e-5)
        chosen = exact("zero-shot-classification", llama)(text, ["quick", "a dog"], multi_label=True)
        assert set(chosen["labels"]) == {"quick", "a dog"}


def test_a_prompted_label_does_not_depend_on_other_inputs_unless_the_call_says_so(llama):
    pipe, texts = exact("sentiment-analysis", llama, top_k=None, prompt=["{text} =>", "It is {text}:"]), [*"abcdefgh"]

    def scores(answers):
        return [{row["label"]: row["score"] for row in answer} for answer in answers]

    together = scores(pipe(texts))
    for text, own in zip(texts, together, strict=True):
        assert scores([pipe(text)])[0] == pytest.approx(own, abs=1e-5)
    raw = pipe(texts, calibration=False, function_to_apply="none")
    logs = torch.tensor([[row[label] for label in pipe.labels] for row in scores(raw)])
    batch = torch.tensor([[row[label] for label in pipe.labels] for row in scores(pipe(texts, calibration="batch"))])
    torch.testing.assert_close(batch, (logs - logs.mean(0)).softmax(-1), atol=1e-5, rtol=0)
    with pytest.raises(InvalidInput, match="needs 8 at least"):
        pipe(texts[:3], calibration="batch")
    shifted = scores(pipe(texts, calibration=Calibration(2.0, {"POSITIVE": 1.0})))
    for own, other in zip(together, shifted, strict=True):
        odds = [math.log(row["POSITIVE"] / row["NEGATIVE"]) for row in (own, other)]
        assert odds[1] == pytest.approx(odds[0] / 2 + 1, abs=1e-4)
    own = pipe("a", prompt=None, labels=None, function_to_apply="none")
    logs = {row["label"]: row["score"] / pipe.temperature for row in own}
    best = pipe("a", prompt=None)[0]
    rest = sum(math.exp(score - logs[best["label"]]) for score in logs.values())
    assert best["score"] == pytest.approx(1 / rest, abs=1e-5)
    assert pipe("so 👍", emoji_names=True) == pipe("so thumbs up sign")
    with pytest.raises(InvalidInput, match="prompt is a text"):
        pipe(texts, prompt=["no place"])


def test_scores_follow_weights_that_change(llama):
    pipe, fresh = (exact("sentiment-analysis", llama, top_k=None, prompt="{text}:") for _ in range(2))
    before = pipe("a dog")
    for each in (pipe, fresh):
        with torch.no_grad():
            for parameter in each.model.parameters():
                parameter.mul_(1.5)
    assert pipe("a dog") == fresh("a dog") != before


def test_a_language_model_answers_questions(llama):
    reader = exact("question-answering", llama, max_new_tokens=3, prompt="{context} {question}")
    answer = reader(question="Who?", context="The {question} fox")
    assert set(answer) <= {"answer", "start", "end"}
    assert reader([{"question": "Who?", "context": "The {question} fox"}]) == answer
    assert reader(question=["Who?", "What?"], context="The fox")[0] == reader(question="Who?", context="The fox")
    with pytest.raises(InvalidInput, match="context"):
        reader(question="Who?")
    with pytest.raises(InvalidInput, match="one for each"):
        reader(question=["Who?", "What?"], context=["The fox"])


def test_tables_come_in_every_shape(llama):
    pipe = exact("table-question-answering", llama, max_new_tokens=3, prompt="{table} {query}", retriever=None)
    columns = {"name": ["Ann", "Bob"], "age": [31, 52]}
    expected = pipe(table=columns, query="Who?")
    rows = [{"name": "Ann", "age": 31}, {"name": "Bob", "age": 52}]
    for table in (rows, pandas.DataFrame(columns)):
        assert pipe(table=table, query="Who?") == expected
    assert pipe({"table": columns, "query": "Who?"}) == expected
    assert pipe({"table": columns, "query": ["Who?", "When?"]})[0] == expected
    for wrong in ({"table": {"a": [1], "b": []}, "query": "x"}, {"table": {}, "query": "x"}, {"table": columns},
                  {"table": {"a": []}, "query": "x"}, {"table": 7, "query": "x"}):  # fmt: skip
        with pytest.raises(InvalidInput):
            pipe(wrong)


def test_a_prompted_translator_is_told_both_languages(llama):
    pipe = exact("translation_en_to_pt", llama, max_new_tokens=3)
    asked = pipe.tokenizer.decode(
        pipe.preprocess([pipe.validate("The fox", pipe.resolve_options())], pipe.resolve_options())[0][0].ids
    )
    assert "from English to Portuguese" in asked
    with pytest.raises(InvalidInput, match="tgt_lang"):
        exact("translation", llama)("The fox")


def test_a_prompt_takes_its_texts_as_they_are():
    assert fill_prompt("{a} and {b}, {c}", a="{b}", b="x\\1{a}") == "{b} and x\\1{a}, {c}"


def test_what_a_call_says_goes_before_the_tasks_own_entry(llama, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    own = {"text-generation": {"max_length": 9, "repetition_penalty": 3.0}}
    (folder / "config.json").write_text(json.dumps({**config, "task_specific_params": own}))
    pipe, plain = exact("text-generation", folder), exact("text-generation", llama)
    for length in ({"max_new_tokens": 12}, {"max_length": 20}):
        expected = plain("The fox", **length, repetition_penalty=1.0)
        assert pipe("The fox", **length, repetition_penalty=1.0) == expected
        for kind in (multihead.GenerationConfig, transformers.GenerationConfig):
            assert pipe("The fox", generation_config=kind(**length, repetition_penalty=1.0)) == expected
        assert pipe("The fox", **length) == plain("The fox", **length, repetition_penalty=3.0)
    assert pipe("The fox") == plain("The fox", max_length=9, repetition_penalty=3.0)
    own = multihead.GenerationConfig(max_new_tokens=2, repetition_penalty=1.0)
    assert pipe("The fox", generation_config=own, max_length=20) == plain("The fox", max_length=20)


def test_criteria_and_processors_of_ones_own_are_heard_in_a_call(llama):
    pipe = exact("text-generation", llama)
    base = pipe("The fox", return_tensors=True, **GREEDY)[0]["generated_token_ids"].tolist()
    prompt = len(pipe.tokenizer("The fox")["input_ids"])

    class Stop(transformers.StoppingCriteria):
        def __call__(self, ids, scores, **kwargs):
            return torch.full((len(ids),), ids.shape[1] >= prompt + 2)

    stops = transformers.StoppingCriteriaList([Stop()])
    stopped = pipe("The fox", return_tensors=True, stopping_criteria=stops, **GREEDY)
    assert stopped[0]["generated_token_ids"].tolist() == base[: prompt + 2]
    never = transformers.LogitsProcessorList([transformers.SuppressTokensLogitsProcessor([base[prompt]])])
    other = pipe("The fox", return_tensors=True, logits_processor=never, **GREEDY)
    assert other[0]["generated_token_ids"].tolist()[prompt] != base[prompt]


@pytest.mark.parametrize("name", ["return_dict_in_generate", "output_scores", "output_logits"])
def test_what_a_pipeline_has_no_place_for_is_refused(llama, name):
    with pytest.raises(UnsupportedOption, match=f"{name} is not in the output of a pipeline"):
        exact("text-generation", llama)("The fox", **{name: True})


def test_a_draft_model_is_known_by_its_name(llama):
    pipe = exact("text-generation", llama)
    expected = pipe("The fox", **GREEDY)
    assert pipe("The fox", assistant_model=str(llama), **GREEDY) == expected
    assert exact("text-generation", llama, assistant_model=str(llama))("The fox", **GREEDY) == expected
    with pytest.raises(InvalidInput, match="str"):
        pipe.model.generate(torch.tensor([[1, 2]]), assistant_model=str(llama), max_new_tokens=2)


def test_records_say_why_they_ended_if_asked(llama, marian):
    pipe = exact("text-generation", llama)
    ids = pipe("The fox", return_tensors=True, max_new_tokens=8)[0]["generated_token_ids"].tolist()
    text = pipe("The fox", max_new_tokens=8, return_finish_reason=True)[0]
    assert text == {**pipe("The fox", max_new_tokens=8)[0], "finish_reason": "length"}
    ends = pipe("The fox", max_new_tokens=8, eos_token_id=ids[-3], return_finish_reason=True)
    assert ends[0]["finish_reason"] == "stop"
    two = pipe(["The fox", "A dog"], num_beams=2, num_return_sequences=2, max_new_tokens=3, return_finish_reason=True)
    assert [[row["finish_reason"] for row in rows] for rows in two] == [["length"] * 2] * 2
    for task in ("text2text-generation", "summarization", "translation"):
        answer = exact(task, marian)(f"{TEXTS[0]} {TEXTS[2]}", max_new_tokens=2, return_finish_reason=True)
        assert answer[0]["finish_reason"] == "length", task
    assert exact("translation", marian)("", return_finish_reason=True)[0]["finish_reason"] == "stop"
    with pytest.raises(UnsupportedOption, match="finish_reason"):
        exact("question-answering", llama)(question="Who?", context="A dog.", return_finish_reason=True)


def test_a_text_is_cut_before_its_stop_sequence_if_asked(llama):
    pipe = exact("text-generation", llama, return_full_text=False, max_new_tokens=12)
    whole = pipe("The fox")[0]["generated_text"]
    stop = whole[5:8]
    kept = pipe("The fox", stop_sequence=stop, return_finish_reason=True)[0]
    assert stop in kept["generated_text"]
    assert kept["finish_reason"] == "stop"
    options = {"stop_sequence": ["never seen", stop], "include_stop_str_in_output": False}
    assert pipe("The fox", **options)[0]["generated_text"] == whole[: whole.index(stop)]
    streamer = multihead.TextIteratorStreamer(pipe.tokenizer, skip_prompt=True, skip_special_tokens=True)
    pipe("The fox", streamer=streamer, **options)
    assert "".join(streamer) == whole[: whole.index(stop)]
    assert streamer.finish_reason == "stop"
    pipe("The fox", streamer=streamer, max_new_tokens=3)
    assert "".join(streamer) == pipe("The fox", max_new_tokens=3)[0]["generated_text"]  # the option ends with its call
    assert streamer.finish_reason == "length"
    with pytest.raises(UnsupportedOption, match="streamer of text"):
        pipe("The fox", streamer=transformers.TextStreamer(pipe.tokenizer), **options)
    with pytest.raises(InvalidInput, match="whole tokens"):
        pipe("The fox", return_tensors=True, return_full_text=None, **options)


def test_a_text_longer_than_the_model_was_made_for_has_a_notice(llama):
    pipe = exact("text-generation", llama, max_new_tokens=8)
    most = pipe.context_length
    ids = pipe.tokenizer("The quick brown fox " * 100)["input_ids"]
    inside, past = (pipe.tokenizer.decode(ids[:size], skip_special_tokens=True) for size in (most - 40, most - 3))
    answers = pipe([inside, past])
    ((number, text),) = answers.metadata.notices
    assert number == 1
    assert f"made for {most}" in text
    assert pipe("The fox").metadata.notices == []


@pytest.mark.parametrize(
    ("entries", "length"),
    [({}, None), ({"max_position_embeddings": -1}, None), ({"max_position_embeddings": 512}, 512),
     ({"max_position_embeddings": 32, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 128),
     ({"max_position_embeddings": 128, "rope_parameters": {
         "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}}, 128)], ids=str,
)  # fmt: skip
def test_the_context_length_counts_rotary_scaling(entries, length):
    assert context_length(SimpleNamespace(**entries)) == length


@pytest.mark.parametrize(
    "options",
    [{"logits_processor": 5}, {"logits_processor": len}, {"stopping_criteria": [1]}, {"return_finish_reason": "no"},
     {"include_stop_str_in_output": "no"}],
)  # fmt: skip
def test_functions_and_switches_of_a_wrong_type_are_refused(llama, options):
    pipe = exact("text-generation", llama)
    for ask in (lambda: pipe("The fox", **options), lambda: pipe.conversation(**options)):
        with pytest.raises(InvalidInput, match=next(iter(options))):
            ask()
    if "str" not in str(type(next(iter(options.values())))):
        with pytest.raises(InvalidInput, match=next(iter(options))):
            pipe.model.generate([[5]], max_new_tokens=2, **options)


def test_the_field_that_holds_options_is_no_option(llama):
    with pytest.raises(UnsupportedOption, match="generation"):
        exact("text-generation", llama)("The fox", generation={"top_k": 3})
