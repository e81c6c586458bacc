"""Every setting, once, and what is built of it."""
