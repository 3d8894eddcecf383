"""What every room knows: errors, trees, taps, means, durations, keys."""
