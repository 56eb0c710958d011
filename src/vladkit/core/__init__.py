"""Foundations of every room: array types, parameters, ragged batches, threads, files, backends."""
