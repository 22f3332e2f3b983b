from gpt.data import check_vocabulary, header

found = header(3)
print(len(found), "bytes, which begin with", found[:12].hex(" ", 4))
print("as numbers:", *(int.from_bytes(found[i : i + 4], "little") for i in range(0, 12, 4)))
try:
    check_vocabulary(100_277)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
