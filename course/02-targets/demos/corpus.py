from gpt.data import Corpus

corpus = Corpus("data/shakespeare.txt")
print(f"{len(corpus.train):,} tokens, which begin:")
print(corpus.tokenizer.decode(corpus.train[:91]))
