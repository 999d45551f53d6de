"""Programs that use exraft, each to be run by itself: `python examples/kv_store.py`."""
