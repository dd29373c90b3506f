"""What a user names on the command line → images, one after the other."""
