"""What a study is: its file, the checks on it, and its options."""
