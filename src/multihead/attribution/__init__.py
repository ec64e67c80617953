"""Attribution of answers to the tokens of an input: gradients, integrated gradients, leave-one-out."""
