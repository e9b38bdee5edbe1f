"""Analysis: pure functions from tidy tables to frozen results, and figures from results."""
