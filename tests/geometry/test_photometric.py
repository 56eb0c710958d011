"""Print on pages: copies of one document, and documents that have only their form in common."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vladkit import Collection
from vladkit.geometry.photometric import PAGE_SIDE, READ_SIDE, compare_print, is_page
from vladkit.images import decode_image

SAME_23 = np.array([[1.0, 0, 0], [0, 1, 0]])


def page(*written, form=True):
    """A form of A4 at 150 dpi, and what is written on it: (text, line)."""
    page_yx = np.full((1754, 1240), 255, np.uint8)
    rng = np.random.default_rng(0)
    for line in range(32 if form else 0):
        label = "".join(rng.choice(list("abcdefghiklmnoprstuvw  "), 30)).title()
        put(page_yx, label, (90, 130 + 48 * line), 0.7)
        cv2.line(page_yx, (60, 146 + 48 * line), (1180, 146 + 48 * line), 0, 1)
    for text, line in written:
        put(page_yx, text, (700, 130 + 48 * line), 0.6)
    return page_yx


def put(page_yx, text, where, size):
    cv2.putText(page_yx, text, where, cv2.FONT_HERSHEY_SIMPLEX, size, 0, 2, cv2.LINE_AA)


def saved(page_yx, quality=90):
    quality = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", page_yx, quality)[1].tobytes()


def compared(a_yx, b_yx, to_b_23=SAME_23, quality=60):
    a, b = saved(a_yx), saved(b_yx, quality)
    small = [decode_image(data, max_side=READ_SIDE) for data in (a, b)]
    assert all(map(is_page, small))
    a, b = (decode_image(data, max_side=PAGE_SIDE) for data in (a, b))
    back_23 = np.linalg.inv(np.vstack([to_b_23, [0, 0, 1]]))[:2]
    found = compare_print(a, b, to_b_23)
    assert compare_print(b, a, back_23) == found
    return found


INVOICE = [("Smith, 17 Main Street", 3), ("1,284.50", 9), ("2024-03-17", 14)]
TURN_23 = cv2.getRotationMatrix2D((619.5, 876.5), 3, 1)
HALF_23 = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])
SIZE = 1240, 1754


def scanned(page_yx):
    noise_yx = np.random.default_rng(0).normal(0, 6, page_yx.shape)
    return np.clip(0.85 * page_yx + 10 + noise_yx, 0, 255).astype(np.uint8)


COPIES = {
    "saved again": (lambda image: image, SAME_23, 10),
    "half": (lambda image: cv2.resize(image, (620, 877), interpolation=cv2.INTER_AREA), HALF_23),
    "rotated": (lambda image: cv2.warpAffine(image, TURN_23, SIZE, borderValue=255), TURN_23),
    "scanned": (scanned, SAME_23),
    "blurred": (lambda image: cv2.GaussianBlur(image, None, 1.2), SAME_23),
    "darker": (lambda image: cv2.convertScaleAbs(image, alpha=0.8), SAME_23),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_have_the_same_print(name):
    alter, *rest = COPIES[name]
    assert compared(page(*INVOICE), alter(page(*INVOICE)), *rest) == "same"


OTHERS = {
    "other lines": ([("Jones", 5), ("77.00", 11)], "different"),
    "one line more and one less": ([*INVOICE[:2], ("x-17", 20)], "different"),
    "another word in its place": ([*INVOICE[:2], ("paid in advance", 14)], "different"),
    "empty": ([], "added"),
    "one line less": (INVOICE[:2], "added"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_documents_on_one_form(name):
    written, wanted = OTHERS[name]
    assert compared(page(*INVOICE), page(*written)) == wanted
    half_yx = cv2.resize(page(*written), (620, 877), interpolation=cv2.INTER_AREA)
    assert compared(page(*INVOICE), half_yx, HALF_23) == wanted


def test_nothing_but_paper():
    assert compared(page(form=False), page(form=False)) == "same"
    assert compared(page(form=False), page(("Jones", 5), form=False)) == "added"


TONES = {"dark": (20, 230), "gray": (150, 10), "black": (0, 255), "faint": (120, 230)}


def toned(page_yx, paper, ink):
    return (ink + (paper - ink) * (page_yx / 255.0)).astype(np.uint8)


@pytest.mark.parametrize("tones", TONES.values(), ids=TONES)
def test_pages_of_any_tone(tones):
    invoice_yx = page(*INVOICE)
    for name, (alter, *rest) in COPIES.items():
        copy_yx = alter(toned(invoice_yx, *tones))
        assert compared(toned(invoice_yx, *tones), copy_yx, *rest) == "same", name
    for name, (written, wanted) in OTHERS.items():
        other_yx = toned(page(*written), *tones)
        assert compared(toned(invoice_yx, *tones), other_yx) == wanted, name
        assert compared(invoice_yx, other_yx) == wanted, name  # on white paper and on this


def test_pages_are_mostly_one_tone():
    for gray in (255, 200, 120, 0):
        image = decode_image(saved(np.full((240, 320), gray, np.uint8)), max_side=READ_SIDE)
        assert is_page(image)
    noise_yx = np.random.default_rng(0).integers(0, 256, (240, 320), dtype=np.uint8)
    assert not is_page(decode_image(saved(noise_yx), max_side=READ_SIDE))
    for gray, wanted in ((200, True), (120, False)):  # paper in some shade, and a dark slope
        slope_yx = np.tile(np.linspace(gray - 20, gray, 320).astype(np.uint8), (240, 1))
        assert is_page(decode_image(saved(slope_yx), max_side=READ_SIDE)) == wanted


def test_documents_on_one_form_are_no_duplicates(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), page(*INVOICE))
    cv2.imwrite(str(folder / "a small.png"), cv2.resize(page(*INVOICE), None, fx=0.7, fy=0.7))
    cv2.imwrite(str(folder / "b.png"), page(("Jones", 5), ("77.00", 11)))
    stamped = cv2.resize(page(*INVOICE, ("PAID in full", 30)), None, fx=0.7, fy=0.7)
    cv2.imwrite(str(folder / "a stamped.png"), stamped)
    with Collection.create(tmp_path / "c", n_clusters=8) as collection:
        collection.add([folder])
        (group,) = collection.duplicates()
    assert group.path == "a.png"
    assert {each.path: each.kinds for each in group.others} == {
        "a small.png": ("resized",),
        "a stamped.png": ("resized", "watermarked"),
    }


def test_documents_are_not_like_each_other_by_way_of_the_blank_form(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), page(*INVOICE))
    cv2.imwrite(str(folder / "b.png"), page(("Jones", 5), ("77.00", 11)))
    cv2.imwrite(str(folder / "blank.png"), page())
    with Collection.create(tmp_path / "c", n_clusters=8) as collection:
        collection.add([folder])
        (group,) = collection.duplicates(keep="first")
    assert group.path == "a.png"
    assert {each.path: each.kinds for each in group.others} == {
        "b.png": ("altered", "indirect"),
        "blank.png": ("watermarked",),
    }


def test_dark_screens_are_no_duplicates(tmp_path):
    folder = tmp_path / "screens"
    folder.mkdir()
    for name, written in (("a", INVOICE), ("b", [("Jones", 5), ("77.00", 11)])):
        cv2.imwrite(str(folder / f"{name}.png"), toned(page(*written), *TONES["dark"]))
        cv2.imwrite(str(folder / f"{name} gray.png"), toned(page(*written), *TONES["gray"]))
    with Collection.create(tmp_path / "c", n_clusters=8) as collection:
        collection.add([folder])
        assert collection.duplicates() == []
