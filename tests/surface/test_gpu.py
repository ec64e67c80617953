"""Whole models on a GPU against the same ones on the CPU; nothing here runs where there is none."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import multihead
import multihead.errors
from multihead.kernels.ops import fused_attention
from multihead.kernels.ragged import AttentionMask, SequenceLayout
from multihead.kernels.torch import varlen
from multihead.kernels.torch.attention import attend
from multihead.nn.cache.store import KVCacheManager
from multihead.nn.weights import initialize
from multihead.runtime.cuda_graph_runner import CudaGraphRunner
from tests.kernels.test_gpu import FAMILIES, built

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

TEXTS = [[5, 6, 7], list(range(3, 40)), [9], [21, 22]]


def drawn(model: Any) -> Any:
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def encoder() -> Any:
    config = multihead.BertConfig(
        vocab_size=60, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=64, attention_probs_dropout_prob=0.0,  # which torch's varying-length kernel has not
    )  # fmt: skip
    return drawn(multihead.BertForSequenceClassification(config))


def translator(family: str) -> Any:
    sizes: dict[str, Any] = {"vocab_size": 60, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    if family == "T5":
        sizes |= {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
        return drawn(multihead.T5ForConditionalGeneration(multihead.T5Config(**sizes)))
    sizes |= {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 128,
        "forced_eos_token_id": None,
    }  # fmt: skip
    return drawn(multihead.MarianMTModel(multihead.MarianConfig(**sizes)))


@torch.no_grad()
def test_an_encoder() -> None:
    model = encoder()
    wanted = model.run(TEXTS).scores
    own = copy.deepcopy(model).to("cuda")
    torch.testing.assert_close(own.run(TEXTS).scores.cpu(), wanted, rtol=1e-3, atol=1e-3)
    half = copy.deepcopy(model).to("cuda").prepare("bf16")
    assert half.prepared == "bf16"
    torch.testing.assert_close(half.run(TEXTS).scores.float().cpu(), wanted, rtol=0.1, atol=0.15)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_writes_what_it_writes_on_a_cpu(family: str) -> None:
    model = built(family).cpu()
    options: dict[str, Any] = {"max_new_tokens": 50, "do_sample": False, "pad_token_id": 0}
    wanted = [model.generate([text], **options).tolist() for text in TEXTS]
    model.to("cuda")
    assert [model.generate([text], **options).tolist() for text in TEXTS] == wanted
    assert not CudaGraphRunner.refusal(model, KVCacheManager(model.memories()))


@pytest.mark.parametrize("family", ["T5", "Marian"])
@pytest.mark.parametrize("beams", [1, 4])
def test_a_translator_writes_what_it_writes_on_a_cpu(family: str, beams: int) -> None:
    model = translator(family)
    options: dict[str, Any] = {"max_new_tokens": 30, "num_beams": beams, "do_sample": False}
    wanted = [model.generate([text], **options).tolist() for text in TEXTS]
    model.to("cuda")
    assert [model.generate([text], **options).tolist() for text in TEXTS] == wanted


def test_half_precision_and_joined_weights_score_alike(tmp_path: Path) -> None:
    model = built("Llama").bfloat16()
    joined = copy.deepcopy(model).prepare("bf16")
    with torch.no_grad():
        for text in TEXTS:
            ids = torch.tensor([text], device="cuda")
            torch.testing.assert_close(joined(ids).logits, model(ids).logits, rtol=0.05, atol=0.5)
    assert joined.generate(TEXTS, max_new_tokens=40, pad_token_id=0).shape[0] == len(TEXTS)
    with pytest.raises(multihead.errors.InvalidInput, match="prepared on a GPU"):
        joined.save_pretrained(tmp_path)


def test_draws_are_repeatable() -> None:
    model = built("Llama")
    options: dict[str, Any] = {"max_new_tokens": 20, "do_sample": True, "seed": 3, "pad_token_id": 0}
    assert model.generate(TEXTS, **options).tolist() == model.generate(TEXTS, **options).tolist()


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients(dtype: torch.dtype, causal: bool, window: int | None) -> None:
    runs = SequenceLayout.packed((30, 1, 50))
    wide = [torch.randn(81, heads, 32, device="cuda", requires_grad=True) for heads in (4, 2, 2)]
    own = [x.detach().to(dtype).requires_grad_() for x in wide]
    weight = torch.randn(81, 4, 32, device="cuda")
    for parts, way in ((wide, attend), (own, fused_attention)):
        (way(*parts, AttentionMask(runs, runs, causal, window), scale=0.2).float() * weight).sum().backward()
    bound = 1e-4 if dtype == torch.float32 else 0.06
    for a, b in zip(wide, own, strict=True):
        torch.testing.assert_close(b.grad.float(), a.grad, rtol=bound, atol=bound)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier learns which of two words a text has, and a run goes on from a checkpoint."""
    draw = torch.Generator().manual_seed(0)
    rows = [
        {"input_ids": [3 + n % 2, *torch.randint(10, 50, (n,), generator=draw).tolist()], "labels": n % 2}
        for n in torch.randint(2, 20, (128,), generator=draw).tolist()
    ]
    passes, learned = [], varlen.attention
    monkeypatch.setattr(varlen, "attention", lambda *a: passes.append(a[0].dtype) or learned(*a))
    half = {} if precision == "fp32" else {precision: True}

    def run(epochs: int) -> Any:
        arguments = multihead.TrainingArguments(
            tmp_path, num_train_epochs=epochs, per_device_train_batch_size=16, learning_rate=3e-3, warmup_steps=8,
            save_strategy="epoch", disable_tqdm=True, report_to="none", lr_scheduler_type="constant", **half,
        )  # fmt: skip
        model = encoder()
        torch.manual_seed(0)
        initialize(model, 0.05)
        return multihead.Trainer(model, arguments, train_dataset=rows)

    trainer = run(6)
    trainer.train()
    assert trainer.model.device.type == "cuda"
    on = run(10)
    on.train(resume_from_checkpoint=True)
    assert on.state.global_step == 80
    assert on.state.log_history[-1]["train_loss"] < 0.6
    assert set(passes) == {"fp32": set(), "bf16": {torch.bfloat16}, "fp16": {torch.float16}}[precision]
