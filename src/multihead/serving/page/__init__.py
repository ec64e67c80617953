"""The page at /: sources in plain HTML, CSS and JavaScript, and the build of one self-contained file."""
