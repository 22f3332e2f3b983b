import torch

grades = torch.tensor([[1, 2, 3], [4, 5, 6]])
print(tuple(grades.shape), "+ (3,) =", (grades + torch.tensor([10, 20, 30])).tolist())
print(tuple(grades.shape), "+ (2, 1) =", (grades + torch.tensor([[10], [20]])).tolist())

guesses, truth = torch.tensor([[1], [2], [3]]), torch.tensor([1, 2, 3])
print("(3, 1) - (3,) =", (guesses - truth).tolist(), "where three zeros were meant")
