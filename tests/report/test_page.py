import base64
import hashlib
import os
import re
import weakref
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.chromium import evaluate, screenshot

from trl_mm.report.page import GalleryItem, Page


HOSTILE = "\"'></script></style></title><img src=x onerror=hacked=1><svg onload=hacked=1> {{ 7 * 7 }} &amp; $\\frac$ "
DRAWING = Image.new("RGB", (112, 80), "red")


class Reader(HTMLParser):
    """The tags, attributes and text of a page, as a browser would take them apart."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.texts.append(data)


def full_page(word="word "):
    """A page with each kind of part, with `word` in each field; the fields differ in their last letter."""
    page = Page(word + "A", word + "B")
    page.text(word + "C")
    page.heading(word + "D")
    page.table([word + "E", "share"], [[word + "F", 0.5], [None, "3.2 %"]], caption=word + "G", highlight=[1])
    page.plot(word + "H", {word + "I": [(0, 1), (1, 2.5)], "_hidden": []}, word + "J", word + "K")
    text = word + "L"
    marks = [(0, 1, "bad"), (2, len(text), "good")]
    page.gallery(
        [GalleryItem(DRAWING, word + "M", [(word + "N", text, marks)]), GalleryItem(title="no image")],
        caption=word + "O",
        good=word + "P",
        bad=word + "Q",
    )
    return page


def browser_page(word="word ", count=3):
    """A page with filters over `count` items, with `word` in each field; every third item lacks its values."""
    page = Page(word + "A")
    page.bars(word + "B", [(word + "C", 3), ("empty", 0)], word + "D", word + "E")
    page.browser(
        [
            GalleryItem(
                [DRAWING, word + "F"],
                f"item {index}.",
                [(word + "G", word + "H", [(0, 1, "bad")]), ("answer", f"Even İt, {word}\n so." * (index % 2), [])],
                prompt=word + "I",
                values={word + "J": word + str(index % 2), word + "K": index / 10} if index % 3 else {},
            )
            for index in range(count)
        ],
        {word + "J": "choice", word + "K": "range"},
        caption=word + "L",
        good=word + "M",
        bad=word + "N",
    )
    return page


def written(page, folder):
    return page.write(folder / "page.html").read_text(encoding="utf-8")


def test_nothing_from_data_becomes_markup(tmp_path):
    harmless, hostile = (Reader(written(full_page(word), tmp_path)) for word in ("word ", HOSTILE))
    assert hostile.tags == harmless.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in harmless.attributes]
    assert not {"script", "iframe", "link", "object", "embed", "form", "base"} & set(hostile.tags)
    assert not any(name.startswith("on") or name == "style" for name, _ in hostile.attributes)


def test_nothing_from_data_reaches_the_script(tmp_path):
    html = [written(browser_page(word), tmp_path) for word in ("word ", HOSTILE)]
    harmless, hostile = map(Reader, html)
    assert hostile.tags == harmless.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in harmless.attributes]
    assert harmless.tags.count("script") == 1
    assert not any(name.startswith("on") or name in ("style", "href") for name, _ in hostile.attributes)
    (script,) = {re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1] for page in html}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert all(f"script-src 'sha256-{digest}';" in page and "unsafe" not in page for page in html)


def test_all_text_of_a_browser_arrives_as_it_was(tmp_path):
    reader = Reader(written(browser_page(HOSTILE), tmp_path))
    text = "".join(reader.texts)
    for letter in "ABCDEFGHIJKLMN":
        assert HOSTILE + letter in text, letter
    assert [value for name, value in reader.attributes if name == "data-0"] == [HOSTILE + "1", HOSTILE + "0"]


def test_filters_in_a_browser(tmp_path):
    found = evaluate(
        browser_page(HOSTILE, count=12).write(tmp_path / "page.html"),
        """
        const bar = document.querySelector(".filters");
        const [search, choice, least, most] = bar.querySelectorAll("input, select");
        const shown = () => {
          const cards = [...document.querySelectorAll(".card")];
          const visible = cards.map((card, index) => card.offsetHeight > 0 ? index : -1).filter((n) => n >= 0);
          return [bar.querySelector("output").textContent, visible];
        };
        const set = (input, value) => {
          input.value = value;
          input.dispatchEvent(new Event("input", {bubbles: true}));
          return shown();
        };
        const requests = () => performance.getEntriesByType("resource").map((entry) => entry.name);
        return {
          all: shown(),
          placeholders: [least.placeholder, most.placeholder],
          choices: [...choice.options].map((option) => option.value),
          choice: set(choice, choice.options[2].value),
          both: set(least, "0.5"),
          range: set(choice, "") && set(most, "0.8"),
          typed: set(least, "") && set(most, "") && set(search, "  EVEN i̇t,"),
          markup: set(search, "<svg onload=hacked=1>"),
          across: set(search, "item 1."),
          none: set(search, "nowhere"),
          reset: (bar.querySelector("button").click(), shown()),
          hacked: "hacked" in window,
          requests: requests().filter((name) => !name.startsWith("data:")),
        };
        """,
    )
    assert found["all"] == ["12 of 12", list(range(12))]
    assert found["placeholders"] == ["0.1", "1.1"]
    assert found["choices"] == ["", HOSTILE + "0", HOSTILE + "1"]
    assert found["choice"] == ["4 of 12", [1, 5, 7, 11]]
    assert found["both"] == ["3 of 12", [5, 7, 11]]
    assert found["range"] == ["3 of 12", [5, 7, 8]]
    assert found["typed"] == ["6 of 12", [1, 3, 5, 7, 9, 11]]
    assert found["markup"][0] == "12 of 12"
    assert found["across"] == ["1 of 12", [1]]
    assert found["none"] == ["0 of 12", []]
    assert found["reset"] == found["all"]
    assert not found["hacked"]
    assert found["requests"] == []


@pytest.mark.parametrize("width", [400, 1280])
def test_no_word_is_too_long_for_the_window(tmp_path, width):
    page = browser_page("W" * 500 + "\u202e שלום 👩‍👩‍👧 红色的猫 ")
    page.table(["a"], [["W" * 500]])
    path = page.write(tmp_path / "page.html")
    wide = evaluate(
        path,
        """
        const all = [...document.querySelectorAll(".card *")];
        const rights = all.map((element) => element.getBoundingClientRect().right);
        return [document.documentElement.scrollWidth, Math.max(...rights)];
        """,
        width=width,
    )
    assert max(wide) <= width


def test_filters_of_an_unknown_kind():
    with pytest.raises(ValueError, match=r"`filters\['a'\]` must be 'choice' or 'range', got 'text'"):
        Page("t").browser([], {"a": "text"})


def test_a_browser_without_items(tmp_path):
    page = Page("t")
    page.browser([], {"a": "choice", "b": "range"})
    page.bars("none", [])
    assert '<option value="">all</option>' in written(page, tmp_path)


def test_thumbnails_of_an_item_share_its_bytes():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    page = Page("t")
    page.browser([GalleryItem([noise] * 3)], {}, max_bytes=9000)
    sizes = [len(picture["uri"]) for picture in page._parts[0]["cards"][0]["pictures"]]
    assert len(sizes) == 3 and sum(sizes) < 9000 * 4 / 3 + 100


def test_bars(tmp_path):
    page = Page("t")
    page.bars("title", [("a", 1), ("b", 3)])
    html = written(page, tmp_path)
    assert re.findall(r'<rect width="(.*?)"', html) == ["33.3", "100.0"]
    assert '<td class="number">3</td><td class="number">75.0%</td>' in html


def test_all_text_arrives_as_it_was(tmp_path):
    reader = Reader(written(full_page(HOSTILE), tmp_path))
    text = "".join(reader.texts)
    for letter in "ABCDEFGHIJKNOPQ":
        assert HOSTILE + letter in text, letter
    assert HOSTILE + "L" in text.replace("</mark>", "")
    assert ("alt", HOSTILE + "M") in reader.attributes
    assert ("title", HOSTILE + "Q") in reader.attributes


def test_plots_of_points_and_intervals_escape(tmp_path):
    page = Page("plots")
    word = HOSTILE[:40]
    page.scatter(word + "A", {word + "B": ((1.0, (0.5, 1.5)), (2.0, (2.0, 2.0)))}, word + "C", word + "D")
    page.intervals(word + "E", [(HOSTILE * 3, 0.5, (0.0, 1.0))], word + "F", reference=0.0)
    reader = Reader(written(page, tmp_path))
    text = "".join(reader.texts)
    assert all(word + letter in text for letter in "ABCDEF") and f"{HOSTILE[:46].rstrip()} …" in text
    assert not {"script", "img"} & set(reader.tags)


def test_the_page_fetches_nothing(tmp_path):
    html = written(full_page(), tmp_path)
    addresses = [value for name, value in Reader(html).attributes if name in ("src", "href", "srcset", "data")]
    assert all(re.match(r"data:image/(png|jpeg);base64,|#", address) for address in addresses)
    assert "url(" not in re.sub(r"url\(#\w+\)", "", html)
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in html
    assert "unsafe" not in html


def test_a_browser_shows_it(tmp_path):
    page = full_page(HOSTILE)
    page.gallery(GalleryItem(Image.new("RGB", (20 + n, 20)), str(n)) for n in range(40))
    found = evaluate(
        page.write(tmp_path / "page.html"),
        """
        const images = [...document.images];
        for (const image of images) image.loading = "eager";  // most are far below the window, and lazy
        await Promise.all(images.map((image) => image.complete || new Promise((resolve) => {
          image.onload = image.onerror = resolve;
        })));
        const style = (selector) => getComputedStyle(document.querySelector(selector));
        const blocked = [];
        const both = new Promise((resolve) => {
          setTimeout(resolve, 30000);  // so that a page which blocks too little fails below
          document.addEventListener("securitypolicyviolation", (event) => {
            if (blocked.push(event.effectiveDirective) == 2) resolve();
          });
        });
        const script = document.createElement("script");
        script.textContent = "hacked = 1";
        const image = document.createElement("img");
        image.src = "https://example.com/x.png";
        document.body.append(script, image);
        await both;
        return {
          widths: images.map((image) => image.naturalWidth),
          title: document.title,
          hacked: "hacked" in window,
          blocked: blocked.sort(),
          bad: style("mark.bad").textDecorationStyle,
          sign: getComputedStyle(document.querySelector("mark.bad"), "::after").content,
          number: style("td.number").textAlign,
          line: [style(".plots .line-0 path").stroke, style(".plots .line-0").color],
          sideways: document.documentElement.scrollWidth > innerWidth,
        };
        """,
    )
    assert found["widths"] == [112, *range(20, 60)]
    assert found["title"] == (HOSTILE + "A").strip()
    assert not found["hacked"]
    assert found["blocked"] == ["img-src", "script-src-elem"]
    assert (found["bad"], found["number"]) == ("wavy", "right")
    assert "✗" in found["sign"]
    assert found["line"][0] == found["line"][1] != "rgb(0, 0, 0)"
    assert not found["sideways"]


def test_light_and_dark(tmp_path):
    path = full_page().write(tmp_path / "page.html")
    corners = []
    for dark in (False, True):
        with Image.open(screenshot(path, tmp_path / f"{dark}.png", width=900, height=1200, dark=dark)) as image:
            assert image.size == (900, 1200)
            assert image.convert("RGB").getpixel((450, 1199)) == image.convert("RGB").getpixel((0, 0))
            corners.append(image.convert("L").getpixel((0, 0)))
            reds = np.asarray(image.convert("RGB")) == (255, 0, 0)
            assert reds.all(axis=-1).sum() > 10_000  # the drawing
    assert corners[0] > 230
    assert corners[1] < 40


def test_equal_pages_are_equal_bytes(tmp_path):
    assert written(full_page(), tmp_path) == written(full_page(), tmp_path)


def test_halves_of_surrogate_pairs_and_control_characters(tmp_path):
    html = written(full_page("half \ud83d, null \x00 "), tmp_path)
    assert "half ?, null" in html


@given(st.text(max_size=30), st.data())
def test_marks_keep_the_text(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    kinds = data.draw(st.lists(st.sampled_from(["bad", "good"]), min_size=3, max_size=3))
    marks = [(start, end, kind) for start, end, kind in zip(cuts[::2], cuts[1::2], kinds, strict=False)]
    page = Page("t")
    page.gallery([GalleryItem(answers=[("label", text, data.draw(st.permutations(marks)))])])
    ((_, segments),) = page._parts[0]["cards"][0]["answers"]
    assert "".join(part for part, _ in segments) == text
    assert [(part, kind) for part, kind in segments if kind] == [
        (text[start:end], kind) for start, end, kind in sorted(marks) if start < end
    ]


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ([(0, 2, "ugly")], "must be 'bad' or 'good', got 'ugly'"),
        ([(0, 9, "bad")], r"\(0, 9\) overlaps another or leaves its text of 6"),
        ([(-1, 2, "bad")], r"\(-1, 2\)"),
        ([(3, 2, "bad")], r"\(3, 2\)"),
        ([(2, 5, "bad"), (0, 3, "good")], r"\(2, 5\) overlaps"),
    ],
)
def test_bad_marks(marks, message):
    with pytest.raises(ValueError, match=message):
        Page("t").gallery([GalleryItem(answers=[("label", "a text", marks)])])


def test_table(tmp_path):
    page = Page("t")
    rows = [
        ["base", 0.123456, 1000, "[−0.1, 0.2]", None, "1"],
        ["aligned", 12.0, -3, "12.5 % ± 3", None, "one"],
    ]
    page.table(list("abcdef"), rows, highlight=[1])
    html = written(page, tmp_path)
    cells = re.findall(r"<td( class=\"number\")?>(.*?)</td>", html)
    assert [text for _, text in cells] == (
        ["base", "0.1235", "1000", "[−0.1, 0.2]", "–", "1"] + ["aligned", "12", "-3", "12.5 % ± 3", "–", "one"]
    )
    assert [bool(number) for number, _ in cells] == [False, True, True, True, False, False] * 2
    assert html.index("base") < html.index('<tr class="highlight">') < html.index("aligned")


def test_a_row_of_another_length():
    with pytest.raises(ValueError, match=r"`rows\[1\]` has 1 cells, but there are 2 `headers`"):
        Page("t").table(["a", "b"], [[1, 2], [3]])


def test_paragraphs(tmp_path):
    page = Page("t")
    page.text("\none\nstill one\n\n \ntwo\n")
    assert "<p>one\nstill one</p>\n<p>two</p>" in written(page, tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_thumbnails_of_any_mode(mode, tmp_path):
    page = Page("t")
    page.gallery([GalleryItem(Image.new(mode, (1000, 500)))])
    assert 'width="256" height="128"' in written(page, tmp_path)


def test_photographs_are_jpeg_and_drawings_png():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    before = noise.copy()
    page = Page("t")
    page.gallery([GalleryItem(noise), GalleryItem(DRAWING)])
    photograph, drawing = (card["pictures"][0]["uri"] for card in page._parts[0]["cards"])
    assert photograph.startswith("data:image/jpeg")
    assert drawing.startswith("data:image/png")
    assert noise == before


def test_a_gallery_does_not_keep_the_images():
    seen = []

    def items():
        for _ in range(10):
            assert sum(image() is not None for image in seen) <= 1  # the card just made
            image = Image.new("RGB", (8, 8))
            seen.append(weakref.ref(image))
            item = GalleryItem(image)
            del image
            yield item
            del item

    Page("t").gallery(items())
    assert len(seen) == 10


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = Page("old").write(tmp_path / "runs" / "page.html")
    before = path.read_bytes()

    def refuse(source, target):
        assert b"new" in source.read_bytes()
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        Page("new").write(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["page.html"]
