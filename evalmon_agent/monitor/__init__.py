"""One poll: asked, folded, logged, measured, brought to the end."""
