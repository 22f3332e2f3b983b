from gpt import hub

for ours, theirs in hub.NAMES.items():
    print(f"{ours:26} {theirs}")
print("sizes:", ", ".join(f"{ours} is {theirs}" for ours, theirs in hub.SIZE_NAMES.items()))
