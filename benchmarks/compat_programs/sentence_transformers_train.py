"""sentence-transformers: train a bi-encoder with an evaluator, save, load, encode."""

import sys

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

models, work = sys.argv[1:3]
texts = ["the film was a joy", "a dull plot", "where does the river begin", "anna lives in berlin"]
others = ["a joy from the first scene", "a cast that does not care", "in the mountains", "she works for a bank"]
rows = Dataset.from_dict({"anchor": texts * 4, "positive": others * 4})
model = SentenceTransformer(f"{models}/bert", device="cpu")
args = SentenceTransformerTrainingArguments(
    output_dir=work,
    max_steps=4,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    logging_steps=1,
    eval_strategy="steps",
    eval_steps=2,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
)
evaluator = EmbeddingSimilarityEvaluator(texts, others, [0.9, 0.1, 0.5, 0.3])
loss = MultipleNegativesRankingLoss(model)
trainer = SentenceTransformerTrainer(
    model=model, args=args, train_dataset=rows, eval_dataset=rows, loss=loss, evaluator=evaluator
)
trainer.train()
model.save_pretrained(f"{work}/saved")
again = SentenceTransformer(f"{work}/saved", device="cpu")
history = [
    {k: v for k, v in one.items() if k in ("loss", "eval_loss", "eval_spearman_cosine")}
    for one in trainer.state.log_history
]
answer = {"losses": history, "vectors": again.encode(texts).tolist()}
