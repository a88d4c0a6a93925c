"""Our models against Hugging Face's: the configurations compared, the comparison, and the page that reports it."""
