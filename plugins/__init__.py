"""Layer-2 plugins, each a self-contained project that imports the SDK and nothing of ours."""
