"""Geneformer: its dictionaries and its tokenizer, to the letter of the published code."""
