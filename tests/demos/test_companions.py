"""What is learned beside the page: in order, once, at low priority, said in words, ended with the page."""

import json
import os
import subprocess
import sys
import time

import pytest
from mmmed_demo import companions as learning
from mmmed_demo.companions import Companions, Lesson, claim, end, progress, start_child

LESSON = Lesson("reports", "report", "write", 60, {"findings": 3, "align": 2}, 100)
SLEEPS = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


def wrote(folder, *lines):
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def epoch(stage, seconds=60.0):
    return {"stage": stage, "seconds": seconds}


def test_the_sentence_says_how_far_it_is_and_how_long_it_takes(tmp_path):
    assert progress(LESSON, tmp_path / "none") == "Learning to write: just begun. About 2 minutes to go."
    some = wrote(tmp_path, epoch("findings"), epoch("findings"))
    # one more of a minute, and two of a later stage at twice the mean of all: 60 + 2 * 40 s
    assert progress(LESSON, some) == "Learning to write: epoch 3 of 5 (findings). About 2 minutes to go."
    later = wrote(tmp_path, *[epoch("findings", 1)] * 3, epoch("align", 20))
    assert progress(LESSON, later) == "Learning to write: epoch 5 of 5 (align). Less than a minute to go."
    done = wrote(tmp_path, *[epoch("findings")] * 3, *[epoch("align")] * 2)
    assert "all 5 epochs are done" in progress(LESSON, done)


def test_a_half_written_file_is_no_progress(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "findings", "sec')
    assert "just begun" in progress(LESSON, path)


def test_the_child_is_the_command_that_a_reader_can_run(tmp_path):
    words = learning.LESSONS[0].command(tmp_path)
    assert words[:6] == [sys.executable, "-m", "mmmed", "finetune", "synthetic", "--task"]
    assert all(lesson.patients <= 2800 for lesson in learning.LESSONS)


def fake(monkeypatch, code):
    """Children that write a model and end with `code`; -> the names of those that were started."""
    started = []

    def command(self, folder):
        started.append(self.name)
        text = f"import pathlib; p = pathlib.Path({str(folder)!r}, 'model'); p.mkdir(parents=True)"
        made = f"{text}; (p / 'config.json').write_text('x')" if code == 0 else f"raise SystemExit({code})"
        return [sys.executable, "-S", "-c", made]

    monkeypatch.setattr(Lesson, "command", command)
    return started


def settled(companions):
    companions._thread.join(20)
    return companions


def test_what_is_missing_is_learned_in_order_and_what_is_there_is_not(tmp_path, monkeypatch):
    lessons = [Lesson(name, "report", "write", 1, {None: 1}, 1) for name in ("first", "second", "third")]
    started = fake(monkeypatch, 0)
    (tmp_path / "second" / "model").mkdir(parents=True)
    (tmp_path / "second" / "model" / "config.json").write_text("x")
    companions = settled(Companions(lessons, tmp_path).start())
    assert started == ["first", "third"]
    assert companions.status() == ""
    companions.close()


def test_something_is_said_from_the_first_moment_until_nothing_is_left(tmp_path, monkeypatch):
    fake(monkeypatch, 2)
    monkeypatch.setattr(learning.threading.Thread, "start", lambda self: None)  # it has not come to it yet
    companions = Companions([LESSON], tmp_path)
    assert (companions.busy, companions.status()) == (False, "")
    companions.start()
    assert companions.busy
    assert "Learning to write: just begun" in companions.status()
    companions._learn_all()
    companions._thread = None
    companions.close()
    assert not companions.busy, "a failure is told, and nothing is waited for"
    assert "failed" in companions.status()


def test_how_to_get_a_model_by_hand_is_what_is_trained_beside_the_page():
    for lesson, words in zip(learning.LESSONS, learning.HOW_TO_GET.values(), strict=True):
        assert f"--task {lesson.task} " in words
        assert all(option in words for option in lesson.more)
        assert words.endswith(f"-o runs/{lesson.name}")


def test_a_lesson_that_fails_is_said_to_have_failed(tmp_path, monkeypatch):
    fake(monkeypatch, 2)
    companions = settled(Companions([LESSON], tmp_path).start())
    assert companions.status() == "Learning to write failed. reports.log, beside its run, says why."
    companions.close()


def test_closing_the_page_ends_the_child_and_starts_no_other(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(Lesson, "command", lambda self, folder: started.append(self.name) or SLEEPS)
    companions = Companions([LESSON, Lesson("masks", "segment", "draw", 1, {None: 1}, 1)], tmp_path).start()
    until(lambda: companions._child is not None)
    assert "Learning to write: just begun" in companions.status()
    companions.close()
    assert companions._child.poll() is not None
    assert started == ["reports"]


def until(condition, seconds=20):
    end_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_at, "it never came true"
        time.sleep(0.01)


@pytest.mark.skipif(os.name != "posix", reason="priorities and locks of files are those of POSIX")
def test_a_child_is_of_low_priority_and_holds_the_lock_as_long_as_it_lives(tmp_path):
    with (tmp_path / "log").open("ab") as log, (tmp_path / "lock").open("a") as lock:
        assert claim(lock)
        child = start_child(SLEEPS, log, lock)
    try:
        assert os.getpriority(os.PRIO_PROCESS, child.pid) >= learning.PRIORITY
        with (tmp_path / "lock").open("a") as again:
            assert not claim(again), "the page has closed the file, the child has not"
    finally:
        end(child)
    with (tmp_path / "lock").open("a") as again:
        assert claim(again)


def test_a_child_that_does_not_end_is_made_to(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "PATIENCE", 0.2)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-S", "-c", deaf], stdout=subprocess.PIPE)
    with child:
        child.stdout.readline()
        end(child)
    assert child.returncode is not None
