"""From scores to texts. This room drives anything that reads tokens and scores what follows; it knows no model."""
