from gpt.tokenizer import PairCounts

words, counts = ["low", "lower", "newest", "widest"], [5, 2, 6, 3]
learner = PairCounts([list(word.encode()) for word in words], counts)
pieces = [bytes([i]) for i in range(256)]
while (pair := learner.most_frequent()) and len(pieces) < 260:
    pieces.append(pieces[pair[0]] + pieces[pair[1]])
    print(f"{pieces[pair[0]]} and {pieces[pair[1]]} become {len(pieces) - 1}, {pieces[-1]}")
    learner.merge(pair, len(pieces) - 1)
for word, count in zip(learner.words, counts):
    print(f"{count} times {[pieces[i].decode() for i in word]}")
