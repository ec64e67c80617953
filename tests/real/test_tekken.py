"""Mistral's real tekken.json files, from its own package."""

from __future__ import annotations

import shutil

import pytest

from multihead import AutoTokenizer
from tests.tokenizers.folders import TEXTS

from .test_real_weights import fetched

pytestmark = pytest.mark.real
DATA = "pypi:mistral_common==1.13.1/mistral_common/data"
IDS = {  # text -> as mistral_common's own reader encodes it
    "The quick brown fox, 1969!": [1784, 7586, 22980, 94137, 1044, 1032, 1049, 1057, 1054, 1057, 1033],
    "  naïve  Grüße\n\n東京 \t½ helloWORLD": [
        1032, 98355, 1032, 3564, 1671, 9755, 1267, 18629, 1032, 1009, 28504, 52528, 1087, 64921,
    ],
    "def f(x):\n    return x ** 2  # 😀": [
        3149, 1284, 4790, 3640, 1293, 1850, 2460, 1603, 1032, 1050, 1032, 2569, 119685, 1152, 1128,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ["tekken_240718.json", "tekken_240911.json"])
def test_mistrals_tokenizers_give_their_own_ids(tmp_path, name):
    shutil.copy(fetched(f"{DATA}/{name}"), tmp_path / "tekken.json")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 131072
    for text, ids in IDS.items():
        assert tokenizer(text).input_ids == ids
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<s>[INST]a</s>").input_ids == [1, 3, 1097, 2]
