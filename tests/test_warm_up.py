"""The warm-up: its answers are what PyTorch says, its outputs what its scripts print."""

import subprocess
import sys

import pytest
import torch

from buildgpt.course import prose, warm_up
from buildgpt.course.series import COURSE

QUESTIONS = warm_up.questions(COURSE)
W = torch.tensor(3.0, requires_grad=True)
# What the questions describe, done.
BY_TORCH = {
    "shapes": lambda: torch.zeros(5, 8, 3)[0].shape,
    "products": lambda: (torch.zeros(2, 7, 4) @ torch.zeros(4, 9)).shape,
    "broadcasting": lambda: (torch.zeros(6, 1) + torch.zeros(6)).shape,
    "reshaping": lambda: torch.zeros(5, 12).view(5, 3, 4).transpose(0, 1).shape,
    "gradients": lambda: [(W * W).backward(), (W * W).backward(), W.grad.item()][2:],
}


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked.part)
def test_answers_are_what_pytorch_says(asked):
    assert asked.answer == list(BY_TORCH[asked.part]())


def test_each_part_has_its_question_its_script_and_its_words():
    names = [asked.part for asked in QUESTIONS]
    assert names == [*warm_up.demos(COURSE)] == [*BY_TORCH]
    assert [*warm_up.parts(COURSE)] == ["", *names, "end"]


@pytest.mark.parametrize("name", BY_TORCH)
def test_what_is_shown_is_what_a_script_prints(name):
    words, run = warm_up.part(COURSE, name)
    done = subprocess.run([sys.executable, "-c", run.text], capture_output=True, encoding="utf-8")
    assert (done.stderr, done.stdout) == ("", run.output)
    assert run.output == prose.records(COURSE)["outputs"][f"warm-up/{name}"]
    assert len(words.text) > 100


@pytest.mark.parametrize(
    ("said", "right"),
    [("8, 3", True), ("(8,3)", True), ("8 x 3", True), ("3, 8", False), ("8", False), ("", False)],
)
def test_an_answer_may_be_written_in_any_way(said, right):
    assert QUESTIONS[0].is_right(said) == right


def test_who_knows_everything_is_sent_to_lesson_1_and_who_does_not_to_a_part(say, monkeypatch):
    def answer(*said: str) -> str:
        waiting = iter(said)
        monkeypatch.setattr("typer.prompt", lambda *_, **__: next(waiting))
        return " ".join(say("course", "warm-up").out.split())

    right = [asked.shown for asked in QUESTIONS]
    assert "begin with lesson 1. buildgpt course start my-gpt" in answer(*right)
    told = answer(*right[:2], "6", *right[3:])
    assert "No, it is (6, 6)." in told
    assert "course warm-up broadcasting" in told
    assert "course warm-up shapes" not in told


def test_a_part_is_shown_and_an_unknown_one_told(say):
    assert "where three zeros were meant" in say("course", "warm-up", "broadcasting").out
    said = say("course", "warm-up", "shape")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "no part 'shape'; it has: shapes, products" in said.err


@pytest.mark.parametrize("word", ["0", "00", "warm-up"])
def test_lesson_0_is_the_warm_up(say, tmp_path, word):
    said = say("course", "start", tmp_path / "mine", "--at", word)
    assert said.status == 2
    assert "lesson 0 is the warm-up" in said.err and "buildgpt course warm-up" in said.err
    assert not (tmp_path / "mine").exists()
