"""Open every page of the built site in headless Chromium, as a reader would: `make docs-test`.

Fails where a page has an error in its console or asks for anything outside the site, a link leads nowhere, a formula is
not typeset, a picture is missing or has no alternative text, a page is wider than a phone, search does not find
"k of n", or a code block does not copy. Screenshots of five pages, for desktop and phone, go to build/site-pictures.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "site"
PICTURES = ROOT / "build" / "site-pictures"
SHOWN = ("index.html", "guides/get_started.html", "gallery/index.html", "api/ops.html", "math/mvhg.html")
DESKTOP, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}

# What one page holds, read in one go. Links as written, so that the site's own are told from others.
READ = """() => ({
  links: [...document.querySelectorAll('a[href]')].map(a => a.href),
  anchors: [...document.querySelectorAll('[id]')].map(e => e.id),
  formulas: document.querySelectorAll('.math').length,
  typeset: document.querySelectorAll('.math mjx-container').length,
  wrong: [...document.querySelectorAll('mjx-merror')].map(e => e.title || e.textContent),
  pictures: [...document.images].filter(i => i.loading !== 'lazy' || i.complete)
    .map(i => ({
      source: i.src, width: i.naturalWidth,
      alt: i.alt || i.closest('.sphx-glr-thumbcontainer')?.textContent,  // a card says beside it what it shows
    })),
  width: document.documentElement.scrollWidth,
})"""


def chromium() -> str:
    """Debian's browser; installed where it is missing and that is allowed."""
    if not shutil.which("chromium") and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], check=True)
    return shutil.which("chromium") or sys.exit("check_site: chromium is not installed (Debian: apt install chromium)")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def serve(folder: Path) -> str:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


class Reader:
    """One browser tab and what was found wrong."""

    def __init__(self, page: Any, base: str) -> None:
        self.page, self.base, self.here = page, base, ""
        self.faults: list[str] = []
        self.anchors: dict[str, set[str]] = {}
        self.links: list[tuple[str, str]] = []
        page.on("console", lambda message: message.type == "error" and self.fault(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.fault(f"script: {error}"))
        page.on("request", self.asked)
        page.on("response", lambda answer: answer.status >= 400 and self.fault(f"{answer.status}: {answer.url}"))

    def fault(self, text: str) -> None:
        self.faults.append(f"{self.here}: {text}")

    def asked(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.fault(f"asks for something outside the site: {request.url}")

    def open(self, name: str) -> None:
        self.here = name
        self.page.goto(urljoin(self.base, name), wait_until="load")
        self.page.evaluate("() => window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => 0) : 0")

    def visit(self, name: str) -> None:
        self.page.set_viewport_size(DESKTOP)
        self.open(name)
        found = self.page.evaluate(READ)
        self.anchors[name] = set(found["anchors"])
        self.links += [(name, link) for link in found["links"]]
        if found["typeset"] < found["formulas"]:
            self.fault(f"{found['formulas'] - found['typeset']} of {found['formulas']} formulas are not typeset")
        for text in found["wrong"]:
            self.fault(f"formula: {text}")
        for picture in found["pictures"]:
            if not picture["width"]:
                self.fault(f"picture does not load: {picture['source']}")
            if not picture["alt"]:
                self.fault(f"picture without alternative text: {picture['source']}")
        self.page.set_viewport_size(PHONE)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"] + 1:
            self.fault(f"{width} pixels wide on a phone of {PHONE['width']}")

    def check_links(self) -> int:
        """Those of the site itself: the file is there, and the place in it."""
        count = 0
        for name, link in dict.fromkeys(self.links):
            if not link.startswith(self.base):
                if urlsplit(link).scheme not in ("http", "https", "mailto"):
                    self.faults.append(f"{name}: odd link {link}")
                continue
            count += 1
            target, anchor = urldefrag(link[len(self.base) :])
            target = unquote(target.partition("?")[0]) or "index.html"
            target += "index.html" if target.endswith("/") else ""
            if not (SITE / target).is_file():
                self.faults.append(f"{name}: link to {target}, which is not there")
            elif anchor and target in self.anchors and unquote(anchor) not in self.anchors[target]:
                self.faults.append(f"{name}: link to {target}#{anchor}, a place which is not there")
        return count

    def check_search(self, words: str, wanted: str) -> None:
        self.open(f"search.html?q={words.replace(' ', '+')}")
        results = self.page.locator("#search-results li a")
        try:
            results.first.wait_for(timeout=20_000)
        except Exception:
            return self.fault(f"search for {words!r} finds nothing")
        titles = results.all_inner_texts()
        if not any(wanted.lower() in title.lower() for title in titles[:10]):
            self.fault(f"search for {words!r} must find {wanted!r} among the first ten, got {titles[:10]}")

    def check_copy(self, name: str) -> None:
        self.page.set_viewport_size(DESKTOP)
        self.open(name)
        block = self.page.locator("div.highlight-python div.highlight").first
        block.hover()
        block.locator("button.copybtn").click()
        copied = self.page.evaluate("navigator.clipboard.readText()")
        shown = block.locator("pre").inner_text()
        if copied.strip() != shown.strip() or not copied.strip():
            self.fault(f"a code block must copy as it stands, got {copied[:80]!r}")

    def take_pictures(self) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name in SHOWN:
            for title, size in (("desktop", DESKTOP), ("phone", PHONE)):
                self.page.set_viewport_size(size)
                self.open(name)
                self.page.screenshot(path=PICTURES / f"{name.removesuffix('.html').replace('/', '_')}_{title}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", default="**/*.html", help="pattern of the pages to open (default: all)")
    pattern = parser.parse_args().pages
    names = sorted(path.relative_to(SITE).as_posix() for path in SITE.glob(pattern) if "_static" not in path.parts)
    if not names:
        sys.exit(f"check_site: no pages like {pattern} in {SITE}; `make docs` builds the site")
    from playwright.sync_api import sync_playwright

    base = serve(SITE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        reader = Reader(context.new_page(), base)
        for name in names:
            reader.visit(name)
        links = reader.check_links()
        reader.check_search("k of n", "k of n")
        reader.check_copy("guides/get_started.html")
        reader.take_pictures()
        browser.close()
    print(*reader.faults, f"{len(names)} pages, {links} links, {len(reader.faults)} faults", sep="\n")
    return 1 if reader.faults else 0


if __name__ == "__main__":
    sys.exit(main())
