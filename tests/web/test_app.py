"""The description of the API, and the files of the page."""

from __future__ import annotations

import re

import pytest

from serving import problem


def test_openapi_says_what_is_answered(client, query):
    schema = client.get("/api/openapi.json").json()
    operations = {
        (method, path): operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    assert len(operations) == 13
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]
        content = operation["responses"]["200"]["content"]
        if "application/json" in content:
            assert content["application/json"]["schema"]["$ref"]
        said = operation["responses"]["4XX"]["content"]
        assert list(said) == ["application/problem+json"]
        assert "ProblemInfo" in said["application/problem+json"]["schema"]["$ref"]
        assert "422" not in operation["responses"]
    body = operations["post", "/api/search"]["requestBody"]["content"]
    assert list(body) == ["image/*", "application/octet-stream"]


def test_the_page_is_loaded_once(client):
    for path in ("/", "/static/main.js"):
        tag = client.get(path).headers["etag"]
        again = client.get(path, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")


def test_the_page_is_ours_alone(client):
    """No address of others in what the page loads."""
    for path in ("/", "/docs"):
        text = client.get(path).text
        assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", text)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/static/main.js", "text/javascript; charset=utf-8"),
        ("/static/style.css", "text/css; charset=utf-8"),
        ("/static/icon.svg", "image/svg+xml"),
    ],
)
def test_types_of_the_files_of_the_page(client, path, kind):
    answer = client.get(path)
    assert answer.headers["content-type"] == kind
    assert answer.headers["cache-control"] == "no-cache"  # else an old script meets a new server


@pytest.mark.parametrize("path", ["/static/", "/static/nothing.js"])
def test_no_other_files(client, path):
    problem(client.get(path), 404)
