"""One SQLite file of pictures and their vectors: writing, reading, ranking."""
