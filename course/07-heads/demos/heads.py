from gpt.config import ModelConfig

for heads in (1, 4, 5):
    try:
        config = ModelConfig(heads=heads)
        print(f"{config.heads} heads of width {config.width // config.heads}")
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
