"""Parts that several families share: the registry, the Architecture recipe, key-map helpers."""
