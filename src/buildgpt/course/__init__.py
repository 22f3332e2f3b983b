"""The course: hands out the lessons that build the core, and checks a learner's own code.

patches.py   unified diffs, applied to a tree of texts, without git
series.py    lessons and their steps; the tree after any of them
prose.py     a lesson's words, with code by symbol and recorded figures put in
checking.py  what a lesson's checks.py is written with
runner.py    checks in a process of its own
own.py       a learner's package in the real tools: --code
folder.py    a learner's folder: where they are, what is kept for them
verbs.py     start, next, check, ...: what each command does
trying.py    a lesson's script with a learner's code, in a process of its own
curves.py    a loss over the band of several seeds: course curve
gallery.py   one prompt, continued by each lesson's model: course gallery
zoo.py       real bugs of known projects, put into a copy: course bug
show.py      all of that on a terminal
commands.py  `buildgpt course`, thin
"""
