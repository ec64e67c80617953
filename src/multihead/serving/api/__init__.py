"""HTTP interfaces, one file or folder each: request bodies, routes, responses."""
