"""Small things under the reference's names compute what the reference computes."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np
import pytest
import torch
import transformers
from transformers import optimization as reference_optimization
from transformers.generation import logits_process as reference_logits

import multihead
import tokenizers
from multihead.compat import logits, schedules, tensors, training_names

BOTH = {"num_warmup_steps": 3, "num_training_steps": 12}
SCHEDULES = [
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.5}),
    ("cosine_with_restarts", {"num_cycles": 2}),
    ("polynomial", {"power": 2.0, "lr_end": 1e-4}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 5}),
    ("cosine_with_min_lr", {"min_lr": 1e-3}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2}),
    ("warmup_stable_decay", {"num_decay_steps": 4}),
    ("warmup_stable_decay", {"num_decay_steps": 4, "num_stable_steps": 2, "min_lr_ratio": 0.1, "decay_type": "1-sqrt"}),
]


def rates(module, name, options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = module.get_scheduler(name, optimizer, scheduler_specific_kwargs=dict(options), **BOTH)
    found = []
    for _ in range(16):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
@pytest.mark.filterwarnings("ignore:Both num_training_steps")
def test_schedules_are_the_references(name, options):
    assert rates(schedules, name, options) == pytest.approx(rates(reference_optimization, name, options), abs=1e-12)


def test_a_schedule_says_what_it_needs():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    with pytest.raises(ValueError, match="num_training_steps"):
        multihead.get_scheduler("linear", optimizer, num_warmup_steps=1)
    with pytest.raises(ValueError, match="polynomial"):
        multihead.get_scheduler("none of them", optimizer)
    with pytest.raises(multihead.MultiheadError, match="greedy"):
        multihead.get_scheduler(multihead.SchedulerType.GREEDY, optimizer)


def test_set_seed_gives_the_references_numbers():
    drawn = []
    for library in (transformers, multihead):
        library.set_seed(7)
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Model:
    name: str
    size: int | None = None
    rates: list[float] = field(default_factory=lambda: [0.5])
    fast: bool = False
    save_all: bool = True
    maybe: bool | None = None
    color: Color = Color.RED
    mode: Literal["a", "b", 3] = "a"
    report: dict | str | None = field(default=None, metadata={"help": "where", "aliases": ["-r"]})


@dataclass
class Data:
    rows: int = 4
    made: int = field(init=False, default=9)


LINES = [
    "--name x",
    "--name x --size 3 --rates 0.1 0.2 --fast --no_save_all --color blue --mode 3 -r here --rows 2",
    "--name x --fast false --save-all no --maybe yes --save_all",
    "--name=x --no-save-all --maybe 0",
]


@pytest.mark.parametrize("line", LINES)
def test_command_lines_become_the_references_dataclasses(line):
    words = line.split()
    parsers = [library.HfArgumentParser((Model, Data)) for library in (transformers, multihead)]
    assert parsers[1].parse_args_into_dataclasses(words) == parsers[0].parse_args_into_dataclasses(words)


def test_other_words_dicts_and_files(tmp_path, monkeypatch):
    parser = multihead.HfArgumentParser(Data)
    assert parser.parse_args_into_dataclasses(["--rows", "2", "--x"], return_remaining_strings=True) == (
        Data(2),
        ["--x"],
    )
    with pytest.raises(ValueError, match="--x"):
        parser.parse_args_into_dataclasses(["--x"])
    assert parser.parse_dict({"rows": 3}) == (Data(3),)
    with pytest.raises(ValueError, match="colour"):
        parser.parse_dict({"rows": 3, "colour": 1})
    assert parser.parse_dict({"rows": 3, "colour": 1}, allow_extra_keys=True) == (Data(3),)
    (tmp_path / "data.json").write_text('{"rows": 5}')
    assert parser.parse_json_file(tmp_path / "data.json") == (Data(5),)
    (tmp_path / "run.args").write_text("--rows 6")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "run.py")])
    assert parser.parse_args_into_dataclasses() == (Data(6),)
    assert parser.parse_args_into_dataclasses(["--rows", "7"]) == (Data(7),)


def test_training_arguments_on_a_command_line():
    parser = multihead.HfArgumentParser(multihead.TrainingArguments)
    words = "--output_dir o --evaluation_strategy epoch --overwrite_output_dir --learning_rate 1e-3 --fp16 false"
    (found,) = parser.parse_args_into_dataclasses([*words.split(), "--lr_scheduler_kwargs", '{"num_cycles": 2}'])
    assert (found.output_dir, found.eval_strategy, found.learning_rate) == ("o", "epoch", 1e-3)
    assert found.lr_scheduler_kwargs == {"num_cycles": 2}
    with pytest.raises(multihead.MultiheadError, match="neftune_noise_alpha"):
        parser.parse_args_into_dataclasses(["--output_dir", "o", "--neftune_noise_alpha", "5"])


IDS = torch.tensor([[1, 2, 3, 1, 2], [4, 4, 4, 5, 6]])
SCORES = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
PROCESSORS = [
    ("TemperatureLogitsWarper", (0.7,)),
    ("TopKLogitsWarper", (3,)),
    ("TopKLogitsWarper", (3, -50.0)),
    ("TopPLogitsWarper", (0.5, -float("inf"), 2)),
    ("MinPLogitsWarper", (0.3,)),
    ("TopHLogitsWarper", (0.4,)),
    ("TypicalLogitsWarper", (0.6,)),
    ("EpsilonLogitsWarper", (0.1,)),
    ("EtaLogitsWarper", (0.1,)),
    ("LogitNormalization", ()),
    ("InfNanRemoveLogitsProcessor", ()),
    ("RepetitionPenaltyLogitsProcessor", (1.5,)),
    ("RepetitionPenaltyLogitsProcessor", (1.5, 3)),
    ("EncoderRepetitionPenaltyLogitsProcessor", (1.5, IDS)),
    ("NoRepeatNGramLogitsProcessor", (2,)),
    ("MinLengthLogitsProcessor", (6, 2)),
    ("MinNewTokensLengthLogitsProcessor", (3, 4, [2, 3])),
    ("SuppressTokensLogitsProcessor", ([1, 7],)),
    ("SuppressTokensAtBeginLogitsProcessor", ([1, 7], 5)),
    ("ForcedBOSTokenLogitsProcessor", (4,)),
    ("ForcedEOSTokenLogitsProcessor", (6, 4)),
    ("SequenceBiasLogitsProcessor", ([[[2], 1.5], [[1, 2, 3], -2.0]],)),
    ("NoBadWordsLogitsProcessor", ([[3], [1, 2, 7]], 3)),
    ("PrefixConstrainedLogitsProcessor", (lambda row, ids: [row, int(ids[-1])], 1)),
    ("ExponentialDecayLengthPenalty", ((1, 1.2), 3, 2)),
]


@pytest.mark.parametrize(("name", "arguments"), PROCESSORS)
def test_processors_give_the_references_scores(name, arguments):
    scores = SCORES.clone()
    if name == "InfNanRemoveLogitsProcessor":
        scores[0, :3] = torch.tensor([float("inf"), -float("inf"), float("nan")])
    expected = getattr(reference_logits, name)(*arguments)(IDS, scores.clone())
    torch.testing.assert_close(getattr(logits, name)(*arguments)(IDS, scores.clone()), expected)


def test_a_list_of_processors_runs_all_of_them():
    halves = multihead.LogitsProcessorList([logits.TemperatureLogitsWarper(2.0), logits.TemperatureLogitsWarper(2.0)])
    torch.testing.assert_close(halves(IDS, SCORES), SCORES / 4)


def test_stopping_criteria():
    found = multihead.StoppingCriteriaList([multihead.MaxLengthCriteria(6), multihead.EosTokenCriteria([2, 9])])
    assert found(IDS, None).tolist() == [True, False]
    assert found.max_length == 6
    assert multihead.MaxLengthCriteria(5)(IDS, None).tolist() == [True, True]
    assert multihead.MaxTimeCriteria(0.0, initial_timestamp=0.0)(IDS, None).all()


def test_helpers_of_training_programs(tmp_path):
    from transformers import pytorch_utils, trainer_pt_utils, trainer_utils

    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert training_names.get_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    metrics = {"eval_loss": 1.0, "eval_f1": 0.5, "eval_runtime": 3.0, "epoch": 2}
    for given in (metrics, {"eval_loss": 1.0, "epoch": 2}):
        assert training_names.default_compute_objective(given) == trainer_utils.default_compute_objective(given)
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    asked = (layers, [torch.nn.LayerNorm], ["bias"])
    assert training_names.get_parameter_names(*asked) == trainer_pt_utils.get_parameter_names(*asked)
    one, two = np.arange(4).reshape(2, 2), np.arange(3).reshape(1, 3)
    np.testing.assert_array_equal(tensors.nested_concat(one, two), trainer_pt_utils.nested_concat(one, two))
    pruned = [library.prune_linear_layer(layers[0], torch.tensor([1]), dim=1) for library in (tensors, pytorch_utils)]
    torch.testing.assert_close(pruned[0].weight, pruned[1].weight)
    mine, theirs = tensors.ACT2FN["gelu_new"], transformers.activations.ACT2FN["gelu_new"]
    torch.testing.assert_close(mine(SCORES), theirs(SCORES))


def test_older_names_warn_and_work():
    parameter = torch.nn.Parameter(torch.zeros(1))
    with pytest.warns(FutureWarning, match="AdamW"):
        optimizer = multihead.AdamW([parameter], lr=0.1)
    assert (optimizer.defaults["eps"], optimizer.defaults["weight_decay"]) == (1e-6, 0.0)
    with pytest.raises(multihead.MultiheadError, match="correct_bias"):
        multihead.AdamW([parameter], correct_bias=False)
    with pytest.warns(FutureWarning, match="top_k_top_p"):
        kept = multihead.top_k_top_p_filtering(SCORES, top_k=3, top_p=0.7)
    both = [logits.TopKLogitsWarper(3), logits.TopPLogitsWarper(0.7)]
    torch.testing.assert_close(kept, multihead.LogitsProcessorList(both)(IDS, SCORES))


def test_lines_of_a_file_are_cut(tmp_path):
    (tmp_path / "lines.txt").write_text("one two\n\nthree\n")
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "one": 1, "two": 2}, unk_token="?"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = multihead.PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.warns(FutureWarning, match="LineByLine"):
        rows = multihead.LineByLineTextDataset(tokenizer, str(tmp_path / "lines.txt"), block_size=2)
    assert [row["input_ids"].tolist() for row in rows] == [[1, 2], [0]]


def test_parts_of_test_programs():
    from multihead.testing_utils import CaptureLogger, CaptureStdout, nested_simplify, require_torch
    from multihead.testing_utils import require_no_such_package as absent

    logger = multihead.logging.get_logger("multihead.compat.captured")
    with CaptureLogger(logger) as said, CaptureStdout() as shown:
        logger.warning("a word")
        sys.stdout.write("a line")
    assert (said.out, shown.out) == ("a word\n", "a line")
    assert nested_simplify({"a": [torch.tensor(0.12345)]}) == {"a": [0.123]}
    assert not hasattr(require_torch(type("One", (), {})), "__unittest_skip__")
    assert absent(type("Other", (), {})).__unittest_skip__


def test_a_column_of_a_data_set_is_what_a_pipeline_reads():
    from multihead.pipelines.pt_utils import KeyDataset

    rows = KeyDataset([{"text": "a"}, {"text": "b"}], "text")
    assert (len(rows), rows[1], list(rows)) == (2, "b", ["a", "b"])


def test_parts_of_training_loops_are_the_references():
    from transformers import trainer_pt_utils as theirs
    from transformers.models.llama import modeling_llama

    from multihead.compat import loops

    scores = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[1, 2, -100, 4, 5], [6, 0, 1, -100, -100]])
    for more in ({}, {"shift_labels": True}, {"num_items_in_batch": 4}):
        losses = [module.LabelSmoother(0.2)({"logits": scores}, labels, **more) for module in (loops, theirs)]
        torch.testing.assert_close(losses[0], losses[1])
    lengths = torch.randint(1, 50, (45,), generator=torch.Generator().manual_seed(2)).tolist()
    orders = [
        list(module.LengthGroupedSampler(4, lengths=lengths, generator=torch.Generator().manual_seed(3)))
        for module in (loops, theirs)
    ]
    assert orders[0] == orders[1]
    q, k = scores[None, :, :, :6], scores[None, :, :, 1:]
    cos, sin = torch.rand(1, 5, 6), torch.rand(1, 5, 6)
    turned = [module.apply_rotary_pos_emb(q, k, cos, sin) for module in (loops, modeling_llama)]
    torch.testing.assert_close(turned[0], turned[1])
    torch.testing.assert_close(loops.repeat_kv(q, 3), modeling_llama.repeat_kv(q, 3))
    layer = torch.nn.Linear(1, 1)
    assert loops.unwrap_model(torch.nn.DataParallel(layer)) is loops.unwrap_model(layer) is layer
