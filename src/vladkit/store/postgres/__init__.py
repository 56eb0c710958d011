"""Collections in PostgreSQL with pgvector: written from a file, and searched as one."""
