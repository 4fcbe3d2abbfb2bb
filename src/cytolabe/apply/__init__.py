"""A model applied to a snapshot: the views that it is handed, and the embeddings that it gives."""
