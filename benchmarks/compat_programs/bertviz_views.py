"""bertviz: the attention of a model as HTML."""

import re
import sys

from bertviz import head_view, model_view
from transformers import AutoModel, AutoTokenizer

models, work = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(f"{models}/bert")
model = AutoModel.from_pretrained(f"{models}/bert", output_attentions=True)
batch = tokenizer("the film was a joy", "a dull plot", return_tensors="pt")
attention = model(**batch).attentions
tokens = tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
pages = [view(attention, tokens, html_action="return").data for view in (head_view, model_view)]
numbers = [[round(float(x), 4) for x in re.findall(r"0\.\d{6,}", page)[:40]] for page in pages]
answer = {"numbers": numbers, "shapes": [list(one.shape) for one in attention]}
