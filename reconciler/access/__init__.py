"""The tokens with which the Admin API is asked: where they come from, and for how long they're good.

`Access` is what the rest of the reconciler uses; `source.Source` is what a new origin of tokens has to be.
"""
