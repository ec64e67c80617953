"""Every format that is read from files: the good folder, the files that are damaged, how, and what reading gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

import multihead
from multihead import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from tests.tokenizers import folders

from . import mutations, row_files
from .mutations import Mutated

IDS = torch.tensor([[5, 9, 14, 3, 30]])
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
DECODER = {**SIZES, "num_key_value_heads": 1, "max_position_embeddings": 64, "eos_token_id": None}
TEXTS = ["The quick fox", "Straße 12, é"]
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}{% if x is defined %}{{ x }}{% endif %}"


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Args:
        make: writes the good folder. damaged: names of the files that are changed, one at a time.
        mutate: gives other bytes. read: what a user gets of the folder, as numbers and texts. after: is done to the
        damaged folder. says: what another reader gets of it.
    """

    name: str
    make: Callable[[Path], None]
    damaged: tuple[str, ...]
    mutate: Callable[[Random, bytes], Mutated]
    read: Callable[[Path], Any]
    after: Callable[[Path], None] = lambda folder: None
    says: Callable[[Path], Any] | None = None


def drawn(model: Any) -> Any:
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def classifier(folder: Path) -> None:
    folders.wordpiece(folder)
    config = multihead.BertConfig(**SIZES, vocab_size=300, max_position_embeddings=24, num_labels=3)
    drawn(multihead.BertForSequenceClassification(config)).save_pretrained(folder)


def llama(folder: Path) -> None:
    folders.bytes_bpe(folder, "GPT2", chat_template=CHAT)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = multihead.LlamaConfig(**DECODER, vocab_size=len(tokenizer))
    drawn(multihead.LlamaForCausalLM(config)).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
    entries = {"max_new_tokens": 4, "do_sample": False, "repetition_penalty": 1.2, "pad_token_id": 0, "top_k": 5,
               "bad_words_ids": [[7]], "no_repeat_ngram_size": 3, "suppress_tokens": [3], "num_beams": 2}  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(entries))


FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"vocab_size": 60, **SIZES, "max_position_embeddings": 24},
    "llama": {"vocab_size": 60, **DECODER, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "t5": {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
    "gpt2": {"vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24},
    "mamba": {"vocab_size": 60, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2},
    "mixtral": {"vocab_size": 60, **DECODER, "num_local_experts": 4},
    "gemma2": {"vocab_size": 60, **DECODER, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8},
    "deepseek_v2": {
        "vocab_size": 60, **SIZES, "num_key_value_heads": 2, "kv_lora_rank": 8, "q_lora_rank": None,
        "n_routed_experts": 4,
        "qk_rope_head_dim": 8, "v_head_dim": 8, "qk_nope_head_dim": 8, "moe_intermediate_size": 8, "n_group": 1,
        "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_shared_experts": 1,
    },
    "bart": {"vocab_size": 60, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 24},
    "deberta-v2": {"vocab_size": 60, **SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
                   "position_buckets": 8, "max_position_embeddings": 24, "share_att_key": True},
    "longformer": {"vocab_size": 60, **SIZES, "attention_window": [4, 4], "max_position_embeddings": 24},
    "albert": {"vocab_size": 60, "embedding_size": 8, **SIZES, "max_position_embeddings": 24},
    "modernbert": {"vocab_size": 60, **SIZES, "local_attention": 4, "max_position_embeddings": 24},
    "xlnet": {"vocab_size": 60, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24},
    "distilbert": {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24,
                   "max_position_embeddings": 24},
    "falcon": {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True},
    "bloom": {"vocab_size": 60, "hidden_size": 16, "n_layer": 2, "n_head": 2},
    "qwen3_moe": {"vocab_size": 60, **DECODER, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2,
                  "moe_intermediate_size": 8},
    "gpt_oss": {"vocab_size": 60, **DECODER, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "mamba2": {"vocab_size": 60, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "num_heads": 4,
               "head_dim": 8, "n_groups": 1, "chunk_size": 4},
    "falcon_h1": {"vocab_size": 60, **DECODER, "head_dim": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8,
                  "mamba_d_state": 4, "mamba_n_groups": 1},
    "big_bird": {"vocab_size": 60, **SIZES, "attention_type": "original_full", "max_position_embeddings": 24},
    "esm": {"vocab_size": 60, **SIZES, "position_embedding_type": "rotary", "max_position_embeddings": 24},
    "mpt": {"vocab_size": 60, "d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 24},
}  # fmt: skip


def families(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            torch.manual_seed(1)
            config = AutoConfig.for_model(name, **FAMILIES[name])
            drawn(AutoModel.from_config(config)).save_pretrained(folder / name)

    return make


def numbers(*tensors: torch.Tensor) -> list[Any]:
    return [tuple(t.shape) for t in tensors] + [t.detach().float().flatten()[:400].numpy().round(4) for t in tensors]


def states(folder: Path) -> Any:
    """Hidden states of the one family whose folder is there."""
    model = AutoModel.from_pretrained(next(path for path in folder.iterdir() if path.is_dir()))
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    return numbers(model(input_ids=IDS, **more).last_hidden_state)


def labels(folder: Path) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    return numbers(model(input_ids=IDS).logits)


def prepared(precision: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        classifier(folder)
        AutoModelForSequenceClassification.from_pretrained(folder, precision=precision).save_pretrained(folder)

    return make


def next_words(folder: Path) -> Any:
    return numbers(AutoModelForCausalLM.from_pretrained(folder)(input_ids=IDS).logits)


def written(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).generate(IDS, max_new_tokens=4).tolist()


def ids_of(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    return [ids, [tokenizer.decode(row[:50], skip_special_tokens=skip) for row in ids for skip in (True, False)]]


def chatted(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "x"}], tokenize=False
    )


def wordpiece(folder: Path) -> None:
    folders.wordpiece(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"[NEW]": 300, "[X]": 301}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"unk_token": "[UNK]", "mask_token": {"content": "[MASK]", "lstrip": True}})
    )


def single(folder: Path) -> None:
    folders.bytes_bpe(folder, "GPT2", chat_template=[{"name": "default", "template": CHAT}])
    settings = {"added_tokens_decoder": {"400": {"content": "<new>", "special": True}}, "pad_token": "<|endoftext|>",
                "additional_special_tokens": ["<a>"], "padding_side": "right", "clean_up_tokenization_spaces": False,
                "extra_special_tokens": {"image_token": "<image>"}}  # fmt: skip
    path = folder / "tokenizer_config.json"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)


def pieces(kind: str, model: str, name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        options: dict[str, Any] = {"train": {"byte_fallback": True, "vocab_size": 600}} if kind == "Llama" else {}
        folders.pieces(folder, name, kind, model, **options)

    return make


def as_gguf(folder: Path) -> None:
    from multihead.modeling.gguf_export import save_gguf

    llama(folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for path in folder.iterdir():
        path.unlink()
    save_gguf(model, tokenizer, folder / "model.gguf", "F32")


def of_gguf(folder: Path) -> Any:
    path = folder / "model.gguf"
    model = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    return [*numbers(model(input_ids=IDS).logits), [tokenizer(text)["input_ids"] for text in TEXTS]]


def torch_file(folder: Path) -> None:
    classifier(folder)
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def shards(folder: Path) -> None:
    classifier(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.save_pretrained(folder, max_shard_size=4000)


def marian(folder: Path) -> None:
    from .marian_file import write

    write(folder / "model.bin")


def of_marian(folder: Path) -> Any:
    from multihead import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "model.bin")
    return numbers(model(input_ids=IDS, decoder_input_ids=IDS).logits)


def adapter(folder: Path) -> None:
    (folder / "base").mkdir()
    classifier(folder / "base")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "base")
    model.add_adapter(multihead.LoraConfig(r=2, target_modules=["query", "value"]))
    drawn(model).save_pretrained(folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "base"}))


def adapted(folder: Path) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(folder / "base")
    model.load_adapter(folder)
    return numbers(model(input_ids=IDS).logits)


def sentences(folder: Path) -> None:
    from multihead import SentenceEncoder
    from multihead.sentences import steps

    folders.wordpiece(folder)
    config = multihead.BertConfig(**SIZES, vocab_size=300, max_position_embeddings=24)
    drawn(multihead.BertModel(config)).save_pretrained(folder)
    transformer = SentenceEncoder.from_pretrained(folder)
    more = [steps.Pooling(16), drawn(steps.Dense(16, 6, torch.nn.Tanh())), steps.Normalize(6)]
    SentenceEncoder(transformer.model, transformer.tokenizer, more, prompts={"query": "q: "}).save_pretrained(folder)


def vectors(folder: Path) -> Any:
    from multihead import SentenceEncoder

    encoder = SentenceEncoder.from_pretrained(folder)
    return numbers(torch.as_tensor(encoder.encode(TEXTS, convert_to_tensor=True)))


def run(folder: Path) -> None:
    trainer(folder, 2).train()


def trainer(folder: Path, steps: int) -> Any:
    from tests.training import runs

    return runs.trainer(folder, runs.examples(16), max_steps=steps, save_steps=2, logging_steps=10)


def sealed(folder: Path) -> None:
    """Writes the manifest anew, so that what is damaged is read."""
    from multihead.training.checkpointing import folders as checkpoints

    path = folder / "checkpoint-2"
    (path / "checkpoint.json").unlink()
    checkpoints._write_manifest(path)


def resumed(folder: Path) -> Any:
    made = trainer(folder, 3)
    made.train(resume_from_checkpoint=folder / "checkpoint-2")
    return numbers(*(parameter for _, parameter in made.model.named_parameters()))


def schema(folder: Path) -> None:
    (folder / "schema.json").write_text(json.dumps({
        "type": "object", "required": ["a"], "properties": {
            "a": {"type": "string", "maxLength": 4, "pattern": "^[a-z]+$"}, "b": {"enum": [1, "x", None]},
            "c": {"type": "array", "items": {"$ref": "#/$defs/d"}, "maxItems": 2}},
        "$defs": {"d": {"type": "integer", "minimum": 0, "maximum": 9}}, "additionalProperties": False,
    }))  # fmt: skip
    llama(folder)


def of_form(folder: Path) -> Any:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = (folder / "schema.json").read_text(encoding="utf-8", errors="surrogateescape")
    return model.generate(
        IDS, json_schema=text, tokenizer=tokenizer, max_new_tokens=3, num_beams=1, eos_token_id=0
    ).tolist()


def template(folder: Path) -> None:
    llama(folder)
    (folder / "chat_template.jinja").write_text(CHAT)


TREE = mutations.json_tree
FORMATS: tuple[Format, ...] = (
    Format("config.json", families(*FAMILIES), ("config.json",), TREE, states),
    Format("classifier's config.json", classifier, ("config.json",), TREE, labels),
    Format("generation_config.json", llama, ("generation_config.json",), TREE, written),
    Format("model.safetensors", classifier, ("model.safetensors",), mutations.safetensors, labels),
    Format("shards' index", shards, ("model.safetensors.index.json",), TREE, labels),
    Format("prepared, int8", prepared("int8"), ("prepared.safetensors",), mutations.safetensors, labels),
    Format("prepared, int4", prepared("int4"), ("prepared.safetensors",), mutations.safetensors, labels),
    Format("prepared, bf16", prepared("bf16"), ("prepared.safetensors",), mutations.safetensors, labels),
    Format("pytorch_model.bin", torch_file, ("pytorch_model.bin",), mutations.archive, labels),
    Format("GGUF", as_gguf, ("model.gguf",), mutations.gguf, of_gguf),
    Format("Marian's binary", marian, ("model.bin",), mutations.header(2600), of_marian),
    Format("tokenizer.json", single, ("tokenizer.json",), TREE, ids_of),
    Format("tokenizer_config.json", single, ("tokenizer_config.json",), TREE, ids_of),
    Format("vocab.txt and its files", wordpiece,
           ("vocab.txt", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"),
           lambda random, data: (TREE if data[:1] == b"{" else mutations.text)(random, data), ids_of),
    Format("vocab.json and merges.txt", lambda folder: folders.bytes_bpe(folder, "Roberta") and None,
           ("vocab.json", "merges.txt"),
           lambda random, data: (TREE if data[:1] == b"{" else mutations.text)(random, data), ids_of),
    Format("SentencePiece, T5", pieces("T5", "unigram", "spiece.model"), ("spiece.model",), mutations.protobuf, ids_of),
    Format("SentencePiece, Llama", pieces("Llama", "bpe", "tokenizer.model"), ("tokenizer.model",),
           mutations.protobuf, ids_of),
    Format("SentencePiece, XLM-R", pieces("XLMRoberta", "unigram", "sentencepiece.bpe.model"),
           ("sentencepiece.bpe.model",), mutations.protobuf, ids_of),
    Format("chat template", template, ("chat_template.jinja",), mutations.template, chatted),
    Format("adapter_config.json", adapter, ("adapter_config.json",), TREE, adapted),
    Format("adapter's weights", adapter, ("adapter_model.safetensors",), mutations.safetensors, adapted),
    Format("sentence-transformers", sentences,
           ("modules.json", "1_Pooling/config.json", "2_Dense/config.json", "sentence_bert_config.json",
            "config_sentence_transformers.json"), TREE, vectors),
    Format("dense step's weights", sentences, ("2_Dense/model.safetensors",), mutations.safetensors, vectors),
    Format("training checkpoint, sealed", run,
           ("checkpoint-2/run.json", "checkpoint-2/trainer_state.json", "checkpoint-2/optimizer.safetensors",
            "checkpoint-2/checkpoint.json", "checkpoint-2/config.json"),
           lambda random, data: (TREE if data[:1] == b"{" else mutations.safetensors)(random, data), resumed, sealed),
    Format("rows of JSON", row_files.table("rows.json"), ("rows.json",), lambda *given: (TREE(*given)[0], True),
           row_files.rows_of, says=row_files.says),
    Format("rows of JSON lines", row_files.table("rows.jsonl"), ("rows.jsonl",), mutations.text, row_files.rows_of,
           says=row_files.says),
    Format("rows of CSV", row_files.table("rows.csv"), ("rows.csv",), mutations.text, row_files.rows_of,
           says=row_files.says),
    Format("rows of Parquet", row_files.table("rows.parquet"), ("rows.parquet",), mutations.header(4000),
           row_files.rows_of, says=row_files.says),
    Format("JSON schema", schema, ("schema.json",), lambda *given: (TREE(*given)[0], True), of_form),
)  # fmt: skip


def alike(one: Any, other: Any) -> bool:
    """Whether two readings gave the same."""
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.shape == other.shape
            and bool(np.allclose(one, other, atol=1e-3, equal_nan=True))
        )
    if isinstance(one, (list, tuple)):
        same = isinstance(other, (list, tuple)) and len(one) == len(other)
        return same and all(alike(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
