from gpt.data import HEADER_BYTES, MAGIC, TOKEN, check_vocabulary

print(
    f"{HEADER_BYTES} bytes of header, which begin with {MAGIC}; then {TOKEN.itemsize} bytes a token"
)
for vocabulary in (50_257, 100_277):
    try:
        check_vocabulary(vocabulary)
        print(f"a vocabulary of {vocabulary:,} fits")
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
