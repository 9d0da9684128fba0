"""Where spans go: one module each, of which a program loads what it uses."""
