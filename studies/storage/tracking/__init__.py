"""MLflow: what is recorded there, and how it is delivered exactly once."""
