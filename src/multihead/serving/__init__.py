"""Server: one process that speaks the HTTP interfaces of the field, with a page."""
