"""Which requests an instance executes next: default, dynamic and sequence schedulers."""
