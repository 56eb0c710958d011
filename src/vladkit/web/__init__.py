"""The page and the HTTP API of ``vladkit serve``: FastAPI and uvicorn, the extra ``web``.

server       the app on a socket            engine     searches and thumbnails, for the routes
connection   uvicorn's, with time limits    pool       threads with the open collection
guard        origin and token of requests   queries    images to search with, and their features
app          routes and files of the page   uploads    bodies of requests, within `limits`
routes_*     the API                        cache      values that were used last
dependencies what routes share              responses, schemas, problems   answers
"""
