"""What was found in frames → files that people and other tools read."""
