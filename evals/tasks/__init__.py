"""lm-eval task files and, beside them, the functions they name. They read no model and keep no state."""
