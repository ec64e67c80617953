"""Training jobs, one a task: how rows become examples, which objective is trained, and which metrics are computed."""
