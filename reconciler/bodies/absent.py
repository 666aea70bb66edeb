"""What real webhooks have and the bodies built here don't."""
