import tempfile
from pathlib import Path

from gpt.config import UserError
from gpt.runlog import locked

with tempfile.TemporaryDirectory() as runs:
    run = Path(runs) / "mine"
    with locked(run, True):
        print("this process trains the run; now another one tries to:")
        try:
            with locked(run, True):
                print("it does")
        except UserError as error:
            print(str(error).replace(runs, "runs"))
    with locked(run, True):
        print("the first one has ended, and the other one may")
