"""Requests that are refused before the app, and headers of every answer."""

from __future__ import annotations

import re

import httpx
import pytest

from serving import JPEG, problem, raw, serving


class TestGuard:
    PATHS = (
        "/../secret.txt",
        "/static/../../secret.txt",
        "/static/%2e%2e/%2e%2e/secret.txt",
        "/static/..%2f..%2fsecret.txt",
        "/static/..\\..\\secret.txt",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/app.py",
        "/static/index.html%00.js",
        "//etc/passwd",
        "/api/images/../../secret.txt",
        "/api/images/%2e%2e%2fsecret.txt/file",
        "/api/images/1/file/../../../secret.txt",
        "/api/queries/..%2f..%2fsecret.txt/preview",
        "/api/queries/%2fetc%2fpasswd/preview",
        "file:///etc/passwd",
    )

    @pytest.mark.parametrize("path", PATHS)
    def test_no_path_leads_out(self, client, home, path):
        for where in (path, path.replace("secret.txt", f"{home}/secret.txt")):
            request = f"GET {where} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            said = raw(client, request.encode())
            assert re.match(rb"HTTP/1.1 4\d\d ", said), said[:200]
            assert b"secret" not in said.split(b"\r\n\r\n", 1)[1].replace(b"secret.txt", b"")
            assert b"root:" not in said

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "a@b", "[::1"]
    )
    def test_other_names(self, client, host):
        for path in ("/", "/api/info"):
            said = raw(
                client, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            )
            assert re.match(rb"HTTP/1.1 4(21|00) ", said), said[:100]
            assert b"vlad.vlad" not in said

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000"])
    def test_own_names(self, client, host):
        assert client.get("/api/health", headers={"host": host}).status_code == 200

    def test_other_sites(self, client, query):
        origin = {"origin": "https://evil.example"}
        problem(client.get("/api/info", headers=origin), 403)
        problem(client.post("/api/search", content=query, headers=JPEG | origin), 403)
        problem(client.get("/api/info", headers={"sec-fetch-site": "cross-site"}), 403)
        assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200
        for odd in ("http://[", "http://[x]", "http://a]b", "null", ""):
            problem(client.get("/api/info", headers={"origin": odd}), 403)
        own = {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
        assert client.get("/api/info", headers=own).status_code == 200

    def test_headers_of_every_answer(self, client):
        for path in ("/", "/static/main.js", "/api/info", "/api/nothing", "/api/images/1/preview"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in headers

    @pytest.mark.parametrize(
        "path", ["/api/info", "/api/images", "/api/search?id=1", "/api/nothing", "/api/images/9999"]
    )
    def test_answers_of_the_api_are_not_kept(self, client, path):
        assert client.get(path).headers["cache-control"] == "no-store"

    def test_token(self, home, query):
        with serving(home / "photos.vlad", token="correct horse") as (client, _):
            assert client.get("/").status_code == 200  # the page asks for it
            for headers in (
                {},
                {"authorization": "Bearer wrong"},
                {"authorization": "Basic correct horse"},
                {"cookie": "vladkit_token=correct horse"},
                {"cookie": "vladkit_token=\xe9"},
                {"cookie": 'vladkit_token="\xe9"'},
            ):
                encoded = {name: value.encode("latin-1") for name, value in headers.items()}
                problem(client.get("/api/info", headers=encoded), 401)
            problem(client.post("/api/search", content=query, headers=JPEG), 401)
            problem(client.get("/api/openapi.json"), 401)
            problem(client.get("/", params={"token": "wrong"}), 401)
            bearer = {"authorization": "Bearer correct horse"}
            assert client.get("/api/info", headers=bearer).status_code == 200
            answer = client.get("/", params={"token": "correct horse"})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            cookie = answer.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert "correct" not in cookie
            assert client.get("/api/info").status_code == 200  # by the cookie that it kept

    def test_two_servers_of_one_browser(self, home):
        """Cookies are for all ports of a machine."""
        file = home / "photos.vlad"
        with (
            serving(file, token="correct horse") as (client, _),
            serving(file, token="battery staple") as (other, _),
        ):
            client.get("/", params={"token": "correct horse"})
            other.cookies = client.cookies
            problem(other.get("/api/info"), 401)
            other.get("/", params={"token": "battery staple"})
            assert len(other.cookies) == 2
            client.cookies = other.cookies
            for each in (client, other):
                assert each.get("/api/info").status_code == 200
            for name in client.cookies:
                wrong = {"cookie": f"{name}=correct horse"}
                problem(httpx.get(client.base_url.join("/api/info"), headers=wrong), 401)
