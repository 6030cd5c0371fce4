"""A real browser, headless, that opens a page at a width and tells what it finds; no network."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--hide-scrollbars", "--enable-logging=stderr"),
)
_HARNESS = """<!doctype html><meta charset="utf-8"><body><pre id="found"></pre>
<iframe id="page" style="border:0;width:{width}px;height:2000px" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const inner = document.getElementById("page").contentWindow, root = inner.document.documentElement;
  document.getElementById("found").textContent = JSON.stringify({{
    width: root.scrollWidth,
    charts: inner.document.querySelectorAll(".plot path.line, .plot path.dot").length,
    images: [...inner.document.images].filter((image) => image.naturalWidth > 0).length,
    requests: inner.performance.getEntriesByType("resource").map((entry) => entry.name).filter(
      (name) => !name.startsWith("data:")),
    stops: inner.document.querySelectorAll("[tabindex='0']").length,
    paper: inner.getComputedStyle(inner.document.body).backgroundColor,
  }});
}});
</script>"""


def open_page(page: Path, width: int, folder: Path, *options: str) -> dict[str, Any]:
    """Return what the browser finds in a page that is `width` pixels wide, with its messages under `console`."""
    assert CHROMIUM
    harness = folder / "harness.html"
    text = page.read_text(encoding="utf-8")
    harness.write_text(_HARNESS.format(width=width, page=html.escape(text)), encoding="utf-8")
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
        "--hide-scrollbars",
    ]
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [CHROMIUM, *flags, profile, *options, "--dump-dom", f"file://{harness}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    written = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert written, done.stderr
    found: dict[str, Any] = json.loads(html.unescape(written[1]))
    return found | {"console": [line for line in done.stderr.splitlines() if "CONSOLE" in line]}
