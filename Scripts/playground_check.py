#!/usr/bin/env python3
"""Drives the page of a running server in headless Chromium, through chromedriver, with the standard library only.

    apt-get install chromium chromium-driver
    python3 Scripts/playground_check.py http://127.0.0.1:8080/ [--key KEY] [--models A B] [--screenshot page.png]

Asks two models the same by keyboard, stops two answers, and checks the table, that every control has a name and is
reached by Tab, the contrast of all text in both colour schemes, a width of 360 pixels, and that the console is silent.
Prints a line per check; exits 1 if one fails.
"""
import argparse
import base64
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB, ESCAPE, CONTROL, ENTER = "\ue004", "\ue00c", "\ue009", "\ue007"
LONG = "Write a long story about a lighthouse and its keeper."

# Text that is shown, with its contrast to what is behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgba = color => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  return Array.from(canvas.getImageData(0, 0, 1, 1).data);
};
const luminance = color => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
  const part = color[i] / 255;
  return sum + weight * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
}, 0);
const behind = element => {
  for (let at = element; at; at = at.parentElement) {
    const color = rgba(getComputedStyle(at).backgroundColor);
    if (color[3] === 255) return color;
  }
  return [255, 255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
  if (!text || !element.checkVisibility() || ["SCRIPT", "NOSCRIPT", "OPTION"].includes(element.tagName)) continue;
  const [high, low] = [rgba(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => b - a);
  found.push([(high + 0.05) / (low + 0.05), text.slice(0, 30)]);
}
return found;
"""
CONTROLS = """
return Array.from(document.querySelectorAll("a[href], button, input, select, textarea, [tabindex='0']"))
  .filter(element => element.checkVisibility() && !element.disabled);
"""


class Browser:
    """A session of chromedriver (W3C WebDriver)."""

    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        port = next(m[1] for m in (re.search(r"successfully on port (\d+)", line) for line in self.driver.stdout) if m)
        self.address = f"http://127.0.0.1:{port}"
        arguments = ["--headless=new", "--hide-scrollbars", "--force-device-scale-factor=1"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        session = self.send("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.address += f"/session/{session['sessionId']}"

    def send(self, method, path, body=None):
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def close(self):
        try:
            self.send("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()

    def run(self, script, *arguments):
        return self.send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def element(self, selector):
        return self.send("POST", "/element", {"using": "css selector", "value": selector})

    def type(self, selector, text):
        element = self.element(selector)[ELEMENT]
        self.send("POST", f"/element/{element}/clear")
        self.send("POST", f"/element/{element}/value", {"text": text})

    def press(self, *keys):
        """All keys down in order, then up in reverse."""
        strokes = [{"type": "keyDown", "value": key} for key in keys]
        strokes += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.send("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def wait(self, script, what, seconds=180):
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            if time.monotonic() > end:
                status = self.run("return document.getElementById('status').textContent")
                raise RuntimeError(f"waited {seconds} s for {what}; the page says: {status}")
            time.sleep(0.05)
        return value

    def devtools(self, command, **parameters):
        return self.send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width, height):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                      mobile=False)

    def scheme(self, name):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"]))


class Checks:
    """Prints a line per check; some may fail before all have run."""

    def __init__(self):
        self.failures = 0

    def add(self, what, holds, figure=""):
        self.failures += not holds
        print(f"{'holds' if holds else 'FAILS'}  {what}{': ' if figure else ''}{figure}", flush=True)


def shown(browser, part):
    """The text of a part of both answers."""
    return browser.run(f"return Array.from(document.querySelectorAll('article [data-is={part}]'), e => e.textContent)")


def answering(browser, count):
    """Waits until `count` answers are being written."""
    browser.wait(f"return document.querySelectorAll('article [aria-disabled=false]').length === {count}",
                 f"{count} running answers")


def open_page(browser, url, key):
    browser.send("POST", "/url", {"url": url})
    browser.wait("return document.querySelector('article option') || !document.getElementById('access').hidden",
                 "models or the field for a key")
    if browser.run("return !document.getElementById('access').hidden"):
        if not key:
            sys.exit("The server asks for a key: --key KEY.")
        browser.type("#key", key + ENTER)
        browser.wait("return document.querySelector('article option')", "models")
    browser.wait("return document.querySelectorAll('#rows tr').length", "the table of adapters")


def pick(browser, models):
    offered = browser.run("return Array.from(document.querySelector('article select').options, o => o.value)")
    models = models or [offered[0], offered[min(1, len(offered) - 1)]]
    for index, model in enumerate(models):
        option = browser.run(f"return Array.from(document.querySelectorAll('article select')[{index}].options)"
                             ".find(option => option.value === arguments[0])", model)
        browser.send("POST", f"/element/{option[ELEMENT]}/click")
    return models


def ask(browser, checks, options, models):
    browser.type("#system", options.system)
    browser.type("#limit", str(options.max_tokens))
    browser.type("#prompt", options.prompt)
    browser.press(CONTROL, ENTER)
    browser.wait("return document.getElementById('status').textContent.includes('tokens')", "two answers")
    answering(browser, 0)
    for index, model in enumerate(models):
        text, first, speed = (shown(browser, part)[index] for part in ("text", "first", "speed"))
        checks.add(f"{model} answers", bool(text.strip()), text[:60].replace("\n", " "))
        checks.add("  with time to first token and tokens/s",
                   first.endswith(" ms") and speed.endswith(" tokens/s"), f"{first}, {speed}")
        checks.add("  and cached tokens", "cached" in shown(browser, "prompt")[index], shown(browser, "prompt")[index])


def stop(browser, checks):
    """Esc ends both answers, a Stop button its own."""
    browser.type("#limit", "1000")
    browser.type("#prompt", LONG)
    browser.press(CONTROL, ENTER)
    answering(browser, 2)
    browser.press(ESCAPE)
    answering(browser, 0)
    ends = zip(shown(browser, "length"), shown(browser, "text"))
    checks.add("Esc stops both answers", all("topped" in length + text for length, text in ends))
    browser.press(CONTROL, ENTER)
    answering(browser, 2)
    browser.run("document.querySelector('article [data-is=stop]').focus()")
    browser.press(ENTER)
    browser.wait("return document.querySelector('article [data-is=stop]').ariaDisabled === 'true'", "the first to stop")
    checks.add("Stop ends its own answer", "topped" in shown(browser, "length")[0] + shown(browser, "text")[0])
    browser.press(ESCAPE)
    answering(browser, 0)


def table(browser, checks):
    rows = browser.run("return Array.from(document.querySelectorAll('#rows tr'), r => r.innerText.split('\\t'))")
    headers = browser.run("return Array.from(document.querySelectorAll('thead th'))"
                          ".filter(h => h.checkVisibility()).map(h => h.innerText)")
    names = browser.run("return Array.from(document.querySelector('article select').options, o => o.value)")
    checks.add("The table has a row per adapter", all(row[0] in names for row in rows) and rows, f"{len(rows)} rows")
    checks.add("  and a cell per header", all(len(row) == len(headers) for row in rows), ", ".join(headers))
    scopes = browser.run("return Array.from(document.querySelectorAll('th'), h => h.scope)")
    checks.add("  whose headers say what they head", set(scopes) == {"row", "col"})


def accessibility(browser, checks):
    controls = browser.run(CONTROLS)
    labels = [browser.send("GET", f"/element/{control[ELEMENT]}/computedlabel") for control in controls]
    distinct = all(labels) and len(set(labels)) == len(labels)
    checks.add("Every control has a name of its own", distinct, ", ".join(labels))
    browser.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    browser.send("POST", "/url", {"url": browser.send("GET", "/url") + "#"})
    reached, outlined = [], True
    for _ in controls:
        browser.press(TAB)
        reached.append(browser.run("return document.activeElement"))
        outlined &= browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    checks.add("Tab reaches all in the order of the page", reached == controls, f"{len(controls)} controls")
    checks.add("The focus is seen on each", outlined)
    checks.add("Landmarks, language and one heading of the first level", browser.run(
        "return document.documentElement.lang === 'en' && ['main', 'header', 'h1', '[role=status]']"
        ".every(s => document.querySelectorAll(s).length === 1)"))
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        worst = min(browser.run(CONTRASTS))
        checks.add(f"Contrast of text, {scheme}", worst[0] >= 4.5, f"at least {worst[0]:.1f} ({worst[1]})")
    browser.size(360, 800)
    width = browser.run("return document.scrollingElement.scrollWidth")
    checks.add("Nothing is wider than a screen of 360 pixels", width <= 360, str(width))


def silent(browser, checks):
    """The console may tell only that a route for administrators, or for keys, refused."""
    log = browser.send("POST", "/se/log", {"type": "browser"})
    refused = re.compile(r"/(lora-adapters|v1/models) - Failed to load resource: .* 40[134] ")
    wrong = [entry["message"] for entry in log if not refused.search(entry["message"])]
    checks.add("The console is silent", not wrong, " | ".join(wrong))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--key", default=os.environ.get("LORA_API_KEY", ""))
    parser.add_argument("--models", nargs=2)
    parser.add_argument("--system", default="")
    parser.add_argument("--prompt", default="set a timer for 12 minutes in the kitchen")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--screenshot")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--size", type=int, nargs=2, default=(1120, 860), metavar=("WIDTH", "HEIGHT"))
    options = parser.parse_args()
    checks, browser = Checks(), Browser()
    try:
        browser.size(*options.size)
        browser.scheme(options.scheme)
        open_page(browser, options.url, options.key)
        ask(browser, checks, options, pick(browser, options.models))
        if options.screenshot:
            browser.run("document.activeElement.blur()")
            browser.screenshot(options.screenshot)
        table(browser, checks)
        stop(browser, checks)
        accessibility(browser, checks)
        silent(browser, checks)
    finally:
        browser.close()
    sys.exit(1 if checks.failures else 0)


if __name__ == "__main__":
    main()
