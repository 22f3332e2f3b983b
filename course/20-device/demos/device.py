from gpt.runtime import choose_device

for wish in ("auto", "cpu", "tpu"):
    try:
        print(f"{wish}: {choose_device(wish)}")
    except Exception as error:
        print(f"{wish}: {error}")
