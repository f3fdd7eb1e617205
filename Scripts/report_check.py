#!/usr/bin/env python3
"""Renders a training report in headless Chromium and checks it, with the standard library only.

    apt-get install chromium chromium-driver
    python3 Scripts/report_check.py report.html [--screenshot report.png] [--scheme light|dark] [--size WIDTH HEIGHT]

Checks that the page fetches nothing, that its parts are there, that every drawing has a name and a table of its numbers,
that the pointer shows numbers, the contrast of all text in both colour schemes, a width of 360 pixels, that printing
works, and that the console is silent. Prints a line per check; exits 1 if one fails.
"""
import argparse
import base64
import pathlib
import sys

from playground_check import CONTRASTS, Browser, Checks

SECTIONS = ("summary", "learning", "gradients", "change", "machine", "data", "answers", "options")
FIGURES = ("loss", "grad-norm", "learning-rate", "block-gradients", "change-map", "speed", "memory", "lengths-0")


def parts(browser, checks):
    missing = browser.run("return arguments[0].filter(id => !document.getElementById(id))", SECTIONS + FIGURES)
    checks.add("All parts are there", not missing, ", ".join(missing))
    empty = browser.run(
        "return Array.from(document.querySelectorAll('figure')).filter(f => !f.querySelector("
        "'polyline, .cells, .bar')).map(f => f.querySelector('h3').textContent)")
    checks.add("Every figure draws something", not empty, ", ".join(empty))
    wrong = browser.run(
        "return Array.from(document.querySelectorAll('svg [points], svg [d], svg [x], svg [height]')).filter(e =>"
        "/NaN|inf/i.test((e.getAttribute('points') || '') + (e.getAttribute('d') || '') + e.getAttribute('x')"
        "+ e.getAttribute('height'))).length")
    checks.add("No coordinate is off", wrong == 0)
    outside = browser.run(
        "return Array.from(document.querySelectorAll('figure .plot > svg')).flatMap(svg => {"
        "  const all = svg.getBoundingClientRect();"
        "  return Array.from(svg.querySelectorAll('text, .series, .cells, .bar')).filter(e => {"
        "    const box = e.getBoundingClientRect();"
        "    return box.left < all.left - 1 || box.right > all.right + 1 || box.top < all.top - 1"
        "      || box.bottom > all.bottom + 1;"
        "  }).map(e => svg.closest('figure').querySelector('h3').textContent + ': ' + (e.textContent || e.className.baseVal));"
        "})")
    checks.add("Nothing is drawn outside", not outside, ", ".join(outside[:3]))


def accessibility(browser, checks):
    drawings = browser.run("return Array.from(document.querySelectorAll('svg[role=img]'))")
    element = "element-6066-11e4-a52e-4f735466cecf"
    names = [browser.send("GET", f"/element/{drawing[element]}/computedlabel") for drawing in drawings]
    checks.add("Every drawing has a name of its own", all(names) and len(set(names)) == len(names), f"{len(names)}")
    tables = browser.run("return Array.from(document.querySelectorAll('figure'), f => f.querySelectorAll('td').length)")
    checks.add("  and a table of its numbers", all(tables), ", ".join(map(str, tables)))
    checks.add("Language, one heading of the first level, no level left out", browser.run(
        "const levels = Array.from(document.querySelectorAll('h1, h2, h3'), h => +h.tagName[1]);"
        "return document.documentElement.lang === 'en' && levels.filter(l => l === 1).length === 1"
        " && levels.every((l, i) => i === 0 || l <= levels[i - 1] + 1)"))
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        worst = min(browser.run(CONTRASTS))
        checks.add(f"Contrast of text, {scheme}", worst[0] >= 4.5, f"at least {worst[0]:.1f} ({worst[1]})")


def pointer(browser, checks):
    """Moves the pointer over the middle of a chart and of a heat map."""
    for selector, expected in (("figure:has(.series) .plot svg", "step"), ("svg.heat", "block")):
        box = browser.run("const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
                          "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]", selector)
        at = {"x": round(box[0] + box[2] * 0.6), "y": round(box[1] + box[3] * 0.5)}
        browser.send("POST", "/actions", {"actions": [{
            "type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
            "actions": [{"type": "pointerMove", "duration": 0, **at}]}]})
        text = browser.run("return document.querySelector(arguments[0]).closest('figure')"
                           ".querySelector('.readout').textContent", selector)
        checks.add("The pointer shows numbers", expected in text, text[:90])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("report")
    parser.add_argument("--screenshot")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--size", type=int, nargs=2, default=(1200, 1000), metavar=("WIDTH", "HEIGHT"))
    options = parser.parse_args()
    checks, browser = Checks(), Browser()
    try:
        browser.size(*options.size)
        browser.send("POST", "/url", {"url": pathlib.Path(options.report).resolve().as_uri()})
        fetched = browser.run("return performance.getEntriesByType('resource').map(e => e.name)")
        checks.add("Nothing is fetched", not [name for name in fetched if not name.startswith("data:")])
        parts(browser, checks)
        pointer(browser, checks)
        accessibility(browser, checks)
        pages = browser.devtools("Page.printToPDF", printBackground=True)["data"]
        checks.add("It prints", base64.b64decode(pages).startswith(b"%PDF"), f"{len(pages) * 3 // 4} bytes")
        browser.size(360, 800)
        width = browser.run("return document.scrollingElement.scrollWidth")
        checks.add("Nothing is wider than a screen of 360 pixels", width <= 360, str(width))
        log = [entry["message"] for entry in browser.send("POST", "/se/log", {"type": "browser"})]
        checks.add("The console is silent", not log, " | ".join(log))
        if options.screenshot:
            browser.size(*options.size)
            browser.scheme(options.scheme)
            browser.run("window.scrollTo(0, 0)")
            browser.screenshot(options.screenshot)
    finally:
        browser.close()
    sys.exit(1 if checks.failures else 0)


if __name__ == "__main__":
    main()
