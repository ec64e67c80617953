"""Chat templates: texts, tokens, a generation prompt, a chat pipeline, and a template of one's own."""

from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

tokenizer = AutoTokenizer.from_pretrained(f"{models}/llama")
model = AutoModelForCausalLM.from_pretrained(f"{models}/llama")
messages = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of France?"},
]
text = tokenizer.apply_chat_template(messages, tokenize=False)
prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
outputs = model.generate(**inputs, max_new_tokens=5, do_sample=False)
reply = tokenizer.decode(outputs[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
found = pipeline("text-generation", model=model, tokenizer=tokenizer)(messages, max_new_tokens=5, do_sample=False)
tokenizer.chat_template = "{% for m in messages %}{{ loop.index }}:{{ m.content }};{% endfor %}"
answer = {
    "text": text,
    "prompt": prompt,
    "ids": inputs["input_ids"].tolist(),
    "reply": reply,
    "chat": found[0]["generated_text"][-1],
    "own": tokenizer.apply_chat_template(messages, tokenize=False),
}
