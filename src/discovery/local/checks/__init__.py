"""The kinds of checks, one module each, and what drives them."""
