"""Teachers and students: forwards, terms, transfer, interpolation."""
