from gpt.tokenizer import join

ids = list(b"the thaw there")
print(ids)
ids = join(ids, (116, 104), 256)
print(ids, "256 is now th")
ids = join(ids, (256, 101), 257)
print(ids, "257 is now the")
print(join(list(b"aaaaa"), (97, 97), 256), "of five a")
