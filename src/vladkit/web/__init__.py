"""The page and the HTTP API of ``vladkit serve``: FastAPI and uvicorn, the extra ``web``.

`engine` works on the collection, `app` is the API over it, `guard` stands before both, `connection`
and `server` are the way in.
"""
