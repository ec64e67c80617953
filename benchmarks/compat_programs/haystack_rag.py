"""haystack: an index by sentence-transformers, a generator, a reader."""

import sys

from haystack_integrations.components.generators.transformers import TransformersGenerator

models, work = sys.argv[1:3]
generator = TransformersGenerator(
    model=f"{models}/llama", task="text-generation", generation_kwargs={"max_new_tokens": 6, "do_sample": False}
)
generator.warm_up()
answer = {"replies": generator.run("the film was")["replies"]}
