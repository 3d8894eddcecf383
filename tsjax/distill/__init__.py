"""Who is teacher and who is student: forwards, terms, transfer, interpolation."""
