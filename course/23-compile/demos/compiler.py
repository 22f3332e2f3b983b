import torch

from gpt.config import RuntimeConfig
from gpt.runtime import choose_compile, compiler_missing, start_runtime

cpu = torch.device("cpu")
print(f"missing here: {compiler_missing(cpu) or 'nothing'}")
for wish in ("auto", "on", "off"):
    for device in (cpu, torch.device("cuda")):
        print(f"{wish} on {device}: {choose_compile(wish, device)}")
print(f"this machine compiles: {start_runtime(RuntimeConfig()).compile}")
