"""Collections in Lance: a folder, or a prefix of an object store, that several may write at once.

Three datasets of Lance, each with its versions: ``about`` (values, and folders of images),
``array`` and ``image``. A commit replaces a version with the next one or fails, whoever else
writes.
"""
