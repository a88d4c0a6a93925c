"""The Samples page: every recorded item with its prompt, output and verdict, of one run or of two side by side."""
