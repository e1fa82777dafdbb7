"""Scores of fixed label lists by scikit-learn; prints the numbers tests/eval/test_score.c expects."""
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from statsmodels.stats.proportion import proportion_confint

truth, said, state = [], [], 12345
for i in range(200):
    state = (state * 1103515245 + 12345) % 2**31
    truth.append(state // 65536 % 4)
    state = (state * 1103515245 + 12345) % 2**31
    said.append(truth[-1] if state // 65536 % 3 else state // 1048576 % 4)
print(balanced_accuracy_score(truth, said), accuracy_score(truth, said), f1_score(truth, said, average="macro"))
print(proportion_confint(150, 200, method="wilson"))
