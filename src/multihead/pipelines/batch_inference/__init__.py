"""Answers for files of rows: parts that are written whole, engines that compute them."""
