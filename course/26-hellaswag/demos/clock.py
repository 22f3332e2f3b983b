import time

from gpt.runlog import Clock

clock = Clock(time.monotonic(), 100.0, 20)
for step, seconds in ((21, 0.3), (22, 0.05), (23, 0.05), (24, 0.05)):
    began = time.monotonic()
    time.sleep(seconds)  # an update; the first one compiles
    clock.count(step, 1024, began)
    time.sleep(0.1)  # an evaluation
print(f"the run has taken {clock.seconds():.0f} seconds, of which 100 in an attempt before")
print(f"tokens a second of training: about {round(clock.speed(), -4):,.0f}")
print(f"the slowest update took {clock.step_seconds()['slowest_step_seconds']:.1f} s")
