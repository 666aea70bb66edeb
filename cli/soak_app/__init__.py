"""What `hooktape soak` runs in its workers: an app like any user's."""
