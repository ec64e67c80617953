"""translation: a text in another language, sentence by sentence, with its layout, names and numbers kept."""
