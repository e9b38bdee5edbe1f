"""What a study is: its file, checked, and the options that it holds."""
