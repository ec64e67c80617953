"""DeBERTa, v2 and v3."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .more_encoders import of

ENDS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
BOTH = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}


def case(name: str, *ends: str, version: str = "Deberta", segments: int = 0, **changes: Any) -> Case:
    # The reference does not compute the first version in bfloat16.
    settings = {**BOTH, "type_vocab_size": segments, **changes}
    return Case(
        name, of(version, **settings), ends or ENDS, absolute=True, segments=segments, half=version != "Deberta"
    )


def newer(name: str, *ends: str, **changes: Any) -> Case:
    return case(name, *(ends or (*ENDS, "ForMultipleChoice")), version="DebertaV2", **changes)


CASES = (
    case("deberta"),
    case("deberta-words-with-distances", "Model", "ForMaskedLM", pos_att_type=["c2p"], max_relative_positions=5,
         position_biased_input=True, segments=2),
    case("deberta-distances-with-words", "Model", pos_att_type=["p2c"]),
    case("deberta-absolute", "Model", relative_attention=False, pos_att_type=None, position_biased_input=True),
    case("deberta-own-word-head", "ForMaskedLM", legacy=False),
    newer("deberta-v2-convolved", position_buckets=4, norm_rel_ebd="layer_norm", share_att_key=True,
          conv_kernel_size=3, conv_act="gelu", segments=2, max_relative_positions=9),
    newer("deberta-v2-grouped-convolution", "Model", conv_kernel_size=5, conv_groups=4, max_relative_positions=4),
    newer("deberta-v3", position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=True),
    newer("deberta-v3-untied-own-word-head", "ForMaskedLM", position_buckets=4, legacy=False),
    newer("deberta-v2-untied", "ForMaskedLM", tie_word_embeddings=False, pos_att_type=["c2p"]),
)  # fmt: skip
