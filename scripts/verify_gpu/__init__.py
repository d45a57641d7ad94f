"""Parts of scripts/verify-gpu: a load of known shape, `evalmon sample` and nvidia-smi beside it, a comparison."""
