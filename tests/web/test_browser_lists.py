"""The page in a browser: lists of images and of skipped files, hostile names, a token."""

from __future__ import annotations

import re
import shutil

import pytest

from browsing import asked, compare, compared, done, expect, first, fulfil
from serving import HOSTILE, N_EMPTY, command_serving
from sources import sift_of_photos, write_npz
from vladkit import Collection
from vladkit.collection.import_recipe import recipe_for
from vladkit.core.names import one_line


class TestLists:
    def test_images(self, opened):
        page = opened("/#/browse")
        expect(page.locator("#list-browse li")).to_have_count(16)
        expect(page.locator("#total-browse")).to_have_text("16 images")
        page.get_by_role("searchbox", name="Path contains").fill("CO")
        expect(page.locator("#list-browse .path")).to_have_text(["coffee.jpg", "coins.jpg"])
        assert asked(page) == {"contains": "CO"}
        page.reload()
        expect(page.get_by_role("searchbox", name="Path contains")).to_have_value("CO")
        expect(page.locator("#list-browse li")).to_have_count(2)
        page.get_by_role("searchbox", name="Path contains").fill("nowhere")
        expect(page.locator("#empty-browse")).to_have_text("No path contains “nowhere”.")
        page.get_by_text("About this collection").click()
        expect(page.locator("#about")).to_contain_text("photos.vlad")

    def test_skipped_in_pages(self, opened):
        page = opened()
        page.get_by_role("link", name="Skipped").click()
        expect(page.locator("#total-skipped")).to_have_text(f"1 to 100 of {N_EMPTY + 1} files")
        expect(page.locator("#list-skipped")).to_contain_text("empty file")
        page.get_by_role("link", name="Next page").click()
        expect(page.locator("#list-skipped li")).to_have_count(N_EMPTY + 1 - 100)
        assert asked(page) == {"offset": "100"}
        expect(page.get_by_role("link", name="Page 2")).to_be_focused()  # the arrow is gone
        page.go_back()
        expect(page.locator("#list-skipped li")).to_have_count(100)
        page.get_by_role("searchbox").fill("broken")
        expect(page.locator("#list-skipped li")).to_have_count(1)

    def test_names_with_characters_that_are_not_seen(self, opened, home, tmp_path):
        """They are escaped, as the command prints them: one can make of gpj.exe another name."""
        (tmp_path / "photos").mkdir()
        odd, shown = "a\u202egpj.exe\t\u200b.jpg", r"a\u202egpj.exe\t\u200b.jpg"
        shutil.copy(home / "coffee.jpg", tmp_path / "photos" / odd)
        (tmp_path / "photos" / f"no {odd}").write_bytes(b"")
        with Collection.create(tmp_path / "c\u202e.vlad", n_clusters=4, enlarge_to=0) as collection:
            collection.add([tmp_path / "photos"])
        with command_serving(tmp_path / "c\u202e.vlad", "-j", "1") as base:
            page = opened("#/browse", base=base, expected="422")
            item = page.locator("#list-browse li")
            expect(item.locator(".path")).to_have_attribute("title", shown)
            expect(page.locator("#collection-name")).to_have_text(r"c\u202e.vlad")
            assert r"c\u202e.vlad" in page.title()
            seen = [page.content()]
            item.get_by_role("link", name=f"Search with {shown}").first.click()
            done(page)
            first(page, shown)
            compare(page)
            expect(page.locator(".compare-name")).to_have_text(shown)
            seen.append(page.content())
            page.keyboard.press("Escape")
            page.goto(f"{base}#/skipped")
            expect(page.locator("#list-skipped li")).to_contain_text(f"no {shown}")
            seen.append(page.content())
            assert not any(re.search("[\u202e\u200b]", text) for text in seen)
            page.set_input_files("#file", tmp_path / "photos" / f"no {odd}")
            done(page, "failed")
            assert not re.search("[\u202e\u200b]", page.content())
            page.goto("about:blank")  # before the server goes

    def test_names_are_escaped_as_by_the_command(self, opened):
        codes = [*range(0x3000), *range(0xE000, 0x10000), *range(0xE0000, 0xE0100)]
        found = opened().evaluate(
            """async (codes) => {
                const { readable } = await import("/static/dom.js");
                return codes.map((code) => readable(String.fromCodePoint(code)));
            }""",
            codes,
        )
        assert found == [one_line(chr(code)) for code in codes]

    def test_images_of_unknown_size(self, opened, photos, tmp_path):
        """They are shown as they are loaded."""
        source = write_npz(tmp_path / "npz", sift_of_photos())
        recipe, _ = recipe_for(source, n_clusters=8, keep_features=500)
        with Collection.create(tmp_path / "c.vlad", **recipe) as collection:
            collection.add([source])
            collection.add([source], images=photos)  # too late to measure them
            coffee = collection.find("coffee.jpg").image_id
        with command_serving(tmp_path / "c.vlad", "-j", "1") as base:
            page = opened("#/browse", base=base)
            card = page.locator("#list-browse li", has_text="coffee")
            expect(card.locator("img")).to_have_js_property("naturalWidth", 320)
            assert "\N{MULTIPLICATION SIGN}" not in card.inner_text()
            assert float(card.evaluate("e => e.style.getPropertyValue('--aspect')")) > 1.4
            page.goto(f"{base}#/?id={coffee}&match={coffee}")
            compared(page)
            assert "px" not in page.inner_text("#compare-facts")
            for pane in ("query", "match"):
                image = page.locator(f"#pane-{pane} img")
                expect(image).to_have_js_property("naturalWidth", 600)
                box = image.bounding_box()
                assert box["width"] / box["height"] == pytest.approx(1.5, rel=0.01)
            page.goto("about:blank")  # before the server goes

    def test_nothing_in_it(self, opened, tmp_path):
        with (
            Collection.create(tmp_path / "empty.vlad"),
            command_serving(tmp_path / "empty.vlad", "-j", "1") as base,
        ):
            page = opened("#/browse", base=base, expected="409")
            expect(page.locator("#empty-browse")).to_contain_text("The collection is empty")
            expect(page.get_by_role("link", name="Skipped")).to_be_hidden()
            page.evaluate("location.hash = '#/skipped'")
            expect(page.locator("#empty-skipped")).to_have_text("Nothing was skipped.")
            page.goto("about:blank")  # before the server goes

    @pytest.mark.parametrize(
        ("images", "said"), [(0, "The collection is empty."), (9, "Nothing was found.")]
    )
    def test_nothing_found(self, opened, images, said):
        page = opened()
        nothing = {"results": [], "images": images}
        page.route("**/api/search*", lambda route: fulfil(route, **nothing))
        page.evaluate("location.hash = '#/search?id=1'")
        expect(page.locator("#nothing")).to_have_text(said)
        expect(page.locator("#nothing")).to_be_visible()

    def test_no_features(self, opened):
        page = opened()
        page.route("**/api/info", lambda route: fulfil(route, keeps_features=False))
        page.goto(page.url.split("#")[0] + "#/search?id=1")
        page.reload()
        done(page)
        expect(page.get_by_role("switch", name="Check the first")).to_be_disabled()
        expect(page.locator("#rerank-why")).to_contain_text("keeps no features")
        expect(page.locator("#results .badge")).to_have_count(0)
        page.locator("#results .card-image").first.click()
        expect(page.locator("#compare-facts")).to_contain_text("keeps no features")


class TestSafety:
    def test_a_hostile_name_is_only_text(self, opened):
        """A dialog, or an element made of it, would be a complaint to `opened`."""
        page = opened("/#/browse?contains=onerror")
        expect(page.locator("#list-browse .path")).to_have_text(HOSTILE)
        page.locator("#list-browse .card-image").click()
        done(page)
        first(page, HOSTILE)
        compare(page)
        expect(page.locator("#compare-title .compare-name")).to_have_text(HOSTILE)
        assert page.locator("[onerror], img[src=x]").count() == 0

    def test_a_token(self, opened, home):
        with command_serving(home / "photos.vlad", "-j", "1", "--token", "a-long-token") as base:
            root, token = base.split("?")
            page = opened(base=root, path="", expected="401")
            expect(page.locator("#trouble")).to_contain_text("served with a token")
            page.goto(f"{root}?{token}")
            expect(page.locator("#example-list li")).not_to_have_count(0)
            assert "token" not in page.url
            page.goto("about:blank")  # before the server goes
