"""Models on disk: found, loaded, polled, unloaded."""
