"""llama-index: embeddings and a language model."""

import sys

from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.llms.huggingface import HuggingFaceLLM

models, work = sys.argv[1:3]
embedding = HuggingFaceEmbedding(model_name=f"{models}/bert", device="cpu", max_length=64)
llm = HuggingFaceLLM(
    model_name=f"{models}/llama",
    tokenizer_name=f"{models}/llama",
    device_map="cpu",
    max_new_tokens=8,
    context_window=128,
    generate_kwargs={"do_sample": False},
)
pieces = [one.delta for one in llm.stream_complete("the film was")]
answer = {
    "vector": embedding.get_text_embedding("the film"),
    "vectors": embedding.get_text_embedding_batch(["a joy", "a bank"]),
    "text": llm.complete("the film was").text,
    "stream": "".join(pieces),
}
