"""Peers that read texts: each one a process of its own that loads once and then runs a job whenever it is told to.

python benchmarks/encoder_peers.py PEER FOLDER reads a job a line on standard input, JSON with `texts` (lists of ids for
a classifier, strings for sentence vectors), `fixed` (all texts have one length that is known ahead), `seconds` (passes
are repeated until so many are over) and `shown` (answers to give). It answers with a line of JSON: seconds, passes and
the first answers, a row of numbers a text. The peer "roofline" answers with what the machine reaches.

python benchmarks/encoder_peers.py --prepare STEP FOLDER writes a file that peers need into FOLDER, once for all.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Texts = Sequence[Any]  # lists of ids, or strings
Run = Callable[[Texts, bool], Any]  # texts, and whether their one length is fixed; a row of numbers a text
THREADS = os.cpu_count() or 1
ROWS = 32  # texts of a padded batch
ONNX, ONNX_INT8, OPENVINO, OPENVINO_INT8 = "model.onnx", "int8.onnx", "model.xml", "int8.xml"
CALIBRATION = "calibration.json"


def in_batches(texts: Texts, compute: Callable[[np.ndarray, np.ndarray], Any]) -> list[Any]:
    """Answers in the order of the texts; padded batches of alike lengths, with ids and mask (texts, longest)."""
    found: list[Any] = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    for begin in range(0, len(order), ROWS):
        numbers = order[begin : begin + ROWS]
        ids = np.zeros((len(numbers), len(texts[numbers[0]])), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, number in enumerate(numbers):
            length = len(texts[number])
            ids[row, :length], mask[row, :length] = texts[number], 1
        for number, answer in zip(numbers, compute(ids, mask), strict=True):
            found[number] = answer
    return found


def multihead(folder: str, precision: str) -> Run:
    import torch

    from multihead import AutoModelForSequenceClassification
    from multihead.token_batches import batches

    torch.set_num_threads(THREADS)
    model = AutoModelForSequenceClassification.from_pretrained(folder, precision=precision)

    @torch.inference_mode()
    def run(texts: Texts, fixed: bool) -> list[Any]:
        found: list[Any] = [None] * len(texts)
        for numbers in batches([len(text) for text in texts]):
            scores = model.run([texts[number] for number in numbers]).scores
            for number, row in zip(numbers, scores, strict=True):
                found[number] = row
        return found

    return run


def sentence_encoder(folder: str, precision: str) -> Run:
    import torch

    from multihead import SentenceEncoder

    torch.set_num_threads(THREADS)
    encoder = SentenceEncoder.from_pretrained(folder, precision=precision)
    return lambda texts, fixed: encoder.encode(texts)


def reference(folder: str, precision: str, *, compiled: bool = False) -> Run:
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(THREADS)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=kinds()[precision]).eval()
    if compiled:
        import torch._inductor.config as inductor

        inductor.freezing = True
        model = torch.compile(model, dynamic=False)

    def compute(ids: np.ndarray, mask: np.ndarray) -> Any:
        seen = None if mask.all() else torch.from_numpy(mask)  # without a mask, attention is fastest
        return model(input_ids=torch.from_numpy(ids), attention_mask=seen).logits

    def run(texts: Texts, fixed: bool) -> list[Any]:
        with torch.no_grad():  # what freezing asks for
            return in_batches(texts, compute)

    return run


def reference_pipeline(folder: str, precision: str) -> Run:
    """One text after another; the mean of the states is the vector, cut to length 1 as sentence-transformers does."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(THREADS)
    pipe: Any = transformers.pipeline("feature-extraction", folder, dtype=kinds()[precision])
    options = {"truncation": True, "max_length": sentence_limit(folder)}

    def run(texts: Texts, fixed: bool) -> list[Any]:
        found = pipe(list(texts), batch_size=1, return_tensors=True, tokenize_kwargs=options)
        return [torch.nn.functional.normalize(states[0].mean(0), dim=0) for states in found]

    return run


def sentence_transformers(folder: str, precision: str) -> Run:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": kinds()[precision]})
    return lambda texts, fixed: model.encode(list(texts), convert_to_numpy=False)


def onnxruntime(folder: str, precision: str) -> Run:
    import onnxruntime as library

    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    file = Path(folder) / {"fp32": ONNX, "int8": ONNX_INT8}[precision]
    session = library.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def compute(ids: np.ndarray, mask: np.ndarray) -> Any:
        return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    return lambda texts, fixed: in_batches(texts, compute)


def openvino(folder: str, precision: str) -> Run:
    """int8 computes what is not coded in bfloat16. A fixed shape is told to the compiler, as its guide advises."""
    import openvino as library

    core = library.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
    }
    file = str(Path(folder) / (OPENVINO_INT8 if precision == "int8" else OPENVINO))
    ready: dict[Any, Any] = {}

    def compiled(shape: tuple[int, ...] | None) -> Any:
        if shape not in ready:
            model = core.read_model(file)
            if shape:
                model.reshape({place: list(shape) for place in range(2)})
            ready.clear()  # each holds the weights anew
            ready[shape] = core.compile_model(model, "CPU", settings)
        return ready[shape]

    def run(texts: Texts, fixed: bool) -> list[Any]:
        def compute(ids: np.ndarray, mask: np.ndarray) -> Any:
            return compiled(ids.shape if fixed else None)([ids, mask])[0]

        return in_batches(texts, compute)

    return run


def kinds() -> dict[str, Any]:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16}


def sentence_limit(folder: str) -> int:
    """Tokens at which a sentence encoder's texts are cut."""
    return int(json.loads((Path(folder) / "sentence_bert_config.json").read_text())["max_seq_length"])


def peer(name: str, folder: str) -> Run:
    library, precision, *compiled = name.split()
    if library == "reference":
        return reference(folder, precision, compiled=bool(compiled))
    known: dict[str, Callable[[str, str], Run]] = {
        "multihead": multihead,
        "SentenceEncoder": sentence_encoder,
        "pipeline": reference_pipeline,
        "sentence-transformers": sentence_transformers,
        "onnxruntime": onnxruntime,
        "openvino": openvino,
    }
    return known[library](folder, precision)


def roofline() -> dict[str, float]:
    """Operations and bytes a second."""
    import torch

    from multihead.cli.bench.measure import machine_limits

    torch.set_num_threads(THREADS)
    return machine_limits()


def prepare_weights(folder: Path) -> None:
    """A BERT of the base size with random weights, as the reference saves it."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(num_labels=2)).eval().save_pretrained(folder)


def logits_of(folder: Path, attention: str) -> Any:
    """The saved model as a module from ids and mask to logits, which is what exporters take."""
    import torch
    from transformers import BertForSequenceClassification

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = BertForSequenceClassification.from_pretrained(folder, attn_implementation=attention).eval()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    return Logits().eval()


def example() -> tuple[Any, Any]:
    import torch

    ids = torch.arange(1000, 1018).view(2, 9)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask


def prepare_onnx(folder: Path) -> None:
    """Exported as the runtime's optimizer for BERT knows it, which then fuses attention, norms and activations."""
    import torch
    from onnxruntime.transformers.optimizer import optimize_model

    names, plain = ["input_ids", "attention_mask"], folder / "plain.onnx"
    axes = {name: {0: "texts", 1: "tokens"} for name in names}
    torch.onnx.export(
        logits_of(folder, "eager"), example(), str(plain), input_names=names, output_names=["logits"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    fused = optimize_model(str(plain), model_type="bert", num_heads=12, hidden_size=768)
    fused.save_model_to_file(str(folder / ONNX))
    plain.unlink()


def prepare_onnx_int8(folder: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    floats = {"DefaultTensorType": 1}  # of the fused nodes' outputs, which shape inference does not know
    quantize_dynamic(
        str(folder / ONNX), str(folder / ONNX_INT8), per_channel=True, weight_type=QuantType.QInt8, extra_options=floats
    )


def prepare_openvino(folder: Path) -> None:
    import openvino as library
    import torch

    any_shape = ([-1, -1], library.Type.i64)
    with torch.no_grad():
        model = library.convert_model(
            logits_of(folder, "sdpa"), example_input=example(), input=[any_shape, any_shape]
        )  # fmt: skip
    library.save_model(model, str(folder / OPENVINO), compress_to_fp16=False)


def prepare_openvino_int8(folder: Path) -> None:
    """Weights and activations, calibrated on real texts."""
    import nncf
    import openvino as library

    texts = json.loads((folder / CALIBRATION).read_text())
    rows = [np.array([text], dtype=np.int64) for text in texts]
    data = nncf.Dataset([[ids, np.ones_like(ids)] for ids in rows])
    model = library.Core().read_model(str(folder / OPENVINO))
    coded = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
    library.save_model(coded, str(folder / OPENVINO_INT8), compress_to_fp16=False)


STEPS = {
    "weights": prepare_weights,
    "onnx": prepare_onnx,
    "onnx int8": prepare_onnx_int8,
    "openvino": prepare_openvino,
    "openvino int8": prepare_openvino_int8,
}


def numbers(row: Any) -> list[float]:
    """A tensor's or an array's row."""
    return row.float().tolist() if hasattr(row, "float") else np.asarray(row, dtype=np.float32).tolist()


def serve(run: Run, job: dict[str, Any]) -> dict[str, Any]:
    """Runs a job; at least one pass."""
    passes, began = 0, time.perf_counter()
    while not passes or time.perf_counter() - began < job["seconds"]:
        rows = run(job["texts"], job["fixed"])
        passes += 1
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "passes": passes, "rows": [numbers(row) for row in rows[: job["shown"]]]}


def main() -> None:
    if sys.argv[1] == "--prepare":
        STEPS[sys.argv[2]](Path(sys.argv[3]))
        return
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    name, folder = sys.argv[1:3]
    run = None if name == "roofline" else peer(name, folder)
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        answer = roofline() if run is None else serve(run, json.loads(line))
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
