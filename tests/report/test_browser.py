"""A report in a real browser: nothing on the console, no request, fits a telephone, obeys the colour scheme.

Needs Chromium or Chrome; skipped without.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.report.rendering import evaluation_html
from tests.report.report_pages import history_lines, hostile_page, random_page

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LIGHT, DARK = "1", "0"
REQUEST = re.compile(r'"url":"(https?://[^"]+)"')
BROWSERS_OWN = re.compile(
    r"https?://(clients2|www|accounts)\.google\.com/"
)  # asked for with any page, an empty one too
CSP = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')

Browse = Callable[..., "Visit"]


class Visit:
    """What a visit showed: the document afterwards, messages of the console, addresses that were asked for."""

    def __init__(self, done: subprocess.CompletedProcess[str], net_log: Path) -> None:
        self.document = done.stdout
        self.console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        asked = REQUEST.findall(net_log.read_text(encoding="utf-8", errors="replace"))
        self.requests = {address for address in asked if not BROWSERS_OWN.match(address)}


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """browse(html, width=1000, scheme=LIGHT, screenshot=None) -> Visit"""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: install Chromium (looked for {', '.join(BROWSERS)})")

    def visit(html: str, *, width: int = 1000, scheme: str = LIGHT, screenshot: Path | None = None) -> Visit:
        page, net_log = tmp_path / "page.html", tmp_path / "net.json"
        page.write_text(html, encoding="utf-8")
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--log-net-log={net_log}",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--window-size={width},3000",
            "--dump-dom" if screenshot is None else f"--screenshot={screenshot}",
        ]
        done = subprocess.run(
            [browser, *options, page.as_uri()],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=True,
        )
        return Visit(done, net_log)

    return visit


def measured(html: str) -> str:
    """The page without its policy, and with a script that writes its measures into the title."""
    script = (
        "<script>document.title = [document.documentElement.scrollWidth, innerWidth, "
        "getComputedStyle(document.body).backgroundColor].join('|')</script>"
    )
    return CSP.sub("", html).replace("</body>", f"{script}</body>")


def measures(visit: Visit) -> list[str]:
    found = re.search(r"<title>(.*?)</title>", visit.document)
    assert found is not None
    return found[1].split("|")


def test_a_hostile_report_opens_in_silence(browse: Browse) -> None:
    html = evaluation_html(hostile_page(history_lines(updates=50)))
    visit = browse(html)
    assert visit.console == []
    assert visit.requests == set()
    assert "<script" not in visit.document
    assert "<img" not in visit.document
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in visit.document
    assert visit.document.count("<section") == html.count("<section")


def test_what_the_visit_looks_for_can_be_seen(browse: Browse) -> None:
    visit = browse("<p>x</p><img src='http://127.0.0.1:9/picture.png'><script>console.error('seen')</script>")
    assert any("seen" in line for line in visit.console)
    assert "http://127.0.0.1:9/picture.png" in visit.requests
    blocked = browse(
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\"><img src='http://127.0.0.1:9/x.png'>"
    )
    assert blocked.requests == set()
    assert blocked.console != []


@pytest.mark.parametrize("num_classes", [2, 20, 120])
def test_a_report_fits_a_narrow_screen(browse: Browse, num_classes: int) -> None:
    """Wide tables scroll inside themselves; the page does not."""
    classes = tuple(f"a_rather_long_class_name_{number}" for number in range(num_classes))
    columns = {"a_column_with_a_long_name": [f"https://example.invalid/{'x' * 90}/{row % 5}" for row in range(600)]}
    history = history_lines(updates=50)
    page = random_page(600, num_classes, classes=classes, columns=columns, text="word" * 100, history=history)
    content, window, _ = measures(browse(measured(evaluation_html(page)), width=390))
    assert int(window) <= 500
    assert int(content) <= int(window)


def test_the_colours_follow_the_scheme(tmp_path: Path, browse: Browse) -> None:
    html = evaluation_html(random_page(300, 3))
    light, dark = (measures(browse(measured(html), scheme=scheme))[2] for scheme in (LIGHT, DARK))
    assert light == "rgb(252, 252, 250)"
    assert dark == "rgb(20, 23, 26)"
    pictures = [tmp_path / "light.png", tmp_path / "dark.png"]
    for picture, scheme in zip(pictures, (LIGHT, DARK), strict=True):
        browse(html, scheme=scheme, screenshot=picture)
    sizes = [picture.stat().st_size for picture in pictures]
    assert min(sizes) > 20_000
    assert pictures[0].read_bytes() != pictures[1].read_bytes()
