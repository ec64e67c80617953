"""Decoding strategies: each is a generator that asks for forward passes and yields tokens."""
