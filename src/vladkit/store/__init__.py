"""The collection file (SQLite): blocks of vectors, features, exact and approximate search."""
