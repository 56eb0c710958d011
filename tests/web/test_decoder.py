"""Images are decoded in processes that can be stopped."""

from __future__ import annotations

import os
import time

import cv2
import numpy as np
import pytest

from vladkit.errors import ImageError
from vladkit.images import decode_image
from vladkit.web import decoder as module
from vladkit.web.decoder import Decoder
from vladkit.web.limits import Limits

PNG = cv2.imencode(".png", np.arange(48 * 64, dtype=np.uint8).reshape(48, 64))[1].tobytes()


def hang(data, **options):
    time.sleep(600)


def abort(data, **options):
    os.abort()


def fill(data, **options):
    return bytearray(8 << 30)


@pytest.fixture(scope="module")
def decoder():
    decoder = Decoder(Limits(decode_seconds=2.0), 1)
    yield decoder
    decoder.close()


class TestDecoder:
    def test_gives_what_decoding_here_gives(self, decoder):
        for options in ({"color": True}, {"max_side": 20}):
            image, wanted = decoder.decode(PNG, **options), decode_image(PNG, **options)
            pixels = "rgb_yx3" if "color" in options else "gray_yx"
            assert np.array_equal(getattr(image, pixels), getattr(wanted, pixels))

    def test_reasons_are_those_of_the_decoder(self, decoder):
        with pytest.raises(ImageError, match="not an image"):
            decoder.decode(b"text" * 20)
        with pytest.raises(ImageError, match="too many pixels: 64x48"):
            decoder.decode(PNG, max_pixels=100)

    @pytest.mark.parametrize(
        ("task", "reason"),
        [
            (hang, "takes more than 2 s to decode"),
            (abort, "the decoder ended without an answer"),
            (fill, "not enough memory"),
        ],
    )
    def test_what_does_not_end_well_is_refused_and_the_next_decoded(
        self, decoder, monkeypatch, task, reason
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, "decode_image", task)
            with pytest.raises(ImageError, match=reason):
                decoder.decode(PNG)
        assert decoder.decode(PNG).gray_yx.shape == (48, 64)
