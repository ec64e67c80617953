"""What is read of a row and what is left is told, and what belongs to an example is not left without a word."""

from __future__ import annotations

import datasets
import pytest

from multihead.errors import InvalidInput
from multihead.training.arguments import TrainingArguments
from multihead.training.data import causal_lm, preference, sentence_pairs, text_classification
from multihead.training.data.causal_lm import CausalLMOptions
from multihead.training.data.text_classification import TextClassificationOptions
from multihead.training.reporting.model_card import model_card
from multihead.training.reporting.run_summary import summarize_run
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS

OPTIONS = {
    causal_lm: causal_lm.CausalLMOptions,
    preference: preference.PreferenceOptions,
    text_classification: text_classification.TextClassificationOptions,
    sentence_pairs: sentence_pairs.SentencePairOptions,
}
CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
TEMPLATE = "{% for m in messages %}{{m['role']}}: {{m['content']}};{% endfor %}"


@pytest.mark.parametrize(("module", "row", "left"), [
    (causal_lm, {"instruction": "Translate.", "input": "cat", "output": "chat"}, "input"),
    (causal_lm, {"instruction": "Who?", "context": "Bob did it.", "response": "Bob"}, "context"),
    (causal_lm, {"system": "In French.", "prompt": "Hi", "completion": " Salut"}, "system"),
    (causal_lm, {"system": "In French.", "messages": CHAT}, "system"),
    (causal_lm, {"instruction": "Who?", "text": "Bob"}, "instruction"),
    (preference, {"system": "In French.", "question": "Hi", "chosen": " Salut", "rejected": " Hello"}, "system"),
    (text_classification, {"title": "T", "text": "body", "label": "a"}, "title"),
    (sentence_pairs, {"sentence1": "a", "sentence2": "b", "sentence3": "c"}, "sentence3"),
    (sentence_pairs, {"premise": "a", "hypothesis": "b", "negative": "c"}, "negative"),
])  # fmt: skip
def test_a_part_of_an_example_is_not_left_without_a_word(module, row, left, bytes_bpe, wordpiece):
    tokenizer = wordpiece if module in (text_classification, sentence_pairs) else bytes_bpe
    more = {"chat_template": TEMPLATE} if module is causal_lm else {}
    rows = [row, {**row, **({"label": "b"} if "label" in row else {})}]
    with pytest.raises(InvalidInput, match=f"Row 0 has the column {left} in addition to .*ignore_columns"):
        module.prepare(rows, tokenizer, OPTIONS[module](**more))
    found = module.prepare(rows, tokenizer, OPTIONS[module](ignore_columns=[left], **more))
    assert found.dropped == (left,)
    assert f"Columns read: {', '.join(found.read)}; not read: {left}." in found.notes
    empty = [{**one, left: ""} for one in rows]
    assert len(module.prepare(empty, tokenizer, OPTIONS[module](**more))) == 2


def test_a_part_that_only_later_rows_have_is_found(bytes_bpe):
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "input": "c", "output": "b"}]
    with pytest.raises(InvalidInput, match="Row 1 has the column input"):
        causal_lm.prepare(rows, bytes_bpe, CausalLMOptions())


def test_columns_that_a_user_names_are_all_that_is_wanted(wordpiece):
    rows = [{"title": "T", "text": "the fox", "label": label} for label in ("a", "b")]
    found = text_classification.prepare(rows, wordpiece, TextClassificationOptions(text_column="text"))
    assert found.read == ("text", "label")
    assert found.dropped == ("title",)


def test_questions_with_sentences_are_pairs(wordpiece):
    rows = [{"question": "the fox", "sentence": "a dog", "label": label} for label in (0, 1)]
    found = text_classification.prepare(rows, wordpiece, TextClassificationOptions())
    assert found[0]["input_ids"].tolist() == wordpiece("the fox", "a dog")["input_ids"]


NAMES = ["entailment", "neutral", "contradiction"]


def inferred(label):
    return [{"premise": "the fox", "hypothesis": f"a dog {n}", "label": label(n)} for n in range(3)]


@pytest.mark.parametrize("options", [{}, {"loss": "contrastive"}, {"problem_type": "single_label_classification"}])
@pytest.mark.parametrize("kind", ["names", "numbers", "classes"])
def test_classes_are_no_scores_of_likeness(bert, tmp_path, kind, options):
    rows = inferred((lambda n: NAMES[n]) if kind == "names" else int)
    if kind == "classes":
        kinds = {name: datasets.Value("string") for name in ("premise", "hypothesis")}
        kinds["label"] = datasets.ClassLabel(names=NAMES)
        rows = datasets.Dataset.from_list(rows, features=datasets.Features(kinds))
    with pytest.raises(InvalidInput, match="label of the data has classes, such as"):
        similar(bert, tmp_path, rows, options).train()


def similar(bert, place, rows, options=(), **settings):
    settings = {**SETTINGS, "max_steps": 6, "save_strategy": "no", **settings}
    return Trainer(
        bert,
        TrainingArguments(place, **settings),
        train_dataset=rows,
        task="sentence-similarity",
        options=dict(options),
    )


PAIRS = [{"anchor": f"the fox {n}", "positive": f"a dog {n}"} for n in range(4)]


@pytest.mark.parametrize(("rows", "options", "message"), [
    ([{**row, "score": 1.0} for row in PAIRS], {}, "All rows have the score 1, .*nothing to order"),
    ([{**row, "label": 1} for row in PAIRS], {}, "All rows have the score 1"),
    ([{**row, "negative": "x", "score": n / 4} for n, row in enumerate(PAIRS)], {}, "3 texts and a score"),
    ([{**row, "score": n / 4} for n, row in enumerate(PAIRS)], {"loss": "contrastive"}, "whatever its score"),
    (PAIRS, {"loss": "cosent"}, "needs a column of scores"),
])  # fmt: skip
def test_a_loss_that_reads_no_scores_or_has_nothing_to_read_is_refused(bert, tmp_path, rows, options, message):
    with pytest.raises(InvalidInput, match=message):
        similar(bert, tmp_path, rows, options).train()


def test_a_run_without_a_loss_and_a_gradient_is_no_success(bert, tmp_path):
    run = similar(bert, tmp_path, PAIRS, per_device_train_batch_size=1)
    with pytest.raises(InvalidInput, match=r"Nothing is learned: the loss .contrastive.*first 5 steps"):
        run.train()


def test_whole_numbers_are_scores_where_a_user_says_so(bert, tmp_path):
    run = similar(bert, tmp_path, inferred(int), {"problem_type": "regression"})
    assert run.features(run.train_dataset, training=True).numbers["labels"].tolist() == [0, 1, 2]


def test_a_card_tells_the_loss_and_the_columns(bert, tmp_path):
    run = similar(bert, tmp_path, [{**row, "id": 7} for row in PAIRS])
    card = model_card(summarize_run(run))
    assert "The loss is contrastive." in card
    assert "Columns read: anchor, positive; not read: id." in card


def test_a_files_name_stays_as_it_is_written(tmp_path, wordpiece):
    place = tmp_path / "test.csv"
    place.write_text("text,label\na,x\nb,y\n")
    with pytest.raises(InvalidInput, match=r"no column 'body', which text_column names, in test\.csv\."):
        text_classification.prepare(place, wordpiece, TextClassificationOptions(text_column="body"))
