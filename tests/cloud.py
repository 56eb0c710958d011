"""A server on this machine that speaks like S3, and can be stopped, slow or unwilling."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager

import pytest

KEY = "AKIAVLADKITTESTS"
SECRET = "a-secret-that-nobody-may-see"


class S3:
    """moto's server on a free port, and what it was asked: (method, path of the URL).

    `answer` gives a status, and the body, to answer everything with; `on_get` is called with the
    number of objects that were asked for; `latency` is in s.
    """

    def __init__(self):
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._port = 0
        self.reset()
        self.start()

    def reset(self):
        self.asked = []
        self.answer = None
        self.on_get = lambda n: None
        self.latency = 0.0

    def start(self):
        from werkzeug.serving import make_server

        self._server = make_server("127.0.0.1", self._port, self, threaded=True)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self._port}"

    def gets(self):
        """Objects that were asked for."""
        return [path for method, path in self.asked if method == "GET" and path.count("/") > 1]

    def __call__(self, environ, start_response):
        self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].count("/") > 1:
            self.on_get(len(self.gets()))
        time.sleep(self.latency)
        if self.answer is not None:
            status, body = self.answer
            start_response(status, [("content-type", "application/xml")])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body.encode()]
        return self._app(environ, start_response)


@contextmanager
def s3_server():
    """The server, with the environment in which fsspec finds it and the keys."""
    for name in ("s3fs", "moto"):
        pytest.importorskip(name, reason="the extra `cloud`, and moto, are not installed")
    server = S3()
    about = {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in about.items():
            patch.setenv(name, value)
        try:
            yield server
        finally:
            server.stop()


def files_of_s3():
    """The file system of fsspec that vladkit has, to write with."""
    from vladkit.core.remote import _files

    return _files("s3://")


def put_folder(folder, url):
    """Copy the files of a folder to a bucket, which is made."""
    files = files_of_s3()
    bucket = url.partition("://")[2].partition("/")[0]
    if not files.exists(bucket):
        files.mkdir(bucket)
    for file in sorted(folder.iterdir()):
        files.pipe_file(f"{url}/{file.name}", file.read_bytes())
