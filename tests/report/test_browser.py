"""The page as a browser shows it: in both schemes, on a phone and a desk."""

import copy

import numpy as np
import pytest

from tests.report import browser as browser_lib
from tests.report import samples
from tsjax.report import page, pictures

WIDTHS = (400, 1200)
SCHEMES = ("light", "dark")
CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3, level AA.

UNFOLD = """
(() => {
  document.querySelectorAll('details').forEach(e => e.open = true);
  const page = document.documentElement;
  return [page.scrollWidth, page.scrollHeight];
})()
"""

# For each visible piece of text: its contrast with all that is painted below
# its middle, and whether it leaves the drawing that it belongs to.
MEASURE = """
(() => {
  const parse = text => {
    const found = text.match(/[\\d.]+%?/g);
    if (!text.startsWith('rgb') || !found) return null;
    const [r, g, b, a] = found.map(Number);
    return [r, g, b, a === undefined ? 1 : a];
  };
  const over = (top, below) =>
    [0, 1, 2].map(k => top[3] * top[k] + (1 - top[3]) * below[k]);
  const light = color => {
    const [r, g, b] = color.map(v => {
      const s = v / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const shape = e => e instanceof SVGElement && e.tagName !== 'svg';
  const paint = e => {
    const style = getComputedStyle(e);
    const color = parse(shape(e) ? style.fill : style.backgroundColor);
    if (!color) return null;
    const part = shape(e) ? Number(style.fillOpacity) : 1;
    return [...color.slice(0, 3), color[3] * part * Number(style.opacity)];
  };
  const result = {texts: 0, faint: [], cut: []};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, owner = node.parentElement;
    if (!node.data.trim() || owner.tagName.toLowerCase() === 'title') continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getClientRects()[0];
    if (!box || !box.width) continue;
    result.texts += 1;
    const inside = owner.closest('svg');
    if (inside) {
      const frame = inside.getBoundingClientRect();
      const all = range.getBoundingClientRect();
      if (all.left < frame.left - 1 || all.right > frame.right + 1 ||
          all.top < frame.top - 1 || all.bottom > frame.bottom + 1)
        result.cut.push(node.data);
    }
    // A drawing's parts lie over each other; elsewhere a parent lies below.
    let under = [];
    if (inside)
      under = document.elementsFromPoint(
        box.left + box.width / 2, box.top + box.height / 2);
    else
      for (let e = owner; e; e = e.parentElement) under.push(e);
    let below = [255, 255, 255];
    for (const e of under.reverse()) {
      if (['text', 'line'].includes(e.tagName)) continue;
      const color = paint(e);
      if (color && color[3]) below = over(color, below);
    }
    const style = getComputedStyle(owner);
    const ink = parse(shape(owner) ? style.fill : style.color);
    const front = over(ink, below);
    const [low, high] = [light(front), light(below)].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < LIMIT)
      result.faint.push(`${node.data.trim()}: ${contrast.toFixed(2)}`);
  }
  result.captions = [...document.querySelectorAll('figure')].map(f => {
    const told = f.querySelector('figcaption');
    return told ? told.innerText.trim() : '';
  });
  const images = [...document.images];
  result.images = images.length;
  return Promise.allSettled(images.map(i => i.decode())).then(found => {
    result.broken = images.filter((image, k) =>
      found[k].status !== 'fulfilled' || !image.naturalWidth || !image.alt,
    ).length;
    return result;
  });
})()
""".replace("LIMIT", str(CONTRAST))


def _full():
  """A run of which every section of the page has something to tell."""
  results = samples.make_results()
  for k, stage in enumerate(results["stages"].values()):
    stage["groups"] = samples.groups(1 - 0.1 * k)
  return results


def _long():
  """The same with long names, many classes and a deep model."""
  results = copy.deepcopy(_full())
  random = np.random.default_rng(0)
  classes = [f"Euphorbia_characias_wulfenii_{k}" for k in range(40)]
  confusion = random.integers(0, 900, (40, 40)) + 40_000 * np.eye(40, dtype=int)
  for name in list(results["stages"]):
    stage = results["stages"].pop(name)
    stage["confusion"] = confusion.tolist()
    for scores in stage["per_class"]:
      stage["per_class"][scores] = random.uniform(size=40).tolist()
    if stage["similarity"]:
      names = [f"encoder/block_{k}/attention/output" for k in range(30)]
      stage["similarity"] |= {
        "rows": names,
        "columns": names,
        "cka": random.uniform(size=(30, 30)).tolist(),
      }
    results["stages"][f"{name}_of_a_study_with_a_long_name"] = stage
  results["pictures"]["30"] = pictures.uri(np.zeros((64, 40, 3), np.uint8))
  return results | {"classes": classes, "command": "x" * 300}


@pytest.fixture(name="browser", scope="module")
def _browser(tmp_path_factory):
  if browser_lib.find() is None:
    pytest.skip("looks at the page in Chromium, and there is none on the path")
  with browser_lib.Browser(tmp_path_factory.mktemp("profile")) as browser:
    yield browser


def _measure(browser, width):
  """Everything unfolded, in a window as high as the page."""
  wide, high = browser.evaluate(UNFOLD)
  browser.resize(width, high)
  return browser.evaluate(MEASURE) | {"wide": wide}


def _check(browser, path, width, scheme):
  browser.open(path, width=width, scheme=scheme)
  assert browser.requests() == [path.as_uri()]
  found = _measure(browser, width)
  assert found["wide"] == width, f"{found['wide']} pixels wide on {width}"
  assert not browser.complaints()
  assert found["texts"] > 300 and not found["faint"], found["faint"][:20]
  assert not found["cut"], found["cut"][:20]
  assert len(found["captions"]) > 6
  assert all(len(told) > 15 for told in found["captions"]), found["captions"]
  assert not found["broken"]
  return found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_readable(browser, tmp_path, width, scheme):
  path = page.write(_full(), tmp_path)
  assert _check(browser, path, width, scheme)["images"] == 3


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_of_numbers_is_readable(browser, tmp_path, width):
  path = page.write(samples.make_regression(), tmp_path)
  _check(browser, path, width, "dark")


@pytest.mark.parametrize("width", WIDTHS)
def test_long_names_and_deep_models_are_readable(browser, tmp_path, width):
  path = page.write(_long(), tmp_path)
  assert _check(browser, path, width, "light")["images"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", (320, *WIDTHS, 2000))
@pytest.mark.parametrize("stages", [1, 31])
def test_few_and_many_stages_are_readable(
  browser, tmp_path, stages, width, scheme
):
  results = samples.make_many(31)
  results["stages"] = dict(list(results["stages"].items())[:stages])
  _check(browser, page.write(results, tmp_path), width, scheme)


def test_a_fault_is_found(browser, tmp_path):
  # The measure itself must be able to fail.
  path = page.write(_full(), tmp_path)
  text = path.read_text().replace(
    "</style>", ".lead{color:#999} svg .count{opacity:1;fill:#888}</style>"
  )
  faults = '<img src="https://a.invalid"><p style="width:500px">wide</p>'
  path.write_text(text.replace("<main>", f"<main>{faults}"))
  browser.open(path, width=400, scheme="light")
  found = _measure(browser, 400)
  assert len(found["faint"]) > 100 and found["broken"] == 1
  assert found["wide"] > 400
  assert any("Content Security Policy" in str(c) for c in browser.complaints())
