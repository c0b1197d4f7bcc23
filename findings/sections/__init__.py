"""The findings, one module each: its title, and its text with the numbers from records."""
