"""A program's own models and configs: the same classes over both libraries, each reading what the other saved."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

import multihead
from multihead.errors import CheckpointMismatch, InvalidInput, MissingHead, UnknownModel, UnsupportedOption

TINY = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 10}
IDS, MASK = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])


def define(library: Any) -> SimpleNamespace:
    """Define the classes of a program, as tutorials write them, over one library."""
    outputs = import_module(f"{library.__name__}.modeling_outputs")

    class Tagger(library.BertPreTrainedModel):
        def __init__(self, config, scale=1.0):
            super().__init__(config)
            self.num_labels, self.scale = config.num_labels, scale
            self.bert = library.BertModel(config)
            self.tagger = nn.Linear(config.hidden_size, config.num_labels)
            self.register_buffer("seen", torch.ones(3))
            self.post_init()

        def forward(self, input_ids=None, attention_mask=None, labels=None):
            states = self.bert(input_ids, attention_mask=attention_mask).pooler_output
            logits = self.tagger(states) * self.scale
            loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
            return outputs.SequenceClassifierOutput(loss=loss, logits=logits)

    class RowConfig(library.PretrainedConfig):
        model_type = "rows"

        def __init__(self, width=4, depth=2, **more):
            self.width, self.depth = width, depth
            super().__init__(**more)

    class RowModel(library.PreTrainedModel):
        config_class = RowConfig
        base_model_prefix = "body"

        def __init__(self, config):
            super().__init__(config)
            self.layers = nn.ModuleList([nn.Linear(config.width, config.width) for _ in range(config.depth)])
            self.norm = nn.BatchNorm1d(config.width)
            self.post_init()

        def _init_weights(self, module):
            if isinstance(module, nn.Linear):
                module.weight.data.fill_(0.5)

        def forward(self, x):
            for layer in self.layers:
                x = torch.relu(layer(x))
            return self.norm(x)

    class RowClassifier(library.PreTrainedModel):
        config_class = RowConfig
        base_model_prefix = "body"

        def __init__(self, config):
            super().__init__(config)
            self.body, self.head = RowModel(config), nn.Linear(config.width, config.num_labels)
            self.post_init()

        def forward(self, x, labels=None):
            return self.head(self.body(x))

    return SimpleNamespace(library=library, Tagger=Tagger, Config=RowConfig, Model=RowModel, Classifier=RowClassifier)


OURS, THEIRS = define(multihead), define(transformers)
WAYS = [pytest.param(OURS, THEIRS, id="to-the-reference"), pytest.param(THEIRS, OURS, id="from-the-reference")]


@pytest.fixture(scope="module", autouse=True)
def registered():
    for side in (OURS, THEIRS):
        side.library.AutoConfig.register("rows", side.Config)
        side.library.AutoModel.register(side.Config, side.Model)
        side.library.AutoModelForSequenceClassification.register(side.Config, side.Classifier)


@pytest.mark.parametrize(("one", "other"), WAYS)
def test_a_head_on_a_familys_model_is_saved_and_read(one, other, tmp_path):
    model = one.Tagger(one.library.BertConfig(**TINY, num_labels=3)).eval()
    model.save_pretrained(tmp_path)
    same = other.Tagger.from_pretrained(tmp_path)
    torch.testing.assert_close(same(IDS, MASK).logits, model(IDS, MASK).logits)
    scaled = other.Tagger.from_pretrained(tmp_path, scale=2.0)
    torch.testing.assert_close(scaled(IDS, MASK).logits, 2 * model(IDS, MASK).logits)
    assert isinstance(same, other.library.PreTrainedModel)
    assert isinstance(same, other.library.BertPreTrainedModel)
    assert not isinstance(same, other.library.LlamaPreTrainedModel)
    assert (other.Tagger.base_model_prefix, same.base_model is same.bert) == ("bert", True)
    same.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again/model.safetensors").keys() == load_file(tmp_path / "model.safetensors").keys()
    wider = other.Tagger.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert wider(IDS).logits.shape == (2, 5)


@pytest.mark.parametrize(("one", "other"), WAYS)
def test_a_head_is_drawn_anew_on_a_checkpoint_without_it(one, other, tmp_path):
    config = one.library.BertConfig(**TINY)
    for name in ("BertForMaskedLM", "BertModel"):
        base = getattr(one.library, name)(config).eval()
        base.save_pretrained(tmp_path / name)
        if other is OURS:
            with pytest.warns(UserWarning, match=r"tagger\.weight.*newly initialized"):
                model = other.Tagger.from_pretrained(tmp_path / name)
            assert set(model.new_weights) >= {"tagger.weight", "tagger.bias"}
        else:
            model = other.Tagger.from_pretrained(tmp_path / name)
        states = base(IDS, MASK, output_hidden_states=True).hidden_states[-1]
        found, real = model.bert(IDS, MASK).last_hidden_state, MASK.bool()
        torch.testing.assert_close(found[real], states[real])
        assert 0 < model.tagger.weight.std() < 0.1
        assert model(IDS).logits.isfinite().all()


@pytest.mark.parametrize(("one", "other"), WAYS)
def test_plain_modules_with_a_config_of_their_own_are_registered(one, other, tmp_path):
    rows = torch.randn(5, 4)
    model = one.Classifier(one.Config(num_labels=3, depth=1)).eval()
    assert (model.body.layers[0].weight == 0.5).all()
    model.save_pretrained(tmp_path / "head")
    one.Model(one.Config(depth=1)).save_pretrained(tmp_path / "base")
    config = other.library.AutoConfig.from_pretrained(tmp_path / "head")
    assert (type(config), config.depth, config.num_labels) == (other.Config, 1, 3)
    classify = other.library.AutoModelForSequenceClassification
    same = classify.from_pretrained(tmp_path / "head")
    assert type(same) is other.Classifier
    torch.testing.assert_close(same(rows), model(rows))
    body = other.library.AutoModel.from_pretrained(tmp_path / "head")  # without the head, and its prefix
    torch.testing.assert_close(body(rows), model.body(rows))
    headed = classify.from_pretrained(tmp_path / "base", num_labels=7)
    assert (headed.body.layers[0].weight == 0.5).all()
    assert headed(rows).shape == (5, 7)
    assert type(other.library.AutoModel.from_config(other.Config())) is other.Model


@pytest.mark.parametrize("side", [OURS, THEIRS], ids=["multihead", "reference"])
def test_what_registration_refuses(side):
    class Other(side.library.PretrainedConfig):
        model_type = "other"

    for wrong in (
        lambda: side.library.AutoConfig.register("rows2", side.Config),
        lambda: side.library.AutoConfig.register("bert", side.library.BertConfig),
        lambda: side.library.AutoModel.register(Other, side.Model),
        lambda: side.library.AutoModelForMaskedLM.from_config(side.Config()),
    ):
        with pytest.raises(ValueError, match=r"rows2|bert|Other|RowConfig|AutoModelForMaskedLM"):
            wrong()
    side.library.AutoConfig.register("rows", side.Config, exist_ok=True)


@pytest.mark.parametrize("library", [multihead, transformers], ids=["multihead", "reference"])
def test_a_config_of_ones_own_keeps_its_entries(library, tmp_path):
    class Mine(library.BertConfig):
        model_type = "my-bert"

        def __init__(self, factor=2.0, **more):
            super().__init__(**more)
            self.factor = factor

    class Annotated(library.PretrainedConfig):
        model_type = "annotated"
        attribute_map = {"hidden_size": "width"}
        width: int = 4

    config = Mine(factor=3.0, hidden_size=24, num_labels=3, note="text")
    config.added = [1]
    config.save_pretrained(tmp_path)
    same = Mine.from_pretrained(tmp_path, factor=5.0)
    assert (same.factor, same.hidden_size, same.num_labels, same.note, same.added) == (5.0, 24, 3, "text", [1])
    assert Mine.from_dict(config.to_dict()).to_dict() == config.to_dict()
    assert config.to_diff_dict()["factor"] == 3.0
    same.num_labels = 4
    assert len(same.id2label) == 4
    named = Annotated(width=7, output_attentions=True)
    assert (named.hidden_size, named.width, named.output_attentions) == (7, 7, True)
    assert Annotated.from_dict(named.to_dict()).width == 7
    assert library.BertConfig(output_attentions=True, use_cache=False).use_cache is False
    assert library.GPT2Config(hidden_size=48).n_embd == 48


def test_a_familys_class_with_a_config_of_ones_own(tmp_path):
    class Mine(multihead.BertConfig):
        model_type = "scaled-bert"

        def __init__(self, factor=2.0, **more):
            super().__init__(**more)
            self.factor = factor

    class Scaled(multihead.BertForSequenceClassification):
        config_class = Mine

        def forward(self, *inputs, **more):
            output = super().forward(*inputs, **more)
            output.logits = output.logits * self.config.factor
            return output

    model = Scaled(Mine(factor=3.0, **TINY)).eval()
    model.save_pretrained(tmp_path)
    same = Scaled.from_pretrained(tmp_path)
    assert same.config.factor == 3.0
    torch.testing.assert_close(same(IDS).logits, model(IDS).logits)
    with pytest.raises(UnsupportedOption, match="hidden_size cannot be set"):
        same.config.hidden_size = 3
    multihead.AutoConfig.register("scaled-bert", Mine)
    multihead.AutoModelForSequenceClassification.register(Mine, Scaled)
    assert type(multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path)) is Scaled
    assert type(multihead.AutoModel.from_pretrained(tmp_path)).__name__ == "BertModel"


def test_an_own_model_trains_in_loops_and_under_the_trainer(tmp_path):
    torch.manual_seed(0)
    rows = [{"input_ids": IDS[i % 2], "attention_mask": MASK[i % 2], "labels": i % 2, "other": 1} for i in range(8)]
    model = OURS.Tagger(multihead.BertConfig(**TINY))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        losses.append(model(IDS, MASK, labels=torch.tensor([0, 1])).loss)
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    settings = {"output_dir": str(tmp_path), "max_steps": 2, "report_to": [], "per_device_train_batch_size": 4}
    trainer = multihead.Trainer(
        model=model, args=multihead.TrainingArguments(**settings), train_dataset=rows,
        data_collator=multihead.default_data_collator,
    )  # fmt: skip
    trainer.train()
    trainer.save_model(tmp_path / "final")
    same = OURS.Tagger.from_pretrained(tmp_path / "final")
    torch.testing.assert_close(same(IDS).logits, model.eval()(IDS).logits)
    assert trainer.predict(rows).predictions.shape == (8, 2)


def test_what_an_own_model_refuses(tmp_path):
    model = OURS.Tagger(multihead.BertConfig(**TINY))
    with pytest.raises(InvalidInput, match="no model by itself"):
        multihead.PreTrainedModel(multihead.BertConfig(**TINY))
    with pytest.raises(MissingHead, match="a program's own class"):
        model.generate(IDS)
    with pytest.raises(UnsupportedOption, match="own class"):
        model.prepare()
    model.save_pretrained(tmp_path)

    class Wider(OURS.Tagger):
        def __init__(self, config):
            super().__init__(config)
            self.more = nn.Linear(2, 2)

    class Narrow(multihead.BertPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.bert = multihead.BertModel(config, add_pooling_layer=False)

    Wider.__name__ = "Tagger"  # a file of this class lacks a part of it
    with pytest.raises(CheckpointMismatch, match=r"more\.weight"):
        Wider.from_pretrained(tmp_path)
    with pytest.raises(CheckpointMismatch, match=r"tagger\.weight.*(?s:.*)ignore="):
        Narrow.from_pretrained(tmp_path)
    assert Narrow.from_pretrained(tmp_path, ignore="^(tagger|seen)").bert(IDS).pooler_output is None
    with pytest.raises(UnsupportedOption, match="not quantized"):
        OURS.Tagger.from_pretrained(tmp_path, load_in_8bit=True)
    with pytest.raises(UnknownModel, match="AutoModelForMaskedLM: no class is registered"):
        multihead.AutoModelForMaskedLM.from_config(OURS.Config())
    assert model(IDS).loss is None
    assert model.bert(IDS, head_mask=None).pooler_output is not None
    with pytest.raises(TypeError, match="head_mask"):
        model.bert(IDS, head_mask=torch.ones(1))
    assert "labels" in inspect.signature(model.forward).parameters
    model.resize_token_embeddings(12)
    assert (model.config.vocab_size, model.get_input_embeddings().num_embeddings) == (12, 12)
