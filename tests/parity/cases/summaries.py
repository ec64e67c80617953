"""Relatives of BART for summaries: MVP, BigBird-Pegasus and Pegasus-X."""

from __future__ import annotations

from functools import partial

from ..case import Case
from .seq2seq import BART_ENDS, READERS, bart, ended

SPARSE = {"block_size": 3, "num_random_blocks": 1, "decoder_start_token_id": 2}
EVEN = (30, 30, 30)  # the reference chooses between sparse and full by the padded length

CASES = (
    Case("mvp", partial(bart, "Mvp"), BART_ENDS, absolute=True),
    Case("mvp-source-as-target", partial(bart, "Mvp"), READERS, absolute=True, extra=ended),
    # The reference shows weights by distance, not by place.
    Case("bigbird-pegasus", partial(bart, "BigBirdPegasus", **SPARSE), BART_ENDS[:2], absolute=True, lengths=EVEN,
         left_out=("encoder_attentions",), loss=False),
    Case("bigbird-pegasus-full", partial(bart, "BigBirdPegasus", attention_type="original_full", use_bias=True,
                                         scale_embedding=False), BART_ENDS, absolute=True),
    Case("bigbird-pegasus-source-as-target", partial(bart, "BigBirdPegasus", attention_type="original_full"), READERS,
         absolute=True, extra=ended),
    # The reference shows weights and the last states of its encoder in another form.
    Case("pegasus-x", partial(bart, "PegasusX", block_size=4, num_global_tokens=3), BART_ENDS[:2], absolute=True,
         left_out=("encoder_attentions", "encoder_hidden_states")),
    Case("pegasus-x-even", partial(bart, "PegasusX", block_size=3, num_global_tokens=2, stagger_local_blocks=False,
                                   scale_embedding=False, tie_word_embeddings=False), BART_ENDS[1:2], absolute=True,
         left_out=("encoder_attentions", "encoder_hidden_states"), loss=False),
)  # fmt: skip
