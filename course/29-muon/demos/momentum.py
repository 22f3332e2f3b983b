from gpt.optim import momentum

for steps, every in ((2000, 125), (100, 10)):
    print(f"a run of {steps} steps")
    for step in range(0, steps + 1, every):
        heavy = momentum(step, steps)
        print(f"{step:5} {heavy:.3f} " + "#" * round(300 * (heavy - 0.8)))
