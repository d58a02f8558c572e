"""Masks, reports, questions, tables, downloads: what stands below the answer and in the tabs."""

import json
from html.parser import HTMLParser
from pathlib import Path

from mmmed_demo.screenshots import switch_off
from playwright.sync_api import expect

NOTICE = "Research use only. Not a medical device."
AREA = ".mm-masks-picture path"
HOSTILE = "<img src=x onerror=window.hit=1><script>window.hit=1</script>${window.hit=1}{{window.hit=1}}"


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def ask(page, phrase):
    page.locator("#phrase").get_by_role("textbox").fill(phrase)
    page.locator("#phrase").get_by_role("textbox").press("Enter")


def write(page):
    page.locator("#write").click()
    page.locator("#sentences .mm-report").wait_for()


def taken(page, button):
    """The text of a file that a button lets the visitor take away, and its name."""
    with page.expect_download() as coming:
        page.locator(button).click()
    return Path(coming.value.path()).read_text(encoding="utf-8"), coming.value.suggested_filename


def test_a_phrase_gives_a_mask_or_the_words_that_there_is_no_such_thing(page, picture):
    ask(page, "the nodule on the left")
    page.locator(f"#masks {AREA}").first.wait_for()
    assert "Found: the nodule on the left" in page.locator("#masks").inner_text()
    page.locator("#masks").scroll_into_view_if_needed()
    picture(page, "mask")
    page.get_by_label("number input for Counts as there").fill("0.95")
    ask(page, "the nodule on the left")
    expect(page.locator("#masks")).to_contain_text("Nothing was found, which says little")
    assert page.locator(f"#masks {AREA}").count() == 0
    ask(page, " ")
    expect(page.locator("#problem [role=alert]")).to_contain_text("Type what to look for")


def test_one_of_the_suggested_phrases_is_looked_for_when_it_is_chosen(page):
    first = page.locator("#suggested label").first
    first.click()
    expect(page.locator("#masks")).to_contain_text(first.inner_text().strip())


def test_the_pixels_that_moved_the_answer_are_shown_and_without_a_picture_that_is_said(page):
    page.locator("#mark").click()
    page.locator("#heat :is(svg, img)").first.wait_for()
    switch_off(page, "image")
    page.locator("#mark").click()
    expect(page.locator("#heat")).to_contain_text("no picture among the inputs")


def test_a_report_has_sentences_and_a_click_on_one_shows_its_mask(page, picture):
    switch_off(page, "table")
    switch_off(page, "text")  # what is said now can rest on the picture alone
    write(page)
    lines = page.locator("#sentences button[data-sentence]")
    assert lines.count() > 0
    assert NOTICE in page.locator("#sentences").inner_text()
    lines.first.click()
    page.locator(f"#where {AREA}").first.wait_for()
    expect(lines.first).to_have_attribute("aria-pressed", "true")
    page.locator("#write").scroll_into_view_if_needed()
    picture(page, "report")
    switch_off(page, "image")
    expect(page.locator("#stale")).to_contain_text("This report was written with: image")
    write(page)
    expect(page.locator("#stale")).to_be_hidden()


def test_a_question_is_answered(page):
    box = page.locator("#question").get_by_role("textbox")
    box.fill("Is there a nodule?")
    page.locator("#question").get_by_role("button").click()
    expect(page.locator("#answer .mm-question")).to_have_text("Is there a nodule?")
    assert NOTICE in page.locator("#answer").inner_text()


def test_the_tabs_show_the_stress_table_and_both_cards(page, picture):
    page.get_by_role("tab", name="Stress test").click()
    table = page.locator("#stress-table table")
    table.wait_for()
    assert table.locator("tbody tr").count() > 7  # seven subsets of three inputs, and the ways to lose them
    assert "AUROC" in table.inner_text()
    picture(page, "stress")
    page.get_by_role("tab", name="Model card").click()
    page.locator("#model-card-text table").first.wait_for()
    page.get_by_role("tab", name="Data card").click()
    page.locator("#data-card-text h2").first.wait_for()
    wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner


def test_both_downloads_arrive_and_hold_what_the_page_shows(page):
    answer = page.locator("#headline b").inner_text()
    ask(page, "the nodule on the left")
    page.locator(f"#masks {AREA}").first.wait_for()
    text, name = taken(page, "#save-json")
    facts = json.loads(text)
    assert (name, facts["notice"]) == ("mmmed-record.json", NOTICE)
    assert facts["switches"] == {"image": True, "table": True, "text": True}
    assert len(facts["masks"]) == 1
    told, name = taken(page, "#save-page")
    assert name == "mmmed-record.html"
    assert NOTICE in told
    assert answer in told.replace("\u00a0", " ")
    check_quiet(told)


def check_quiet(told):
    """A page that runs nothing and asks nobody."""
    elements = Elements(told).found
    assert not [tag for tag, _ in elements if tag in ("script", "link", "iframe", "object", "form")]
    for _, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")]
        address = attributes.get("src") or attributes.get("href") or ""
        assert address.startswith(("data:", "#")) or not address


def test_hostile_text_never_runs_wherever_it_is_typed(page):
    page.locator("#text-2 textarea").fill(f"Nodule. {HOSTILE}")
    switch_off(page, "table")
    ask(page, HOSTILE)
    expect(page.locator("#masks")).to_contain_text("window.hit")
    write(page)
    page.locator("#sentences button[data-sentence]").first.click()
    page.locator("#where .mm-masks").wait_for()
    page.locator("#question").get_by_role("textbox").fill(HOSTILE)
    page.locator("#question").get_by_role("button").click()
    expect(page.locator("#answer")).to_contain_text("window.hit")
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x]").count() == 0
    told, _ = taken(page, "#save-page")
    assert "window.hit" in told
    check_quiet(told)


def test_no_file_of_the_machine_is_given_away(browser, site):
    context = browser.new_context()
    for place in ("/etc/passwd", "../../../etc/passwd", "https://example.org/", "page.log"):
        reply = context.request.get(f"{site[0]}/gradio_api/file={place}")
        assert reply.status in (403, 404), place
        assert "root:" not in reply.text()
    context.close()


def test_nothing_unforeseen_happened_in_the_server(site):
    """The last of this file: what the page hides from its visitors stands in the log."""
    assert "Traceback" not in site[1].read_text(errors="replace")
