from gpt.data import Batches, Corpus

corpus = Corpus("data/shakespeare.txt")
x, y = Batches(corpus.train, context=8)(first=0, count=2)
print("inputs", tuple(x.shape), "targets", tuple(y.shape), "of type", x.dtype)
print("\n   what the model reads -> what comes next")
for i in range(8):
    read = corpus.tokenizer.decode(x[0, : i + 1].tolist())
    print(f"{read!r:>23} -> {corpus.tokenizer.decode([y[0, i].item()])!r}")
