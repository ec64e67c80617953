"""Training tasks: how rows become examples, which objective learns them, and how the result is scored."""
