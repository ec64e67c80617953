"""langchain-huggingface: a pipeline as a model (invoke, batch, stream), a chat model, embeddings."""

import sys

from langchain_huggingface import ChatHuggingFace, HuggingFaceEmbeddings, HuggingFacePipeline

models, work = sys.argv[1:3]
options = {"max_new_tokens": 8, "do_sample": False}
model = HuggingFacePipeline.from_model_id(model_id=f"{models}/llama", task="text-generation", pipeline_kwargs=options)
texts = [model.invoke("the film was"), *model.batch(["a dull", "where does"])]
pieces = list(model.stream("the film was", stop=None))
bound = model.bind(pipeline_kwargs={"max_new_tokens": 3, "do_sample": False}).invoke("the film was")
chat = ChatHuggingFace(llm=model).invoke("what is the capital of France?").content
embeddings = HuggingFaceEmbeddings(model_name=f"{models}/bert", model_kwargs={"device": "cpu"})
vectors = [embeddings.embed_query("the film"), *embeddings.embed_documents(["a joy", "a bank in Paris"])]
answer = {"texts": texts, "stream": "".join(pieces), "bound": bound, "chat": chat, "vectors": vectors}
