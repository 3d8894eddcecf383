"""What a run came to, told to a reader: figures and the page."""
