"""Models that are made ready for inference: precisions, what they refuse, and files of prepared weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import multihead
from multihead import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification
from multihead.errors import CheckpointMismatch, CorruptFile, InvalidInput, MultiheadError, UnsupportedOption
from multihead.kernels.cpu import native
from multihead.kernels.quantization.registry import PRECISIONS
from multihead.nn.own_names import own_parameters
from multihead.runtime.prepare import products

TEXTS = [[2, 5, 6, 7, 3], [2, 8, 3]]
PACKED = [name for name, row in PRECISIONS.items() if row.weights is not None and not row.needs_file]
BOUNDS = {"fp32": 0.0, "bf16": 0.05, "int8": 0.2}


def scores(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.run(TEXTS).scores.float()


@pytest.mark.parametrize(("precision", "bound"), [(name, BOUNDS.get(name, 0.9)) for name in ("fp32", *PACKED)])
def test_every_precision_stays_near_the_model(classifier, precision, bound):
    plain = AutoModelForSequenceClassification.from_pretrained(classifier)
    made = AutoModelForSequenceClassification.from_pretrained(classifier, precision=precision, dtype="float32")
    assert made.prepared == precision
    assert made.dtype is torch.float32 or native.library() is None
    assert made.num_parameters() == plain.num_parameters()
    apart = (scores(made) - scores(plain)).abs().max() / scores(plain).abs().max()
    assert apart <= bound
    assert apart > 0 or precision == "fp32"


def test_auto_is_what_the_hardware_multiplies_best(classifier):
    made = AutoModelForSequenceClassification.from_pretrained(classifier).prepare()
    assert (made.prepared, made.dtype) in (("bf16", torch.bfloat16), ("fp32", torch.float32))


@pytest.mark.parametrize("precision", ["fp32", *PACKED])
def test_prepared_weights_are_saved_and_mapped(classifier, tmp_path, precision):
    made = AutoModelForSequenceClassification.from_pretrained(classifier, precision=precision)
    made.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "prepared.safetensors"]
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.prepared == precision
    assert torch.equal(scores(again), scores(made))
    assert again.config.id2label == made.config.id2label
    wide = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert wide.dtype is torch.float32


def test_tied_word_scores_are_saved_too(llama, tmp_path):
    made = multihead.AutoModelForCausalLM.from_pretrained(llama, precision="int4")
    made.save_pretrained(tmp_path)
    again = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    one, other = (m.generate([[5, 6, 7]], max_new_tokens=5, do_sample=False) for m in (made, again))
    assert torch.equal(one, other)


def test_plain_weights_take_the_place_of_prepared_ones(classifier, tmp_path):
    AutoModelForSequenceClassification.from_pretrained(classifier, precision="int8").save_pretrained(tmp_path)
    AutoModelForSequenceClassification.from_pretrained(classifier).save_pretrained(tmp_path)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).prepared is None


@pytest.fixture
def saved(classifier: Path, tmp_path: Path) -> Path:
    AutoModelForSequenceClassification.from_pretrained(classifier, precision="int8").save_pretrained(tmp_path)
    return tmp_path


def test_prepared_weights_of_another_class_or_precision_are_refused(saved):
    with pytest.raises(UnsupportedOption, match="BertForSequenceClassification"):
        AutoModel.from_pretrained(saved)
    with pytest.raises(UnsupportedOption, match="prepared in int8"):
        AutoModelForSequenceClassification.from_pretrained(saved, precision="int4")
    with pytest.raises(UnsupportedOption, match="prepared in int8"):
        AutoModelForSequenceClassification.from_pretrained(saved, load_in_4bit=True)


def test_prepared_weights_that_do_not_fit_are_refused(saved):
    path = saved / "prepared.safetensors"
    tensors = load_file(path)
    told = {
        "format": "multihead-prepared", "version": "2", "precision": "int8", "packed": "True", "dtype": "float32",
        "class": "BertForSequenceClassification",
    }  # fmt: skip
    name = next(name for name in tensors if name.endswith("codes"))
    save_file({**tensors, name: tensors[name][:-1].clone(), "more": torch.ones(1)}, path, told)
    with pytest.raises(CheckpointMismatch, match="more") as caught:
        AutoModelForSequenceClassification.from_pretrained(saved)
    assert name in str(caught.value)
    save_file(tensors, path, {**told, "version": "9"})
    with pytest.raises(CorruptFile, match="Prepare the model again"):
        AutoModelForSequenceClassification.from_pretrained(saved)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CorruptFile):
        AutoModelForSequenceClassification.from_pretrained(saved)


@pytest.mark.parametrize("precision", ["fp32", *PACKED])
def test_prepared_weights_of_another_dtype_are_refused(classifier, tmp_path, precision):
    model = AutoModelForSequenceClassification.from_pretrained(classifier, precision=precision)
    model.save_pretrained(tmp_path)
    path = tmp_path / "prepared.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    with safe_open(path, "pt") as file:
        told = file.metadata()
    for name, tensor in tensors.items():
        for kind in {torch.int8, torch.uint8, torch.float16, torch.float32, torch.float64} - {tensor.dtype}:
            save_file({**tensors, name: tensor.to(kind)}, path, told)
            with pytest.raises(CheckpointMismatch, match="mistyped") as caught:
                AutoModelForSequenceClassification.from_pretrained(tmp_path)
            assert name in str(caught.value)


@pytest.mark.parametrize(
    "entry", [("dtype", "int8"), ("dtype", "nn"), ("precision", "int2"), ("packed", "yes"), ("kinds", "["),
              ("kinds", '{"": "int9"}'), ("kinds", "[1]"), ("kinds", '{"backbone": "int4"}'), ("class", "Tokenizer")]
)  # fmt: skip
def test_prepared_weights_that_say_what_cannot_be_are_refused(saved, entry):
    path = saved / "prepared.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    with safe_open(path, "pt") as file:
        told = file.metadata()
    save_file(tensors, path, {**told, entry[0]: entry[1]})
    with pytest.raises(MultiheadError):
        AutoModelForSequenceClassification.from_pretrained(saved)
    save_file(tensors, path, {key: value for key, value in told.items() if key != entry[0]})
    if entry[0] != "kinds":
        with pytest.raises(MultiheadError):
            AutoModelForSequenceClassification.from_pretrained(saved)


@pytest.mark.skipif(native.library() is None, reason="no native kernels here")
def test_the_kernels_get_no_product_whose_tensors_have_another_layout(classifier):
    for name in ("codes", "scales", "minima", "offsets", "norm_weight", "after_weight"):
        model = AutoModelForSequenceClassification.from_pretrained(classifier, precision="int8")
        found = [product for product in products(model) if getattr(product, name) is not None]
        for product in found[:1]:
            held = getattr(product, name)
            other = torch.float16 if held.dtype == torch.float32 else torch.int16
            for wrong in (held.to(other), held[:-1].clone(), held.repeat(2)[::2], None):
                product._apply(lambda x: x)  # addresses are made anew
                setattr(product, name, wrong)
                if wrong is None and name in ("offsets", "norm_weight", "after_weight"):
                    continue  # these may be missing
                with pytest.raises(InvalidInput, match=name):
                    _ = product.address


def test_what_needs_the_weights_is_refused(classifier, tmp_path):
    made = AutoModelForSequenceClassification.from_pretrained(classifier, precision="int8")
    with pytest.raises(InvalidInput, match="prepared"):
        made.prepare("int8")
    with pytest.raises(InvalidInput, match="prepared"):
        made.add_adapter(multihead.LoraConfig())
    rows = [{"text": "a", "label": 0}]
    trainer = multihead.Trainer(made, multihead.TrainingArguments(tmp_path, report_to="none"), train_dataset=rows)
    with pytest.raises(InvalidInput, match="prepared"):
        trainer.train()


def test_wrong_options_are_refused(classifier):
    with pytest.raises(UnsupportedOption, match="int9"):
        AutoModelForMaskedLM.from_pretrained(classifier, precision="int9")
    for name in (8, None, torch.int8):
        with pytest.raises(UnsupportedOption, match="is none of auto, fp32, bf16, int8, int4, gguf"):
            AutoModelForMaskedLM.from_pretrained(classifier).prepare(name)
    with pytest.raises(UnsupportedOption, match="training"):
        AutoModel.from_pretrained(classifier, precision="int8", load_in_8bit=True)
    adapted = AutoModelForSequenceClassification.from_pretrained(classifier)
    adapted.add_adapter(multihead.LoraConfig())
    with pytest.raises(InvalidInput, match="merge_adapters"):
        adapted.prepare("int8")


def test_an_adapter_is_merged_where_its_model_is_prepared(classifier, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(classifier)
    model.add_adapter(multihead.LoraConfig(base_model_name_or_path=str(classifier)))
    for name, parameter in own_parameters(model):
        if "lora" in name.lower() or parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.eval().save_pretrained(tmp_path)
    made = AutoModelForSequenceClassification.from_pretrained(tmp_path, precision="bf16", dtype=torch.float32)
    assert made.adapters is None
    assert any(products(made)) or native.library() is None
    apart = (scores(made) - scores(model)).abs().max() / scores(model).abs().max()
    assert apart < 0.05


@pytest.mark.parametrize("precision", PACKED)
def test_without_kernels_torch_computes_the_same(classifier, precision, monkeypatch):
    made = AutoModelForSequenceClassification.from_pretrained(classifier, precision=precision, dtype=torch.float32)
    expected = scores(made)
    monkeypatch.setattr(native, "library", lambda: None)
    assert (scores(made) - expected).abs().max() <= 0.02 * expected.abs().max()
    again = AutoModelForSequenceClassification.from_pretrained(classifier, precision=precision)
    assert again.prepared == precision
