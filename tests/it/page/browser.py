"""Debian's Chromium, driven by Playwright, for one test.

browser.py URL DIRECTORY opens the page and then takes one order a line from standard input, in JSON,
and answers each by one line: {"ok": what was found} or {"error": why not}. It ends with its input.
Screenshots go to the directory.
"""

import json
import sys
import time
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Page, expect, sync_playwright

# Longer than anything takes that works, on a machine busy with other tests.
PATIENCE = 60_000
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
# WCAG 2.2 A and AA, and what axe holds for good practice beyond that.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Browser:
    def __init__(self, page: Page, directory: Path):
        self.page, self.directory, self.complaints = page, directory, []
        page.set_default_timeout(PATIENCE)
        page.on("console", self.hear)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda it: self.complaints.append(f"{it.url}: {it.failure}"))

    def hear(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def see(self, where, text):
        """Waits until something there shows that text."""
        expect(self.page.locator(where, has_text=text).first).to_be_visible(timeout=PATIENCE)

    def miss(self, where, text):
        """Waits until nothing there does."""
        expect(self.page.locator(where, has_text=text)).to_have_count(0, timeout=PATIENCE)

    def wait(self, until):
        """Waits until that expression of JavaScript is true; gives its value."""
        end = time.monotonic() + PATIENCE / 1000
        # Playwright's own wait looks again from within the page, whose policy lets no string be code.
        while not (value := self.page.evaluate(until)):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {until}")
            self.page.evaluate("new Promise(requestAnimationFrame)")
        return value

    def press(self, key):
        """Presses a key; tells what has the focus then, and whether that can be seen."""
        self.page.keyboard.press(key)
        return self.page.evaluate(
            """() => {
                const it = document.activeElement;
                const style = getComputedStyle(it);
                const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                const box = it.getBoundingClientRect();
                const name = it.getAttribute("aria-label") ?? it.getAttribute("aria-labelledby") ?? it.textContent.trim();
                return { name, seen: seen && box.width > 1 && box.height > 1 };
            }"""
        )

    def pretend(self, now, history):
        """The page is told this from now on, and not what its node says."""
        lines = [f"event: now\ndata: {json.dumps(now)}\n\n", f"event: history\ndata: {json.dumps(history)}\n\n"]
        body = "retry: 500\n\n" + "".join(lines)
        self.page.route("**/events", lambda route: route.fulfill(content_type="text/event-stream", body=body))
        self.page.reload()
        expect(self.page.locator("#node")).to_have_text(now["node"], timeout=PATIENCE)

    def show(self, name):
        """Takes screenshots and lets axe look, by width and colours; gives what axe finds."""
        found = []
        for width, (across, down) in WIDTHS.items():
            self.page.set_viewport_size({"width": across, "height": down})
            # As many pixels as there are now: the plots follow the width.
            self.wait("document.querySelector('#traffic-plot svg').clientWidth <= document.querySelector('#traffic-plot').clientWidth")
            overflow = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if overflow > 0:
                found.append(f"{name} {width}: {overflow} pixels wider than the screen")
            for scheme in SCHEMES:
                self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                self.page.screenshot(path=self.directory / f"{name}-{width}-{scheme}.png", full_page=True)
                results = Axe().run(self.page, options={"runOnly": {"type": "tag", "values": RULES}})
                for it in results.response["violations"]:
                    nodes = [node["html"][:160] for node in it["nodes"][:3]]
                    found.append(f"{name} {width} {scheme}: {it['impact']}: {it['id']}: {nodes}")
        self.page.set_viewport_size(dict(zip(("width", "height"), WIDTHS["desktop"])))
        return found

    def hear_complaints(self):
        """Everything that the console was told since this was last asked."""
        heard, self.complaints = self.complaints, []
        return heard


def main():
    url, directory = sys.argv[1], Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        # Its sandbox does not let root start it.
        options = ["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        width, height = WIDTHS["desktop"]
        page = chromium.new_page(viewport={"width": width, "height": height}, timezone_id="UTC")
        browser = Browser(page, directory)
        page.goto(url)
        for line in sys.stdin:
            order = json.loads(line)
            try:
                answer = {"ok": getattr(browser, order.pop("do"))(**order)}
            except (AssertionError, Error) as error:
                answer = {"error": f"{error}\n\nThe page:\n{page.locator('body').inner_text()}"}
            print(json.dumps(answer), flush=True)
        chromium.close()


main()
