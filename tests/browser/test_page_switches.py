"""Take something away and watch the answer move: by mouse, by keyboard, on a phone, in the dark."""

import re

import pytest
from mmmed_demo.screenshots import PHONE, choose, opened, switch_off

PERCENT = re.compile(r"[<>]?\s?\d+ %")
ROWS = "#panel-path .mm-path .mm-row .mm-label"
IS_IN = "selector => !!document.activeElement.closest(selector)"


def shown(page):
    """The answer in the bar, such as "34 %"."""
    return page.locator("#headline b").inner_text()


def tab_to(page, selector):
    """Press Tab until what is in focus lies there."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(IS_IN, selector):
            return
    pytest.fail(f"Tab never comes to {selector}")


@pytest.mark.parametrize("size", [{"width": 1366, "height": 900}, PHONE], ids=["desktop", "phone"])
def test_the_page_opens_with_a_patient_and_nothing_to_scroll_sideways(visit, picture, size):
    page = visit(viewport=size)
    assert page.get_by_role("radio", name="complete", exact=True).is_checked()
    assert PERCENT.fullmatch(shown(page))
    assert page.get_by_text("Research use only. Not a medical device.").first.is_visible()
    wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner
    picture(page, "desktop" if size["width"] > 1000 else "phone")
    page.evaluate("scrollTo(0, document.querySelector('#box-path').getBoundingClientRect().top + scrollY)")
    page.wait_for_function("scrollY > 300")
    assert page.locator("#bar").bounding_box()["y"] == pytest.approx(0, abs=2)  # the switches stay in sight


def test_what_is_switched_off_leaves_the_answer_the_path_and_the_list_of_what_is_used(page, picture):
    whole = shown(page)
    switch_off(page, "image")
    assert "image\nabsent" in page.locator("#panel-risk .mm-chips").inner_text()
    row = page.locator("#panel-path .mm-absent").first
    assert re.search(r"image\s+absent", row.inner_text())
    assert "points" in page.locator("#headline").inner_text()
    assert shown(page) == page.locator("#panel-risk .mm-big").inner_text() != whole
    assert f"was {whole}" in page.locator("#panel-risk").inner_text()
    assert "taken away" in page.locator("#state-0").inner_text()
    picture(page, "switched_off")
    page.get_by_label("with image", exact=True).check()
    page.locator("#panel-path .mm-absent").first.wait_for(state="detached")
    assert shown(page) == whole


def test_with_everything_off_the_answer_is_that_of_nothing_known_and_says_so(page):
    start = page.locator("#panel-path .mm-value").first.inner_text()
    for name in ("image", "table", "text"):
        switch_off(page, name)
        page.wait_for_function(
            "name => [...document.querySelectorAll('#panel-risk .mm-chip-absent')]"
            ".some(chip => chip.innerText.includes(name))", arg=name,
        )  # fmt: skip
    assert shown(page) == start
    assert "Nothing is known of this patient" in page.locator("#panel-path").inner_text()
    assert page.locator("#panel-path .mm-absent").count() == 3


def test_everything_works_with_the_keyboard_alone_and_the_focus_is_seen(page):
    tab_to(page, "#switch-0")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline not in ("none", "")
    page.keyboard.press("Space")
    page.locator("#panel-path .mm-absent").first.wait_for()
    page.keyboard.press("Space")
    page.locator("#panel-path .mm-absent").first.wait_for(state="detached")
    assert "+ image" in page.locator(ROWS).nth(1).inner_text().replace("\u2009", " ")
    tab_to(page, "#order")
    page.keyboard.press("End")
    page.wait_for_function("rows => document.querySelectorAll(rows)[3].innerText.includes('image')", arg=ROWS)
    assert page.locator("#order li").all_inner_texts()[-1].startswith("image")
    assert page.evaluate(IS_IN, "#order li")  # the chip that moved keeps the focus


def test_another_example_is_another_patient(page):
    first, note = shown(page), page.locator("#text-2 textarea").input_value()
    choose(page, "no image")
    page.locator("#panel-path .mm-absent").first.wait_for()
    assert page.locator("#text-2 textarea").input_value() != note
    assert not page.get_by_label("with image", exact=True).is_checked()
    choose(page, "complete")
    page.locator("#panel-path .mm-absent").first.wait_for(state="detached")
    assert (shown(page), page.locator("#text-2 textarea").input_value()) == (first, note)


def test_two_visitors_do_not_see_each_other(visit, site):
    one, other = visit(), visit()
    before, note = shown(other), other.locator("#text-2 textarea").input_value()
    one.locator("#text-2 textarea").fill("A secret of the first visitor.")
    switch_off(one, "image")
    switch_off(other, "table")
    assert other.locator("#text-2 textarea").input_value() == note
    assert "secret" not in other.content()
    assert other.locator("#panel-path .mm-absent").count() == 1  # the table, not the image
    assert other.get_by_label("with image", exact=True).is_checked()
    third = opened(other.context, site[0])  # the same browser, once more: nothing is kept
    assert shown(third) == before
    assert "secret" not in third.content()


def test_the_dark_page_is_dark_and_its_words_are_light(visit, picture):
    page = visit("?__theme=dark", color_scheme="dark")
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('#panel-path .mm-finding')).color]"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ground, ink)]
    assert brightness[0] < 120
    assert brightness[1] > 500
    picture(page, "dark")


def test_whoever_cannot_see_the_page_is_told_everything(page):
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, textarea, select, button')].filter(one =>
            one.offsetParent && !one.labels?.length && !one.getAttribute('aria-label')
            && !one.getAttribute('aria-labelledby') && !one.title && !one.innerText.trim()
        ).map(one => one.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("h1").count() == 1
    assert page.locator("#answers svg[role=img]:not([aria-label])").count() == 0
    assert page.locator("#answers svg[role=img]").count() > 3
    assert page.locator("#headline [aria-live]").count() == 1
    assert page.evaluate("document.documentElement.lang") != ""
