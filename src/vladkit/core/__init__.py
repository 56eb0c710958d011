"""What every room stands on: array types, ragged batches, threads, files, backends."""
