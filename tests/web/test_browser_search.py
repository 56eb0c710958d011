"""The page in a browser: searching, waiting, and the address."""

from __future__ import annotations

import json
import re

import cv2
import pytest

from browsing import asked, compare, done, expect, first, fulfil, search, titles
from photos import write_photos
from serving import HOSTILE, serving
from vladkit import Collection


class TestWaiting:
    def test_upload_is_told_in_per_cent(self, opened, home):
        page = opened()
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1}
        network = page.context.new_cdp_session(page)
        network.send("Network.emulateNetworkConditions", slow | {"uploadThroughput": 150_000})
        page.set_input_files("#file", home / "large.png")
        expect(page.locator("#activity")).to_contain_text("Sending the image")
        expect(page.locator("#activity progress")).to_be_visible()
        page.wait_for_function(
            "() => { const v = document.querySelector('progress').value; return v > 0 && v < 1 }"
        )
        assert re.search(r"\d %", page.locator("#activity").inner_text())
        network.send("Network.emulateNetworkConditions", slow | {"uploadThroughput": -1})
        done(page)
        first(page, "chelsea.jpg")

    def test_first_plain_then_matched(self, opened, home):
        page = opened()
        held = []
        page.route(re.compile("rerank=100"), lambda route: held.append(route))
        page.set_input_files("#file", home / "coffee.jpg")
        expect(page.locator("#activity")).to_contain_text("Checking 16 images")
        expect(page.locator("#results .score")).to_have_count(16)
        expect(page.locator("#results .badge")).to_have_count(0)
        held.pop().continue_()
        done(page)
        expect(page.locator("#results .badge")).to_have_count(1)
        expect(page.locator("#results h3")).to_have_text(["Same thing", "Only similar"])
        expect(page.locator("#results .same li")).to_have_count(1)
        expect(page.locator("#results .similar li")).to_have_count(15)
        expect(page.locator("#activity")).to_contain_text("1 image shows the same thing")

    def test_examples_are_spread_over_the_collection(self, opened):
        page = opened()
        names = page.locator("#example-list .path")
        expect(names).to_have_count(12)
        shown = [each.get_attribute("title") for each in names.all()]
        assert len(set(shown)) == 12
        assert {HOSTILE, "rocket.jpg"} <= set(shown)  # the first, and the last of 16

    def test_nothing_is_verified(self, opened):
        page = opened()
        other = {"verified": False, "inliers": 0, "points": [], "outline": None}

        def unverified(route):
            answer = route.fetch().json()
            results = [r | other for r in answer["results"]]
            none = {"verified": 0} if answer["reranked"] else {}
            route.fulfill(json=answer | {"results": results} | none)

        page.route("**/api/search*", unverified)
        page.evaluate("location.hash = '#/search?id=1'")
        expect(page.locator("#activity")).to_contain_text("Probably not in here")

    def test_without_matching(self, opened, home):
        page = opened()
        search(page, home / "coffee.jpg")
        page.get_by_role("switch", name="Check the first").uncheck()
        expect(page.locator("#results .badge")).to_have_count(0)
        assert asked(page)["rerank"] == "0"
        page.get_by_role("combobox", name="Results").select_option("12")
        expect(page.locator("#results li")).to_have_count(12)
        page.locator("#results li").nth(1).get_by_title("Search with this").click()
        expect(page).to_have_url(re.compile("[?&]id="))
        assert (asked(page)["top"], asked(page)["rerank"]) == ("12", "0")  # kept for the next query
        page.get_by_role("link", name="Images").click()
        page.set_input_files("#file", home / "chelsea.jpg")
        first(page, "chelsea.jpg")
        assert (asked(page)["top"], asked(page)["rerank"]) == ("12", "0")

    def test_limited_to_some_images(self, opened, home):
        page = opened()
        search(page, home / "coffee.jpg")
        n_all = page.locator("#results li").count()
        page.get_by_text("Only some images").click()
        page.get_by_label("Folder").fill("coffee.jpg")
        page.get_by_label("Folder").press("Enter")
        expect(page.locator("#results li")).to_have_count(1)
        first(page, "coffee.jpg")
        assert asked(page)["under"] == "coffee.jpg"
        expect(page.locator("#after")).to_contain_text("1 result of 1 image.")
        page.get_by_label("Taken from").fill("2024")
        page.get_by_label("Taken from").press("Enter")
        expect(page.locator("#nothing")).to_have_text("No image is in these limits.")
        expect(page.locator("#after")).to_have_text("16 images without a date left out. As JSON")
        expect(page.locator("#activity [role=status]")).to_contain_text("0 results")
        page.reload()  # the address holds them
        expect(page.get_by_label("Folder")).to_have_value("coffee.jpg")
        expect(page.get_by_label("Taken from")).to_be_visible()
        page.get_by_role("button", name="All images").click()
        expect(page.locator("#results li")).to_have_count(n_all)

    def test_results_begin_in_the_first_screen_of_a_phone(self, opened, home):
        page = opened()
        page.set_viewport_size({"width": 400, "height": 850})
        search(page, home / "coffee.jpg")
        expect(page.get_by_role("switch", name="Check the first")).to_be_hidden()
        assert page.locator("#results li").first.bounding_box()["y"] < 500
        expect(page.locator("#not-shown")).to_be_hidden()
        page.get_by_text("Settings").click()
        expect(page.get_by_role("switch", name="Check the first")).to_be_visible()
        page.set_viewport_size({"width": 1200, "height": 850})
        expect(page.get_by_role("switch", name="Check the first")).to_be_visible()

    def test_targets_for_fingers(self, opened, home):
        page = opened()
        page.set_viewport_size({"width": 400, "height": 850})
        search(page, home / "coffee.jpg")
        page.get_by_text("Settings").click()
        for target in page.locator(
            ".bar a, .bar button, .query button, .query select, .query summary, .switch, .icon-link"
        ).all():
            if target.is_visible():
                box = target.bounding_box()
                assert min(box["width"], box["height"]) >= 44, target.evaluate("e => e.outerHTML")

    def test_mirror_images(self, opened, home, tmp_path):
        cv2.imwrite(str(tmp_path / "f.png"), cv2.imread(str(home / "coffee.jpg"))[:, ::-1])
        page = opened()
        search(page, tmp_path / "f.png")
        expect(page.locator("#activity")).to_contain_text("Probably not in here")
        page.get_by_role("switch", name="Mirror images, too").check()
        expect(page.locator("#results .same .mirrored")).to_have_count(1)
        first(page, "coffee.jpg")
        assert asked(page)["mirrored"] == "true"
        compare(page)
        expect(page.locator("#compare-facts")).to_contain_text("mirrored")
        page.get_by_label("Geometry").select_option("fundamental")
        expect(page.locator("#compare-facts")).to_contain_text("agree, verified")
        page.reload()
        expect(page.locator("#mirrored")).to_be_checked()

    def test_limits_that_cannot_be_read(self, opened):
        page = opened(expected="422")
        page.evaluate("location.hash = '#/search?id=1&near=here'")
        expect(page.locator("#activity")).to_contain_text("give LAT,LON,KM")

    def test_an_old_answer_is_not_shown(self, opened):
        page = opened()
        held = []
        page.route(re.compile(r"search\?id=1&"), lambda route: held.append(route))
        page.goto(page.url.split("#")[0] + "#/search?id=1&rerank=0")
        expect(page.locator("#activity")).to_contain_text("Searching")
        page.evaluate("location.hash = '#/search?id=2&rerank=0'")
        done(page)
        shown = titles(page)
        for route in held:
            route.continue_()
        page.unroute_all()
        page.evaluate("fetch('/api/search?id=1&rerank=0').then((answer) => answer.text())")
        assert titles(page) == shown  # though the server has answered this meanwhile
        expect(page.locator("#query-image")).to_have_attribute("src", re.compile("/images/2/"))

    def test_a_busy_server_is_asked_again(self, opened):
        page = opened(expected="503")
        answers = []

        def busy(route):
            answers.append(route.request.url)
            if len(answers) > 1:
                return route.continue_()
            problem = {"status": 503, "title": "", "detail": "too many", "retry_after": 1}
            return route.fulfill(status=503, headers={"Retry-After": "1"}, body=json.dumps(problem))

        page.route("**/api/search*", busy)
        page.evaluate("location.hash = '#/search?id=1&rerank=0'")
        expect(page.locator("#activity")).to_contain_text("Too many. Waiting 1 s.")
        done(page)
        assert len(answers) == 2

    def test_a_server_that_waiting_does_not_help_is_asked_once(self, opened):
        page = opened(expected="503")
        answers = []

        def away(route):
            answers.append(route.request.url)
            route.fulfill(status=503, json={"status": 503, "detail": "the network is away"})

        page.route(re.compile("/api/(search|images)"), away)
        page.evaluate("location.hash = '#/search?id=1&rerank=0'")
        done(page, "failed")
        expect(page.locator("#activity")).to_contain_text("The network is away.")
        assert sum("/api/search" in url for url in answers) == 1

    def test_a_list_says_what_it_waits_for(self, opened):
        page = opened(expected="503")
        gone = {"status": 503, "detail": "the collection cannot be read now", "retry_after": 30}
        page.route("**/api/images?*", lambda route: route.fulfill(status=503, json=gone))
        page.evaluate("location.hash = '#/browse'")
        expect(page.locator("#total-browse")).to_have_text(
            "The collection cannot be read now. Waiting 30 s."
        )
        page.unroute_all()

    def test_a_server_that_is_gone(self, opened):
        page = opened(expected="Failed to load")
        page.route("**/api/search*", lambda route: route.abort())
        page.evaluate("location.hash = '#/search?id=1'")
        done(page, "failed")
        expect(page.locator("#activity")).to_contain_text("The server does not answer")


class TestSettingsOfAnImageThatIsBeingSent:
    """Settings change before the server has given a name to the image that was dropped."""

    def test_after_an_error(self, opened, home):
        page = opened(expected="422")
        search(page, home / "coffee.jpg")
        page.get_by_text("Only some images").click()
        page.get_by_label("Taken from").fill("2024-5")
        page.get_by_label("Taken from").press("Enter")
        done(page, "failed")
        page.set_input_files("#file", home / "chelsea.jpg")
        expect(page.locator("#query-name")).to_have_text("chelsea.jpg")
        done(page, "failed")
        page.get_by_label("Taken from").fill("")
        page.get_by_label("Taken from").press("Enter")
        done(page)
        first(page, "chelsea.jpg")
        expect(page.locator("#query-name")).to_have_text("chelsea.jpg")
        assert "after" not in asked(page)

    @pytest.mark.parametrize("before", [None, "coffee.jpg"])
    def test_while_it_is_sent(self, opened, home, before):
        page = opened(expected="Failed to load")
        if before:
            search(page, home / before)
        held = []
        page.route(re.compile(r"search\?(?!.*mirrored=true)"), lambda route: held.append(route))
        page.set_input_files("#file", home / "chelsea.jpg")
        expect(page.locator("#query-name")).to_have_text("chelsea.jpg")
        page.get_by_role("combobox", name="Results").select_option("12")
        page.get_by_role("switch", name="Mirror images, too").check()
        expect(page.locator("#results li")).to_have_count(12)
        done(page)
        first(page, "chelsea.jpg")
        assert (asked(page)["top"], asked(page)["mirrored"]) == ("12", "true")
        page.unroute_all()
        page.go_back()  # one step: the address follows only what was answered
        done(page) if before else expect(page.locator("#start")).to_be_visible()
        assert asked(page).get("top") is None

    def test_of_one_that_is_too_large(self, opened, home):
        page = opened()
        search(page, home / "coffee.jpg")
        large = "Object.defineProperty(Blob.prototype, 'size', { get: () => 1e9 })"
        page.evaluate(large)
        page.set_input_files("#file", home / "chelsea.jpg")
        done(page, "failed")
        page.get_by_role("combobox", name="Results").select_option("12")
        expect(page.locator("#activity")).to_contain_text("the server takes")
        expect(page.locator("#query-name")).to_have_text("chelsea.jpg")
        assert titles(page) == []
        page.reload()


class TestAddress:
    def test_ids_of_a_collection_of_lance(self, opened, tmp_path):
        pytest.importorskip("lance", reason="the extra `lance`")
        write_photos(tmp_path / "photos", ["coffee", "chelsea", "rocket", "camera"])
        with Collection.create(tmp_path / "c.lance", n_clusters=16) as collection:
            collection.add([tmp_path / "photos"])
            ids = [row.image_id for row in collection.images()]
        assert max(ids) > 1e15  # 16 digits, as most of them have
        with serving(tmp_path / "c.lance") as (client, _):
            page = opened(base=str(client.base_url).rstrip("/"))
            for image_id in ids:
                page.evaluate("location.hash = '#/'")
                page.locator(f"#example-list [data-id='{image_id}'] .card-image").click()
                done(page)
                assert asked(page)["id"] == str(image_id)
            compare(page, 3)

    def test_back_and_forward(self, opened, home):
        page = opened()
        search(page, home / "coffee.jpg")
        compare(page)
        page.go_back()
        expect(page.locator("#compare")).to_be_hidden()
        page.locator("#results li").nth(3).get_by_title("Search with this").click()
        other = page.locator("#query-name").inner_text
        expect(page.locator("#query-name")).not_to_have_text("coffee.jpg")
        name = other()
        page.go_back()
        expect(page.locator("#query-name")).to_have_text("coffee.jpg")
        first(page, "coffee.jpg")
        page.go_forward()
        expect(page.locator("#query-name")).to_have_text(name)
        page.go_back()
        page.go_back()
        expect(page.locator("#start")).to_be_visible()

    def test_an_answer_is_shown_again_while_the_collection_is_the_same(self, opened):
        page = opened(expected="Failed to load")
        sent = []
        page.on("request", lambda request: sent.append(request.url) if "/api/search" in request.url
                else None)  # fmt: skip

        def ask():
            page.evaluate("location.hash = '#/'")
            expect(page.locator("#start")).to_be_visible()
            page.evaluate("location.hash = '#/search?id=3'")
            expect(page.locator("#results li")).to_have_count(16)
            expect(page.locator("#results .badge")).not_to_have_count(0)
            return len(sent)

        n = ask()
        assert n > 0
        assert ask() == n
        page.route("**/api/health", lambda route: fulfil(route, state="of another process"))
        with page.expect_request("**/api/search?*"):
            ask()
        done(page)
        page.unroute("**/api/health")
        n = ask()
        page.route("**/api/health", lambda route: route.abort())
        assert ask() == n

    def test_reload(self, opened, home):
        page = opened()
        search(page, home / "coffee.jpg")
        compare(page, 1)
        name = page.locator("#compare-title").inner_text()
        page.reload()
        expect(page.locator("#compare-title")).to_have_text(name, use_inner_text=True)
        page.keyboard.press("Escape")
        done(page)
        first(page, "coffee.jpg")

    def test_an_upload_that_is_forgotten(self, opened, home):
        page = opened(expected="404")
        search(page, home / "coffee.jpg")
        key = asked(page)["query"]
        page.evaluate("location.hash = '#/search?query=unknown'")
        done(page, "failed")
        expect(page.locator("#activity")).to_contain_text("Drop it again")
        # one that this page still has is sent again, whatever the server remembers
        page.route(re.compile(f"query={key}"), lambda route: route.fulfill(status=404, body="{}"))
        page.evaluate(f"location.hash = '#/search?query={key}&top=3'")
        done(page)
        first(page, "coffee.jpg")
        assert asked(page)["query"] not in (key, "unknown")

    def test_nonsense(self, opened):
        page = opened("/#/search?id=two&region=1,2&top=x&offset=-1")
        expect(page.locator("#start")).to_be_visible()
        page = opened("/#/search?id=99999", expected="404")
        done(page, "failed")
        expect(page.locator("#activity")).to_contain_text("no image 99999")
