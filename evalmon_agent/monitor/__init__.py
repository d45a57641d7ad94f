"""One poll: ask, fold, log, measure, finish."""
